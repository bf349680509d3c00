"""Examples of a run: contours before and after, and slates, of a few typical cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from segpref.data.dataset import Dataset
from segpref.data.patches import LabelPlaces, PatchDraw
from segpref.inference.windows import whole_images, whole_model
from segpref.judges import OracleJudge, note_undrawn_structures
from segpref.metrics import score_state
from segpref.policies import load_model
from segpref.preferences import ScoredSlate, TopVsRandom
from segpref.proposals import SlateProposals
from segpref.report.gallery import typical, worst_overlays
from segpref.report.page import Picture
from segpref.report.pictures import SlatePicture, variance_pictures
from segpref.report.run_report import write_report
from segpref.report.volume_scores import read_volume_scores
from segpref.studies.auditing import audit
from segpref.studies.slates import patch_slates, scored_slates
from segpref.studies.verdict import control_beside, measured_verdict
from segpref.training.folder import RunFolder
from segpref.types import Judge, LabelSpace

__all__ = ["alignment_report", "variance_rows"]

_AUDITED, _AUDITED_IN_PATCHES = 12, 3
"""Cases that a report audits the judge on where the run has no audit of its own."""

_LOOKED_AT = 8
"""Slates that are looked at for one that shows something."""


def alignment_report(
    folder: RunFolder,
    base: Path | str,
    cases: Dataset,
    judge: Judge | None,
    proposals: SlateProposals,
    seed: int = 0,
    count: int = 4,
) -> Path:
    """The report of a stage-2 run, with its worst cases before and after and one slate with its scores.

    Args:
        folder: of the run.
        base: its base.
        cases: labelled; some of them are shown.
        judge: scores the candidates of the slate; None where people voted, and no slate is shown.
        proposals: make them; where the model sees patches, of a patch around a structure.
        seed: of the slate.
        count: how many cases are shown.
    """
    if not len(cases):
        return write_report(folder)
    measured_verdict(folder, base, cases)
    models = {"base": whole_model(base), "tuned": whole_model(folder.best)}
    scores = read_volume_scores(folder.validation)
    both = worst_overlays(cases.labelled(), models, scores, count)
    if judge is None:
        return write_report(folder, overlays=both, control=control_beside(folder))
    note_undrawn_structures(judge, cases)
    slate = _slate_picture(base, typical(cases, count), judge, proposals, seed)
    return write_report(
        folder,
        overlays=both,
        slate=slate,
        control=control_beside(folder),
        audited=None if folder.audit.exists() else _audited(base, cases, judge, proposals, seed),
    )


def variance_rows(
    base: Path | str, cases: Dataset, ways: Mapping[str, SlateProposals], seed: int = 0
) -> list[Picture]:
    """Where the candidates of several ways of making them differ, a row of pictures per case.

    Args:
        base: makes the candidates.
        cases: labelled.
        ways: by name.
        seed: of the slates.
    """
    judge = OracleJudge(cases.label_space)
    made: list[Picture] = []
    for index in range(len(cases)):
        case = cases.take([index])
        found = [_slate_picture(base, case, judge, one, seed) for one in ways.values()]
        slates = [one for one in found if one is not None]
        if len(slates) < len(ways):
            continue
        for name, picture in zip(ways, variance_pictures(slates), strict=True):
            made.append(replace(picture, title=f"{picture.title}: {name}"))
    return made


def _slate_picture(
    base: Path | str, cases: Dataset, judge: Judge, proposals: SlateProposals, seed: int
) -> SlatePicture | None:
    """A slate that shows something: the first with candidates that differ and a judge who tells them
    apart; one with candidates that differ where there is no other; None where all are alike.
    """
    policy, card = load_model(base)
    if card.preparation.patch is None:
        whole = whole_images([policy], card.preparation)
        slates = scored_slates(whole, cases, judge, proposals, seed)
    else:
        # K masks of a whole volume may be more than the memory holds.
        patches = PatchDraw(card.preparation, LabelPlaces(cases.label_space), foreground=1.0)
        slates = patch_slates(policy, cases, judge, proposals, patches, seed)
    second: tuple[ScoredSlate, int] | None = None
    for scored in islice(slates, _LOOKED_AT):
        for field in range(scored.slate.masks.shape[1]):
            masks = scored.slate.masks[:, field]
            if (masks == masks[0]).all():
                continue
            if score_state(scored.scores[:, field]) == "usable":
                return _picture(scored, field, cases.label_space, seed)
            second = second or (scored, field)
    return None if second is None else _picture(*second, cases.label_space, seed)


def _audited(
    base: Path | str, cases: Dataset, judge: Judge, proposals: SlateProposals, seed: int
) -> dict[str, Any]:
    """Figures of the judge on a few cases, structure by structure."""
    policy, card = load_model(base)
    if card.preparation.patch is None:
        few, whole = typical(cases, _AUDITED), whole_images([policy], card.preparation)
        return audit(whole, few, judge, TopVsRandom(), proposals, seed).as_dict()
    patches = PatchDraw(card.preparation, LabelPlaces(cases.label_space), foreground=0.5)
    few = typical(cases, _AUDITED_IN_PATCHES)
    return audit(policy, few, judge, TopVsRandom(), proposals, seed, patches).as_dict()


def _picture(scored: ScoredSlate, field: int, label_space: LabelSpace, seed: int) -> SlatePicture:
    case, said = scored.case, scored.scores[:, field]
    usable = score_state(said) == "usable"
    rows = TopVsRandom()(said, np.random.default_rng(seed)) if usable else np.zeros((0, 2), int)
    return SlatePicture(
        name=case.id if case.window is None else f"a patch of {case.id}",
        image=np.asarray(case.image),
        slate=scored.slate,
        scores=said,
        label_space=label_space,
        field=field,
        pair=(int(rows[0, 0]), int(rows[0, 1])) if len(rows) else None,
        truth=None if case.label is None else np.asarray(case.label),
        spacing_mm=case.spacing_mm,
        colour=case.colour,
    )
