"""The interface of proposal families, and what they are given of an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from segpref.data.dataset import Dataset
from segpref.proposals.labelmap import LabelMap
from segpref.types import Case, LabelSpace, Policy, SegprefError, State

__all__ = [
    "Contest",
    "NetworkProposal",
    "Proposal",
    "ProposalContext",
    "Proposed",
    "Settings",
    "StoredProposal",
    "crossed",
    "stacked",
]

Settings = Mapping[str, float | int | str]
Proposed = tuple[Settings, UInt8[np.ndarray, "field *space"]]
"""The settings of a candidate and its mask."""

Target = TypeVar("Target")


class Contest(NamedTuple):
    """One class (or the whole foreground) against everything else, pixel by pixel.

    Args:
        lead: its logit minus the highest logit of the others.
        label: the label where it wins.
        rival: the label where it loses.
    """

    lead: Float32[np.ndarray, "*space"]
    label: UInt8[np.ndarray, "*space"] | int
    rival: UInt8[np.ndarray, "*space"] | int


@dataclass(frozen=True)
class ProposalContext:
    """What a proposal family is given of an image; costly shared quantities are computed once.

    Args:
        logits: float32 ``[C, *space]`` of the policy.
        anchor: the policy's own prediction, uint8 ``[field, *space]``.
        label_space: what the values mean.
        spacing_mm: voxel size per axis, or None where it is unknown: distances are then in voxels.
        predictions: masks that are not edits, by name: what :meth:`NetworkProposal.predict` or
            :meth:`StoredProposal.masks_of` returned for this image.
        rng: the image's own random generator.
    """

    logits: Float32[np.ndarray, "C *space"]
    anchor: UInt8[np.ndarray, "field *space"]
    label_space: LabelSpace
    spacing_mm: tuple[float, ...] | None = None
    predictions: Mapping[str, UInt8[np.ndarray, "..."]] = field(default_factory=dict)
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    _contests: dict[int | None, Contest] = field(default_factory=dict, init=False, repr=False)
    _highest: dict[int, Float32[np.ndarray, " some"]] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def unit(self) -> str:
        """Unit of distances: ``mm``, or ``voxels`` where the voxel size is unknown."""
        return "voxels" if self.spacing_mm is None else "mm"

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a voxel per axis, in :attr:`unit`."""
        return self.spacing_mm or (1.0,) * (self.anchor.ndim - 1)

    @cached_property
    def step(self) -> float:
        """A small distance: the finest voxel edge, times longest side / 256 if that is above 1."""
        return float(min(self.spacing) * max(1.0, max(self.anchor.shape[1:]) / 256))

    @cached_property
    def fields(self) -> tuple[LabelMap, ...]:
        """The anchor, field by field."""
        return self.fields_of(self.anchor)

    @cached_property
    def empty(self) -> bool:
        """Whether the anchor has no foreground at all."""
        return all(labels.box is None for labels in self.fields)

    def nth_highest(self, output: int, n: int) -> float:
        """The n-th highest logit of an output, from 1."""
        highest = self._highest.get(output)
        if highest is None or len(highest) < n:
            logits = self.logits[output].ravel()
            # To sort all of them takes twice as long, and areas are at most doubled, mostly.
            some = min(max(n, 2 * np.count_nonzero(self.anchor[output])), logits.size)
            rest = logits.size - some
            highest = np.sort(np.partition(logits, rest)[rest:] if rest else logits)
            self._highest[output] = highest
        return float(highest[-n])  # without rounding: a float holds more

    def fields_of(self, mask: UInt8[np.ndarray, "field *space"]) -> tuple[LabelMap, ...]:
        """Another mask of the same image, field by field."""
        return tuple(
            LabelMap(labels, self.label_space.values, self.spacing)
            for labels in np.ascontiguousarray(mask)
        )

    def value_of(self, name: str) -> int:
        """The value of a class by its name.

        Raises:
            SegprefError: the label space has no such class.
        """
        if name not in self.label_space.names:
            raise SegprefError(
                f"a proposal names the structure {name!r}, but the label space has only "
                f"{', '.join(self.label_space.names)}: correct the name in the proposal's settings"
            )
        return self.label_space.names.index(name)

    def contest(self, value: int | None) -> Contest:
        """Multi-class: a class against the rest, or (None) the foreground against the background.

        Of equal logits the lower class wins, as in a decoded mask.
        """
        if value not in self._contests:
            self._contests[value] = self._contest(value)
        return self._contests[value]

    def _contest(self, value: int | None) -> Contest:
        values = range(self.label_space.channels)
        if value is None:
            label, lead = _leader(self.logits, values[1:])
            return Contest(np.subtract(lead, self.logits[0], out=lead), label, 0)
        rival, lead = _leader(self.logits, [other for other in values if other != value])
        return Contest(np.subtract(self.logits[value], lead, out=lead), value, rival)


@runtime_checkable
class Proposal(Protocol):
    """A family of candidates.

    ``weight`` is its share of the slate: places go round in proportion to the weights.
    """

    family: str
    weight: float

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """Candidates in order of usefulness, then more extreme or random ones, made when asked for.

        Yields nothing where the family cannot act. May repeat itself or the anchor: the slate
        leaves repetitions out.
        """
        ...


@runtime_checkable
class NetworkProposal(Proposal, Protocol):
    """A family whose candidates need further passes of the network, done for a whole batch."""

    def predict(
        self,
        policy: Policy,
        state: State,
        images: Float[Tensor, "B channel *space"],
        seeds: Sequence[int],
    ) -> Mapping[str, Tensor] | None:
        """Masks by name, uint8 ``[B, ..., field, *space]``, or None where the network cannot."""
        ...


@runtime_checkable
class StoredProposal(Proposal, Protocol):
    """A family whose candidates are there before: masks of the images themselves."""

    def prepare(self, dataset: Dataset) -> None:
        """Make ready what is known of all images of the dataset."""
        ...

    def masks_of(self, case: Case) -> Mapping[str, UInt8[np.ndarray, "..."]]:
        """Masks by name, of a case of a dataset that was prepared; none where there are none."""
        ...


def _leader(
    logits: Float32[np.ndarray, "C *space"], values: Sequence[int]
) -> tuple[UInt8[np.ndarray, "*space"], Float32[np.ndarray, "*space"]]:
    """Which of these classes has the highest logit (of equal ones the lowest), and that logit."""
    label = np.full(logits.shape[1:], values[0], np.uint8)
    highest = logits[values[0]].copy()
    for value in values[1:]:
        leads = (logits[value] > highest).view(np.uint8)
        # The values ascend, so the larger label is that of the later leader.
        np.maximum(label, np.multiply(leads, value, out=leads), out=label)
        np.maximum(highest, logits[value], out=highest)
    return label, highest


def crossed(targets: Iterable[Target], sizes: Sequence[float]) -> Iterator[tuple[Target, float]]:
    """Every target with every size, up and down.

    Each round visits all targets, and the sizes rotate: a few draws already differ in both.
    """
    targets = tuple(targets)
    for turn in range(len(sizes)):
        for index, target in enumerate(targets):
            size = sizes[(index + turn) % len(sizes)]
            yield target, size
            yield target, -size


def stacked(fields: Sequence[LabelMap]) -> UInt8[np.ndarray, "field *space"]:
    """Fields as one mask."""
    if len(fields) == 1:
        return fields[0].labels[np.newaxis]
    mask = np.empty((len(fields), *fields[0].labels.shape), np.uint8)
    for place, labels in enumerate(fields):  # half the time of np.stack
        mask[place] = labels.labels
    return mask
