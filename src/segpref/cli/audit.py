"""`segpref audit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from segpref.cluster import RayPool
from segpref.judges import NamedJudge
from segpref.progress import stdout
from segpref.studies.audit_report import (
    FAMILY_COLUMNS,
    FLIP_COLUMNS,
    JUDGE_FIGURES,
    STRUCTURE_COLUMNS,
    audit_verdict,
    family_rows,
    flip_rows,
    labels_advice,
    own_masks_verdict,
    structure_rows,
)
from segpref.studies.auditing import Audit
from segpref.workflows import audit as run
from segpref.workflows.options import DataOptions, TrainedModel

__all__ = ["EXAMPLES", "audit"]

EXAMPLES = """\
  segpref audit --data DATA --model runs/base --judge runs/judge
  segpref audit --data DATA --model NNUNET/fold_0 --judge MASKS --trust --report audit.html
  segpref audit --data DATA --model runs/base --judge "[runs/judge, MASKS]" --candidates 8
  segpref audit --data DATA --model runs/base --judge runs/judge --ray auto
  segpref audit --data DATA --votes study
"""


def audit(
    data: Path,
    settings: dict[str, Any],
    where: DataOptions,
    opening: TrainedModel,
    pool: RayPool,
    model: Path | None = None,
    judge: NamedJudge | list[str] | str | None = None,
    votes: list[Path] | Path | None = None,
    database: str | None = None,
    part: str = "validation",
    miner: Callable[[Any, Any], Any] | None = None,
    candidates: int = 32,
    families: list[Callable[[Any], Any]] | Literal["auto", "lean", "paper"] = "auto",
    others: list[Path] | None = None,
    seed: int = 0,
    out: Path | None = None,
    report: Path | None = None,
) -> None:
    """Measure the judge and the slates on labelled cases, before anything is trained.

    Args:
        data: folder of the dataset.
        settings: the resolved options.
        where: data, split and cache.
        opening: what may be opened.
        pool: whose workers make the slates.
        model: model file or run folder of segpref, trained nnU-Net folder (or one fold of it), MONAI
            bundle, or .yaml that describes plain weights; with votes the copy in the study if left out.
        judge: a model as above; a folder of masks made by another program, named as by segpref predict;
            several of these, "[A, B]", averaged; oracle or oracle-dice; or a class with its arguments
            (class_path, init_args).
        votes: in the place of a judge: the folder of a study in which people voted, or several of one
            model, "[A, B]"; measured on the masks that they saw, of images that have a label.
        database: URL of the votes, if they are not in the study's folder.
        part: part of the split to measure on: train, judge, validation or test.
        miner: picks the pairs of PairFlip from scores; Top-vs-Random if left out.
        candidates: number K of masks in a slate.
        families: what makes the candidates: lean (edits, and two changed views), paper (all of
            RN-DPO's), auto (lean in 2D from 16 candidates on, else paper), or a list of class_path
            and init_args.
        others: folders of masks made by other models, named as by segpref predict, as further
            candidates, whole and structure by structure.
        seed: random seed of slates and pairs.
        out: JSON file for the results.
        report: HTML page of the results, in one file.
    """
    named: Any = families  # jsonargparse takes a list of classes by name for callables
    result = run(
        model, data, judge=judge, votes=votes, database=database, part=part, miner=miner,
        candidates=candidates, families=named, others=others, seed=seed, out=out, report=report,
        settings=settings, **vars(where), **vars(opening), **vars(pool),
    )  # fmt: skip
    _show(result)


def _grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _show(result: Audit) -> None:
    judge = result.judge
    good, sentence = audit_verdict(result)
    stdout.print(Text(sentence, style="green" if good else "yellow"))
    for about in filter(None, [own_masks_verdict(result), labels_advice(result)]):
        stdout.print(about)
    table = Table(title="The judge (RN-DPO, Table 11)")
    for column in ("figure", "value", "what it says"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for key, name, text in JUDGE_FIGURES:
        table.add_row(name, f"{getattr(judge, key):.3f}", text)
    stdout.print(table)
    stdout.print(
        f"{judge.slates} slates, {judge.pairs} pairs; skipped: "
        + ", ".join(f"{why} {count}" for why, count in judge.skipped.items())
    )
    stdout.print(
        f"Mean IoU of the model's own masks {result.base_quality:.3f}, of the best candidates "
        f"{result.best_quality:.3f}; {result.distinct:.0%} of the candidates are distinct."
    )
    stdout.print(_grid("Structure by structure", STRUCTURE_COLUMNS, structure_rows(result)))
    stdout.print(_grid("The slates", FAMILY_COLUMNS, family_rows(result)))
    flips = f"{result.flips.flip_rate:.0%} of {result.flips.pairs} the wrong way round"
    stdout.print(_grid(f"Random pairs: {flips}", FLIP_COLUMNS, flip_rows(result)))
    if 0 < judge.pair_flip < 0.5:
        stdout.print(f"For robust objectives: flip_rate {judge.pair_flip:.2f} (PairFlip).")
    if result.mined:
        stdout.print(
            "`segpref align --method calibrated` measures the rates by gap of mined pairs itself, and "
            "learns each pair by its own."
        )
