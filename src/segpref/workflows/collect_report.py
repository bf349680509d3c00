"""What people said in a study of votes, in one call."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpref.collect import DATABASE, Contents, StudyFolder, VoteRow, VoteStore, comparisons_of
from segpref.data.cache import write_atomically
from segpref.folder_kinds import refuse_other_kind
from segpref.report import Page, write_page
from segpref.report.collect_data import CollectFigures, collect_figures
from segpref.report.collect_files import collect_json, raters_csv, strengths_csv
from segpref.report.collect_more import Precision, precision_of_models, precision_of_raters
from segpref.report.collect_page import votes_page
from segpref.targets import check_outputs
from segpref.types import SegprefError
from segpref.workflows.collect_scores import scores_of_judges
from segpref.workflows.options import DataOptions, TrainedModel, Trust
from segpref.workflows.runs import chosen

__all__ = ["CollectReport", "report_study"]


@dataclass(frozen=True)
class CollectReport:
    """A report that was written.

    Args:
        figures: what the votes show.
        precision: what more votes would bring.
        page: the report as it was written.
        folder: where it is.
    """

    figures: CollectFigures
    precision: tuple[Precision, ...]
    page: Page
    folder: Path


def report_study(
    study: Path | str,
    *,
    database: str | Path | None = None,
    out: Path | str | None = None,
    judges: Sequence[Any] = (),
    data: Path | str | None = None,
    resamples: int = 1000,
    **options: Any,
) -> CollectReport:
    """Write who said what in a study, how reliably, and what it says about masks and judges.

    The votes are read as they are at one moment; the server may run meanwhile. ``report.html``,
    ``report.json``, ``raters.csv`` and ``strengths.csv`` name raters by their pseudonyms, and no
    patient.

    Args:
        study: folder of the study.
        database: where its votes are, if not in the folder: a file or a URL.
        out: folder for the report; that of the study where None.
        judges: automatic judges, named as for ``align``, that raters are compared with besides the
            judge that the study was made with.
        data: folder of the dataset that the study is made of, which these judges need.
        resamples: how often images and patients are drawn for intervals.
        options: fields of ``DataOptions`` and ``TrainedModel``.

    Raises:
        SegprefError: no study there, no database, or nowhere to write.
    """
    study = Path(study).expanduser()
    check_outputs(folders=[None if out is None else Path(out), options.get("cache")])
    if out is not None and Path(out).resolve() != study.resolve():
        refuse_other_kind(Path(out), None)
    if not study.is_dir():
        raise SegprefError(
            f"there is no folder {study}: give the folder that segpref collect init made"
        )
    folder = study if out is None else Path(out)
    check_outputs(folders=[folder])
    votes = study / DATABASE if database is None else database
    if database is None and not (study / DATABASE).exists():
        StudyFolder(study)  # a folder without a study is another mistake than one without votes
    with VoteStore(votes) as store:
        contents, rows = store.contents(), list(store.votes())
    scores = None
    if judges:
        if data is None:
            raise SegprefError("judges score the images of a dataset: give it as --data")
        where, opening, _ = chosen(options, DataOptions(), TrainedModel(), Trust())
        scores = scores_of_judges(StudyFolder(study), contents, judges, data, where, opening)
    figures = collect_figures(rows, scores=scores, wanted=_wanted(contents), resamples=resamples)
    precision = _precision(figures, rows)
    page = votes_page(figures, precision, lead=_lead(contents))
    folder.mkdir(parents=True, exist_ok=True)
    write_page(folder / "report.html", page)
    content = json.dumps(collect_json(figures, precision), indent=1, ensure_ascii=False)
    write_atomically(folder / "report.json", content.encode())
    write_atomically(folder / "raters.csv", raters_csv(figures).encode())
    write_atomically(folder / "strengths.csv", strengths_csv(figures).encode())
    return CollectReport(figures, precision, page, folder)


def _wanted(contents: Contents) -> int:
    return sum(pair.votes for pair in contents.pairs if pair.use == "normal")


def _lead(contents: Contents) -> str:
    asked = Counter(pair.mode for pair in contents.pairs if pair.use == "normal")
    told = ", ".join(f"{count} {mode.replace('-', ' ')}" for mode, count in asked.items())
    return f"A study of votes that asks {told} {'question' if asked.total() == 1 else 'questions'}."


def _precision(figures: CollectFigures, rows: list[VoteRow]) -> tuple[Precision, ...]:
    """Of the raters, and of the two models or families that matter most."""
    if not figures.votes:
        return ()
    found = [precision_of_raters(figures.ratings)]
    name = "models" if figures.models is not None else "families"
    model = figures.models if figures.models is not None else figures.families
    if figures.preferred is not None:
        name, model = "families", figures.families
    if model is not None and len(model.strength) > 1:
        counted = [row for row in rows if row.counts and row.choice != "undo"]
        compared = comparisons_of(
            counted,
            (lambda mask: mask.model[:8] or "unknown")
            if name == "models"
            else lambda mask: mask.family,
        )
        often = Counter(frozenset((one.first, one.second)) for one in compared)
        pairs = [(pair, count) for pair, count in often.most_common() if len(pair) == 2]
        if pairs:
            first, second = sorted(pairs[0][0], key=lambda one: -model.strength[one].value)
            if figures.preferred is not None and {first, second} == {"base", "tuned"}:
                first, second = "tuned", "base"
            found.append(precision_of_models(compared, first, second))
    return tuple(found)
