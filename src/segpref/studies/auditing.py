"""The audit of slates and judge before any training (RN-DPO, Appendix A.4, Table 11)."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8

from segpref.data.dataset import Dataset
from segpref.data.patches import PatchDraw
from segpref.judges import DrawingJudge, note_undrawn_structures
from segpref.metrics import (
    SlateDiagnostics,
    StructureFigures,
    StructureSlate,
    diagnose,
    score_state,
    slate_iou,
    structure_figures,
    structure_slate,
)
from segpref.metrics.flips import FlipBin, FlipCurves, flip_curves, mined_flips
from segpref.policies import TunablePolicy
from segpref.preferences import StandingJudge, mine
from segpref.proposals import SlateProposals
from segpref.report.comparison import Comparison, compared
from segpref.seeds import derive_seed
from segpref.studies.slates import ScoredSlate, patch_slates, scored_slates
from segpref.types import Candidate, Judge, LabelSpace, Miner, Policy, SegprefError

__all__ = ["Audit", "FamilyFigures", "audit", "audit_of", "audit_standing"]

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
        structures: the judge on each structure.
        abstains_on: structures that the judge never draws, of which it says nothing.
        worth: what its favourites gain in IoU over the anchor, paired over patients; None where that
            was not measured.
        own: what the judge's own masks gain in IoU over the anchor, likewise; None where it draws none.
        unused: patients whose labels the judge has learned from and the model has not; None where
            there is none, or the judge does not say.
    """

    judge: SlateDiagnostics
    flips: FlipCurves
    mined: tuple[FlipBin, ...]
    families: tuple[FamilyFigures, ...]
    base_quality: float
    best_quality: float
    distinct: float
    structures: tuple[StructureFigures, ...] = ()
    abstains_on: tuple[str, ...] = ()
    worth: Comparison | None = None
    own: Comparison | None = None
    unused: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain figures, for ``summary.json``; what a structure has no figure for is None."""
        plain = asdict(self)
        for name in ("worth", "own"):
            found: Comparison | None = getattr(self, name)
            plain[name] = None if found is None else found.as_dict()
        for row in plain["structures"]:
            row |= {name: None for name, value in row.items() if value != value}
        return plain


def audit(
    policy: Policy,
    dataset: Dataset,
    judge: Judge,
    miner: Miner,
    proposals: SlateProposals | None = None,
    seed: int = 0,
    patches: PatchDraw | None = None,
    slates: Iterable[ScoredSlate] | None = None,
) -> Audit:
    """Measure judge and slates on labelled cases (the validation set, usually).

    Args:
        policy: of whole prepared images; of patches where these are drawn.
        dataset: cases without a label are left out.
        judge: scores the candidates.
        miner: makes pairs of the scores.
        proposals: make the slates; K = 32 by default.
        seed: of slates and pairs.
        patches: draws the patches that the slates are of, several of each case; whole images where
            None.
        slates: those of the labelled cases, where others have made them already.

    Raises:
        SegprefError: no case has a label.
    """
    dataset = dataset.labelled()
    if not len(dataset):
        raise SegprefError("none of the cases to audit on has a label: give labelled cases")
    proposals = proposals or SlateProposals()
    silent = note_undrawn_structures(judge, dataset)
    if slates is not None:
        pass
    elif patches is None:
        slates = scored_slates(policy, dataset, judge, proposals, seed)
    else:
        assert isinstance(policy, TunablePolicy)
        slates = patch_slates(policy, dataset, judge, proposals, patches, seed)
    # Its masks are of whole images.
    own = judge if isinstance(judge, DrawingJudge) and patches is None else None
    return audit_of(slates, dataset.label_space, miner, seed, silent, own)


def audit_standing(judge: StandingJudge, dataset: Dataset, miner: Miner, seed: int = 0) -> Audit:
    """Measure a judge that knows certain masks, such as people's votes, on these masks.

    Args:
        judge: each group of masks that it can compare is a slate, with the model's own mask as anchor.
        dataset: holds the images of these masks; those without a label are passed over.
        miner: makes pairs of the scores.
        seed: of pairs.

    Raises:
        SegprefError: no image that it knows masks of has a label.
    """
    space = dataset.label_space
    return audit_of(judge.asked(dataset), space, miner, seed, judge.unvoted(space))


def audit_of(
    slates: Iterable[ScoredSlate],
    space: LabelSpace,
    miner: Miner,
    seed: int = 0,
    abstains_on: Sequence[str] = (),
    drawing: DrawingJudge | None = None,
) -> Audit:
    """Measure scored slates of labelled cases, whoever scored them.

    Args:
        slates: with the labels of their cases; the anchor comes first.
        space: what the masks mean.
        miner: makes pairs of the scores.
        seed: of pairs.
        abstains_on: structures of which the judge says nothing.
        drawing: the judge, if it has masks of its own that are to be measured, too.
    """
    masks = _Packed()
    # A loop would keep a slate while the next one is made.
    seen = list(map(partial(_measured, masks, space, drawing), slates))
    truth, judged = [one.quality for one in seen], [one.scores for one in seen]
    rngs = [np.random.default_rng(derive_seed(seed, 1, number)) for number in range(len(seen))]
    # A miner that draws finds other pairs every time: one draw of few slates says little of a gap.
    mined = [mine(miner, judged, rngs).pairs for _ in range(_DRAWS)]
    return Audit(
        judge=diagnose(judged, truth, mined[0]),
        flips=flip_curves(judged, truth, masks, seed),
        mined=mined_flips(truth, mined),
        families=_families(seen),
        base_quality=float(np.mean([quality[0].mean() for quality in truth])),
        best_quality=float(np.mean([quality.max(axis=0).mean() for quality in truth])),
        distinct=float(np.mean([one.distinct for one in seen])),
        structures=structure_figures(
            [one.structures for one in seen],
            judged,
            truth,
            masks,
            mined[0],
            space,
            abstains_on,
            [one.about for one in seen],
        ),
        abstains_on=tuple(abstains_on),
        worth=_worth(seen),
        own=None if drawing is None else _own(seen),
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    """What is kept of a slate: all but its masks."""

    candidates: tuple[Candidate, ...]
    scores: np.ndarray
    quality: np.ndarray
    distinct: float
    structures: StructureSlate
    about: str | None
    patient: str
    own: float


class _Packed(Sequence[Any]):
    """The masks of many slates, in little memory: they are mostly background and much alike."""

    def __init__(self) -> None:
        self._known: list[tuple[tuple[int, ...], bytes]] = []

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, index: Any) -> Any:
        shape, packed = self._known[index]
        # Told the size, it need not copy.
        masks = zlib.decompress(packed, bufsize=math.prod(shape))
        return np.frombuffer(masks, np.uint8).reshape(shape)

    def append(self, masks: UInt8[np.ndarray, "K field *space"]) -> None:
        self._known.append((masks.shape, zlib.compress(np.ascontiguousarray(masks).data, 1)))


def _measured(
    masks: _Packed, label_space: LabelSpace, drawing: DrawingJudge | None, scored: ScoredSlate
) -> _Measured:
    assert scored.case.label is not None
    slate = scored.slate
    masks.append(slate.masks)
    label = np.asarray(scored.case.label)
    quality = slate_iou(slate.masks, label, label_space, counted=label_space.labelled)
    distinct = len(set(scored.ids)) / len(slate)
    each = structure_slate(slate.masks, label, label_space)
    about, patient = scored.structure, scored.case.patient
    own = math.nan
    if drawing is not None and (mask := drawing.own_mask(scored.case)) is not None:
        # Side by side, so that both are measured on the same structures.
        both = np.stack([mask, slate.masks[0]])
        drawn, anchor = slate_iou(both, label, label_space, counted=label_space.labelled)
        own = float((drawn - anchor).mean())
    return _Measured(slate.candidates, scored.scores, quality, distinct, each, about, patient, own)


def _worth(seen: Sequence[_Measured]) -> Comparison:
    """Headroom patient by patient, of the slates that the judge can order."""
    gains: dict[str, list[float]] = {}
    for one in seen:
        for said, true in zip(one.scores.T, one.quality.T, strict=True):
            if score_state(said) == "usable" and not np.isnan(true).any():
                gains.setdefault(one.patient, []).append(float(true[np.nanargmax(said)] - true[0]))
    return compared(np.array([np.mean(own) for own in gains.values()]))


def _own(seen: Sequence[_Measured]) -> Comparison:
    """What the judge's own masks gain over the anchors, patient by patient."""
    gains: dict[str, list[float]] = {}
    for one in seen:
        if not math.isnan(one.own):
            gains.setdefault(one.patient, []).append(one.own)
    return compared(np.array([np.mean(own) for own in gains.values()]))


def _families(seen: Sequence[_Measured]) -> tuple[FamilyFigures, ...]:
    names, gains, best, chosen = [], [], [], []
    for one in seen:
        for number in range(one.quality.shape[1]):
            true, said = one.quality[:, number], one.scores[:, number]
            names += [candidate.family for candidate in one.candidates]
            gains += (true - true[0]).tolist()
            best.append(one.candidates[int(true.argmax())].family)
            if not np.isnan(said).all():
                chosen.append(one.candidates[int(np.nanargmax(said))].family)
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
