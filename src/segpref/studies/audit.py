"""Before anything is trained: what are slates and judge worth? (RN-DPO, Appendix A.4, Table 11)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segpref.data.dataset import Dataset
from segpref.metrics import SlateDiagnostics, diagnose, slate_iou
from segpref.metrics.flips import FlipBin, FlipCurves, flip_curves, mined_flips
from segpref.miners import mine
from segpref.proposals import SlateProposals
from segpref.studies.slates import ScoredSlate, scored_slates
from segpref.training.loop import step_seed
from segpref.types import Judge, LabelSpace, Miner, Policy, SegprefError

__all__ = ["Audit", "FamilyFigures", "audit"]

_DRAWS = 10


@dataclass(frozen=True, slots=True)
class FamilyFigures:
    """One proposal family.

    Args:
        family: its name.
        share: of all candidates.
        gain: mean true quality minus that of the anchor.
        better: share of its candidates that are truly better than the anchor.
        top: share of slates and fields whose truly best candidate it gives.
        chosen: share of slates and fields in which the judge puts it on top.
    """

    family: str
    share: float
    gain: float
    better: float
    top: float
    chosen: float


@dataclass(frozen=True, slots=True)
class Audit:
    """Diagnostics of judge and slates on labelled cases.

    Args:
        judge: Table 11's figures.
        flips: how often the judge orders random pairs of candidates the wrong way round.
        mined: the same of the miner's pairs, by the judge's gap.
        families: what each proposal family contributes.
        base_quality: mean true quality of the anchor.
        best_quality: mean true quality of the best candidate: what a perfect judge could select.
        distinct: mean share of distinct candidates in a slate.
    """

    judge: SlateDiagnostics
    flips: FlipCurves
    mined: tuple[FlipBin, ...]
    families: tuple[FamilyFigures, ...]
    base_quality: float
    best_quality: float
    distinct: float

    def as_dict(self) -> dict[str, Any]:
        """Plain figures, for ``summary.json``."""
        return asdict(self)


def audit(
    policy: Policy,
    dataset: Dataset,
    judge: Judge,
    miner: Miner,
    proposals: SlateProposals | None = None,
    seed: int = 0,
) -> Audit:
    """Measure judge and slates on labelled cases (the validation set, usually)."""
    dataset = dataset.labelled()
    if not len(dataset):
        raise SegprefError("none of the cases to audit on has a label: give labelled cases")
    proposals = proposals or SlateProposals()
    scored = list(scored_slates(policy, dataset, judge, proposals, seed))
    truth = [_quality(one, dataset.label_space) for one in scored]
    rngs = [np.random.default_rng(step_seed(seed, 1, number)) for number in range(len(scored))]
    judged = [one.scores for one in scored]
    # A miner that draws finds other pairs every time: one draw of few slates says little of a gap.
    mined = [mine(miner, judged, rngs).pairs for _ in range(_DRAWS)]
    return Audit(
        judge=diagnose(judged, truth, mined[0]),
        flips=flip_curves(judged, truth, [one.slate.masks for one in scored], seed),
        mined=mined_flips(truth, mined),
        families=_families(scored, truth),
        base_quality=float(np.mean([quality[0].mean() for quality in truth])),
        best_quality=float(np.mean([quality.max(axis=0).mean() for quality in truth])),
        distinct=float(np.mean([_distinct(one) for one in scored])),
    )


def _quality(scored: ScoredSlate, label_space: LabelSpace) -> np.ndarray:
    assert scored.case.label is not None
    return slate_iou(scored.slate.masks, np.asarray(scored.case.label), label_space)


def _distinct(scored: ScoredSlate) -> float:
    return len({mask.tobytes() for mask in scored.slate.masks}) / len(scored.slate)


def _families(
    scored: Sequence[ScoredSlate], truth: Sequence[np.ndarray]
) -> tuple[FamilyFigures, ...]:
    names, gains, best, chosen = [], [], [], []
    for one, quality in zip(scored, truth, strict=True):
        for number in range(quality.shape[1]):
            true, said = quality[:, number], one.scores[:, number]
            names += [candidate.family for candidate in one.slate.candidates]
            gains += (true - true[0]).tolist()
            best.append(one.slate.candidates[int(true.argmax())].family)
            if not np.isnan(said).all():
                chosen.append(one.slate.candidates[int(np.nanargmax(said))].family)
    family, gain = np.array(names), np.array(gains)
    return tuple(
        FamilyFigures(
            family=name,
            share=float((family == name).mean()),
            gain=float(gain[family == name].mean()),
            better=float((gain[family == name] > 0).mean()),
            top=best.count(name) / max(len(best), 1),
            chosen=chosen.count(name) / max(len(chosen), 1),
        )
        for name in dict.fromkeys(names)
    )
