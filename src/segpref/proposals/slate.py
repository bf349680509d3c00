"""Slates: K candidate masks per image, drawn from weighted proposal families."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.checking import checked
from segpref.data.dataset import Dataset
from segpref.proposals.boundary import InterfaceOffset, StructureOffset, UniformOffset
from segpref.proposals.compositions import CleanedDropoutMean, CleanedExtremes, CleanedOffset
from segpref.proposals.dropout import MonteCarloDropout
from segpref.proposals.extent import AreaQuantile, LogitBias
from segpref.proposals.proposal import (
    NetworkProposal,
    Proposal,
    ProposalContext,
    Proposed,
    StoredProposal,
)
from segpref.proposals.topology import HoleFilling, LargestComponent
from segpref.proposals.tta import IntensityTTA, IntensityViews
from segpref.runtime import fetched, moved
from segpref.seeds import image_seeds
from segpref.types import (
    Candidate,
    Case,
    LabelSpace,
    Policy,
    SegprefError,
    Slate,
    State,
    whole_spacing,
)

__all__ = [
    "Families",
    "SlateProposals",
    "draw",
    "families_of",
    "given_families",
    "lean_families",
    "paper_families",
]

log = logging.getLogger(__name__)

Families = Sequence[Proposal] | Literal["auto", "lean", "paper"]
"""Proposal families, or which ones are taken for a label space; see :func:`families_of`."""

LEAN_FROM = 16
"""So many candidates are enough for lean families. In slates of 12, views that went wrong left too few
places for edits, and a small model fell apart; with 16 and with 32 it learned as well as with those of
the paper (docs/results/candidates)."""

PATIENCE = 12
"""After so many repetitions in a row a family is taken to have nothing new."""


def paper_families(label_space: LabelSpace) -> tuple[Proposal, ...]:
    """All families of Appendix A.2 that suit the label space, with averages of ten further passes.

    The first seven places go to seven families.
    """
    return _averaging(label_space, MonteCarloDropout(), IntensityTTA())


def lean_families(label_space: LabelSpace, dims: int = 2) -> tuple[Proposal, ...]:
    """Families that suit the label space and cost half of the time (docs/results/candidates).

    In 2D edits of the prediction, and the predictions of two strongly changed views: in a slate of 32
    the best one gains more than the best of :func:`paper_families`. In 3D models learned less from
    these; there they are the families of the paper with averages of six passes in place of ten.
    """
    if dims == 3:
        return _averaging(
            label_space, MonteCarloDropout(4), IntensityTTA(brightness=(), contrasts=())
        )
    shared: tuple[Proposal, ...] = (
        LargestComponent(),
        IntensityViews(),
        CleanedOffset(),
        HoleFilling(),
        CleanedExtremes(),
    )
    return (*shared, *_extent(label_space))


def given_families(families: Families) -> Sequence[Proposal]:
    """The families that were given one by one; none where they are those of a label space."""
    return () if isinstance(families, str) else families


def families_of(
    families: Families, label_space: LabelSpace, size: int, dims: int
) -> Sequence[Proposal]:
    """The families that are meant in slates of so many candidates of 2D or 3D images.

    ``auto`` is ``lean`` (:func:`lean_families`) from 16 candidates on, and ``paper``
    (:func:`paper_families`) in smaller slates.
    """
    if not isinstance(families, str):
        return families
    lean = families == "lean" or (families == "auto" and size >= LEAN_FROM)
    return lean_families(label_space, dims) if lean else paper_families(label_space)


def _averaging(
    label_space: LabelSpace, dropout: MonteCarloDropout, views: IntensityTTA
) -> tuple[Proposal, ...]:
    """All families of the paper, with these averages."""
    shared: tuple[Proposal, ...] = (
        dropout,
        LargestComponent(),
        views,
        CleanedOffset(),
        HoleFilling(),
        CleanedDropoutMean(),
        CleanedExtremes(),
    )
    return (*shared, *_extent(label_space))


def _extent(label_space: LabelSpace) -> tuple[Proposal, ...]:
    """Families that enlarge and shrink."""
    if label_space.kind == "multi-label":
        return AreaQuantile(), UniformOffset(weight=5.0)
    return LogitBias(), UniformOffset(), InterfaceOffset(), StructureOffset()


@checked(size={"most": 1000})
class SlateProposals:
    """Makes a slate of exactly K candidates for every image of a batch.

    The anchor comes first. The other places go round the families in proportion to their weights
    (Sainte-Laguë: the next place goes to the highest ``weight / (2 x places so far + 1)``). A
    candidate equal to an earlier one is left out; a family that cannot act or has nothing new
    leaves its places to the others, and the first time that it cannot act is logged. Only where all
    families together have too few distinct masks are earlier candidates repeated, at the end.

    Args:
        size: number K of candidates.
        families: proposal families, or which of the policy's label space (:func:`families_of`).

    Raises:
        SegprefError: K below 2, or no family.
    """

    def __init__(self, size: int = 32, families: Families = "auto") -> None:
        if size < 2:
            raise SegprefError(f"a slate needs at least 2 candidates to compare, not {size}")
        if not families:
            raise SegprefError("a slate needs at least one proposal family besides the anchor")
        self.size = size
        self.families = families
        self._told: set[str] = set()
        self._meant: dict[tuple[LabelSpace, int], Sequence[Proposal]] = {}

    @property
    def own_families(self) -> Sequence[Proposal]:
        """The families that were given one by one."""
        return given_families(self.families)

    def prepare(self, dataset: Dataset) -> None:
        """Make ready what the families know of all images of the dataset before any network pass."""
        for family in self.own_families:
            if isinstance(family, StoredProposal):
                family.prepare(dataset)

    def __call__(
        self,
        policy: Policy,
        state: State,
        images: Float[Tensor, "B channel *space"],
        cases: Sequence[Case],
        seed: int,
        keys: Sequence[int] = (),
    ) -> list[Slate]:
        """One slate per image.

        Args:
            policy: for its label space and for the families that need further passes.
            state: what the policy's one pass of these images left.
            images: the batch.
            cases: its cases, for voxel size and identity; labels are not read.
            seed: with ``keys`` and a case's id it determines the case's edits, whatever else is in
                the batch.
            keys: further keys of the random numbers, such as epoch and step.
        """
        drafts = self.drafts(policy, state, images, cases, seed, keys)
        # One after the other: finding components holds Python's lock, and two threads took longer
        # than one. Worker processes don't share it (:class:`~segpref.preferences.SlateWorkers`).
        drawn = [self.edit(context) for context in drafts]
        for case, (_, idle) in zip(cases, drawn, strict=True):
            self.report_idle(case, idle)
        return [slate for slate, _ in drawn]

    def drafts(
        self,
        policy: Policy,
        state: State,
        images: Float[Tensor, "B channel *space"],
        cases: Sequence[Case],
        seed: int,
        keys: Sequence[int] = (),
    ) -> list[ProposalContext]:
        """What the slates are edited from: the part that needs the network; see :meth:`__call__`."""
        families = self._families_of(policy.label_space, images.ndim - 2)
        # Views are made where the network is.
        images = moved(images, state.logits.device)
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            for number, family in enumerate(families):
                if not isinstance(family, NetworkProposal):
                    continue
                seeds = image_seeds([case.id for case in cases], seed, *keys, number)
                passes = family.predict(policy, state, images, seeds)
                if passes is None:
                    self._report(family.family, "needs a pass that the network does not offer")
                    continue
                if passes.keys() & found.keys():
                    raise SegprefError(
                        f"two families of a slate predict the same ({', '.join(passes)}): "
                        f"keep one {type(family).__name__}"
                    )
                found.update(passes)
            stored = [family for family in families if isinstance(family, StoredProposal)]
            logits = state.logits.detach()
            decoded = policy.label_space.decode(logits)
            # All at once: this is where a step waits for the device, for edits are made on the host.
            every, anchors, *masks = fetched([logits.float(), decoded, *found.values()])
        predictions = dict(zip(found, masks, strict=True))
        return [
            ProposalContext(
                logits=image_logits,
                anchor=anchor,
                label_space=policy.label_space,
                spacing_mm=_spacing(case, anchor.ndim - 1),
                predictions={name: masks[index] for name, masks in predictions.items()}
                | {name: mask for family in stored for name, mask in family.masks_of(case).items()},
                rng=np.random.default_rng([seed, *keys, zlib.crc32(case.id.encode())]),
            )
            for index, (image_logits, anchor, case) in enumerate(
                zip(every, anchors, cases, strict=True)
            )
        ]

    def edit(self, draft: ProposalContext) -> tuple[Slate, list[str]]:
        """The slate of one image, and the families that proposed nothing for it; in any process."""
        families = self._families_of(draft.label_space, draft.anchor.ndim - 1)
        return draw(draft, families, self.size)

    def _families_of(self, label_space: LabelSpace, dims: int) -> Sequence[Proposal]:
        # Making them checks their settings: not for each slate.
        asked = label_space, dims
        if asked not in self._meant:
            self._meant[asked] = families_of(self.families, label_space, self.size, dims)
        return self._meant[asked]

    def report_idle(self, case: Case, families: Sequence[str]) -> None:
        """Report families that proposed nothing for a case, each once per run."""
        for family in families:
            self._report(family, f"has nothing to edit in case {case.id}")

    def _report(self, family: str, what: str) -> None:
        if family not in self._told:
            self._told.add(family)
            log.warning(
                "Proposal family %s %s; its places in the slate go to others. Reported once per run.",
                family,
                what,
            )


def draw(
    context: ProposalContext, families: Sequence[Proposal], size: int
) -> tuple[Slate, list[str]]:
    """The slate of one image, and the families that proposed nothing at all for it."""
    masks = np.empty((size, *context.anchor.shape), np.uint8)
    masks[0] = context.anchor
    candidates = [Candidate("anchor")]
    seen = {_checksum(masks[0]): [0]}
    running = {number: family(context) for number, family in enumerate(families)}
    places = dict.fromkeys(running, 0)
    turn = {number: family.weight for number, family in enumerate(families)}
    idle = []

    while len(candidates) < size and running:
        number = max(running, key=turn.__getitem__)
        fresh, tried = _next_distinct(running[number], masks[: len(candidates)], seen)
        if fresh is None:
            if not tried and not places[number]:
                idle.append(families[number].family)
            del running[number]
            continue
        settings, mask = fresh
        masks[len(candidates)] = mask
        candidates.append(Candidate(families[number].family, settings))
        places[number] += 1
        turn[number] = families[number].weight / (2 * places[number] + 1)

    distinct = len(candidates)
    for index in range(distinct, size):
        masks[index] = masks[index % distinct]
        candidates.append(candidates[index % distinct])
    return Slate(masks, tuple(candidates)), idle


def _next_distinct(
    proposed: Iterator[Proposed],
    masks: UInt8[np.ndarray, "K field *space"],
    seen: dict[int, list[int]],
) -> tuple[Proposed | None, int]:
    """The next candidate that differs from all before it, and how many were looked at."""
    for tried in range(PATIENCE):
        candidate = next(proposed, None)
        if candidate is None:
            return None, tried
        mask = np.ascontiguousarray(candidate[1])
        alike = seen.setdefault(_checksum(mask), [])
        if not any(np.array_equal(mask, masks[index]) for index in alike):
            alike.append(len(masks))
            return candidate, tried + 1
    return None, PATIENCE


def _checksum(mask: UInt8[np.ndarray, "field *space"]) -> int:
    # A sum of whole words is the fastest of all. It only finds what may be equal (and so may leave
    # out the last few bytes); the masks themselves decide.
    flat = mask.reshape(-1)
    return int(flat[: flat.size // 8 * 8].view(np.uint64).sum())


def _spacing(case: Case, axes: int) -> tuple[float, ...] | None:
    if case.spacing_mm is not None and len(case.spacing_mm) != axes:
        raise SegprefError(
            f"case {case.id} has {len(case.spacing_mm)} voxel sizes for {axes} spatial axes: "
            "give one per axis, or none"
        )
    return whole_spacing(case.spacing_mm, axes)
