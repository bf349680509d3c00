"""The types and protocols that all other modules use.

The data flow is one sentence, and the names here are its words::

    image -> policy -> slate -> judge -> scores -> miner -> pairs -> margin -> objective -> update

Shapes: ``K`` candidates of one image, ``P`` pairs of one batch, ``C`` network outputs, ``field`` the
independent label maps of a mask, ``*space`` two or three spatial axes in array order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8, UInt16

if TYPE_CHECKING:  # commands that train nothing should not wait for torch
    from torch import Tensor

__all__ = [
    "IGNORE",
    "Candidate",
    "Case",
    "Judge",
    "LabelSpace",
    "Margins",
    "Miner",
    "Objective",
    "Pairs",
    "Policy",
    "Predictor",
    "Region",
    "SegprefError",
    "Slate",
    "Sliceable",
    "State",
    "UnsureJudge",
    "WeightedPairs",
    "Window",
]

IGNORE = 255
"""Mask value of an ignored pixel; such pixels are not part of Omega."""


LARGEST_ON_DISK = 65535
"""Of the values of classes in files."""


class SegprefError(Exception):
    """Something that the user can fix: one sentence that names the file and the fix."""


@dataclass(frozen=True, slots=True)
class Region:
    """A named union of values of a multi-class label map, such as *whole tumour* = 1, 2, 3."""

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """What the values of a mask mean.

    ``multi-class``: one field, value ``v`` is class ``names[v]``, ``names[0]`` is the background.
    ``multi-label``: one binary field per name; structures may overlap.

    Args:
        kind: exclusive label map or independent binary structures.
        names: class names in the order of their values, or structure names in the order of fields.
        regions: multi-class only; what is measured instead of the single classes (nested regions).
        on_disk: multi-class only; the value of every class in the files of the dataset, and in those
            that are written, such as 0, 2, 4. Empty where they are 0, 1, 2, ... Masks in memory hold
            0, 1, 2, ... always; two spaces that differ in this alone are equal.
    """

    kind: Literal["multi-class", "multi-label"]
    names: tuple[str, ...]
    regions: tuple[Region, ...] = ()
    on_disk: tuple[int, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.kind not in ("multi-class", "multi-label"):
            raise SegprefError(
                f"the kind of a label space is multi-class or multi-label, not {self.kind!r}"
            )
        for name, hint in (("names", str), ("regions", Region), ("on_disk", int)):
            given = getattr(self, name)
            if not isinstance(given, tuple) or not all(type(one) is hint for one in given):
                raise SegprefError(
                    f"the {name} of a label space are a tuple of {hint.__name__}, not {given!r:.200}"
                )
        least = 2 if self.kind == "multi-class" else 1
        if len(self.names) < least or len(set(self.names)) < len(self.names):
            raise SegprefError(
                f"a {self.kind} label space needs at least {least} distinct names, got {self.names}"
            )
        if self.regions and self.kind == "multi-label":
            raise SegprefError("regions are unions of classes: they need a multi-class label space")
        if self.on_disk and (
            self.kind == "multi-label"
            or len(self.on_disk) != len(self.names)
            or len(set(self.on_disk)) < len(self.on_disk)
            or not all(0 <= value <= LARGEST_ON_DISK for value in self.on_disk)
        ):
            raise SegprefError(
                "the values on disk are one of each class, whole numbers from 0 to "
                f"{LARGEST_ON_DISK}, not {self.on_disk}"
            )

    @property
    def disk_values(self) -> tuple[int, ...]:
        """The value of every class in files."""
        return self.on_disk or tuple(range(self.values))

    def to_disk(
        self, masks: UInt8[np.ndarray, "*any"]
    ) -> UInt8[np.ndarray, "*any"] | UInt16[np.ndarray, "*any"]:
        """Masks with the values that files hold.

        Raises:
            SegprefError: a class has the value by which masks say that nobody knows, and there are such
                pixels.
        """
        if not self.on_disk:
            return masks
        if IGNORE in self.on_disk and (masks == IGNORE).any():
            raise SegprefError(
                f"the class {self.names[self.on_disk.index(IGNORE)]} is {IGNORE} on disk, as ignored "
                "pixels would be: write masks without these"
            )
        kind = np.uint8 if max(self.on_disk) <= IGNORE else np.uint16
        table = np.full(256, IGNORE, kind)
        table[: len(self.on_disk)] = self.on_disk
        written: np.ndarray = table[masks]
        return written

    @property
    def channels(self) -> int:
        """Number C of network outputs."""
        return len(self.names)

    @property
    def fields(self) -> int:
        """Number of independent label maps in a mask: 1, or one per structure."""
        return 1 if self.kind == "multi-class" else len(self.names)

    @property
    def values(self) -> int:
        """Number of values in a field: C, or 2."""
        return len(self.names) if self.kind == "multi-class" else 2

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of what is measured: foreground classes, regions, or structures."""
        if self.regions:
            return tuple(region.name for region in self.regions)
        return self.names[1:] if self.kind == "multi-class" else self.names

    @property
    def structure_values(self) -> tuple[tuple[int, ...], ...]:
        """Multi-class only: the classes that each structure is made of."""
        if self.regions:
            return tuple(region.values for region in self.regions)
        return tuple((value,) for value in range(1, len(self.names)))

    def decode(
        self, logits: Float[Tensor, "*batch C *space"], channel_dim: int = 1, lead: float = 0.0
    ) -> Tensor:
        """Most likely mask under the logits: argmax, or logit > 0 per structure.

        Args:
            logits: of the network.
            channel_dim: which axis C is.
            lead: by how much a class has to lead over every lower one, or a structure over 0.

        Returns:
            uint8 ``[*batch, field, *space]``.
        """
        if self.kind == "multi-class":
            return _argmax(logits, channel_dim, lead)
        import torch

        return (logits > lead).to(torch.uint8)

    def structure_masks(
        self, masks: UInt8[np.ndarray, "*batch field *space"], field_axis: int = 0
    ) -> Bool[np.ndarray, "*batch structure *space"]:
        """One binary mask per structure; ignored pixels belong to none."""
        if self.kind == "multi-label":
            return np.asarray(masks == 1)
        labels = np.take(masks, 0, axis=field_axis)
        if self.regions:
            parts = [np.isin(labels, values) for values in self.structure_values]
        else:
            parts = [labels == value for value in range(1, len(self.names))]
        return np.stack(parts, axis=field_axis)


def _argmax(logits: Tensor, dim: int, lead: float) -> Tensor:
    """Index of the highest logit, the first of equal ones, as uint8 with the axis kept.

    On the CPU, torch's argmax over a leading axis is many times slower than one comparison a class.
    The values ascend, so the largest label is that of the last class to take the lead.
    """
    import torch

    planes = logits.unbind(dim)
    labels = torch.zeros_like(planes[0], dtype=torch.uint8)
    for value, highest in enumerate(accumulate(planes[:-1], torch.maximum), start=1):
        ahead = planes[value] > (highest + lead if lead else highest)
        labels = torch.maximum(labels, ahead.view(torch.uint8).mul_(value))
    return labels.unsqueeze(dim)


class Sliceable(Protocol):
    """An array that need not be in memory to give a part of itself."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the items."""
        ...

    @property
    def ndim(self) -> int:
        """Number of axes."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """A part of it."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """A box in the grid of an image; it may reach beyond an image that is smaller.

    Args:
        start: its first voxel, below 0 where it begins outside.
        size: its voxels per axis.
        grid: the voxels of the image.
        mirrored: axes along which what lies in the box is seen in a mirror.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]
    grid: tuple[int, ...]
    mirrored: tuple[int, ...] = ()

    @property
    def inside(self) -> tuple[slice, ...]:
        """The part of the window that lies in the image, in the window's own voxels."""
        return tuple(
            slice(n - part.stop, n - part.start) if axis in self.mirrored else part
            for axis, (part, n) in enumerate(zip(self._unmirrored, self.size, strict=True))
        )

    @property
    def _unmirrored(self) -> tuple[slice, ...]:
        sides = zip(self.start, self.size, self.grid, strict=True)
        return tuple(slice(max(0, -at), min(n, full - at)) for at, n, full in sides)

    def cut(self, array: np.ndarray | Sliceable, fill: np.ndarray | float) -> np.ndarray:
        """``[..., *size]`` of an array ``[..., *grid]``; ``fill`` stands outside the image.

        Of an array on disk no more is read than what lies in the window.
        """
        here = tuple(
            slice(at + part.start, at + part.stop)
            for at, part in zip(self.start, self._unmirrored, strict=True)
        )
        ahead = array.ndim - len(self.grid)
        patch = np.empty((*array.shape[:ahead], *self.size), array.dtype)
        patch[...] = fill
        lead = (slice(None),) * ahead
        seen = np.flip(array[lead + here], tuple(ahead + axis for axis in self.mirrored))
        patch[lead + self.inside] = seen
        return patch


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One image with what is known about it.

    Args:
        id: unique in its dataset; a slice of a volume is ``VOLUME/sNNN``.
        patient: who it is of; splits keep all cases of a patient together.
        volume: the volume (patient and time point) that the case is, or is a slice of.
        image: float32 ``[channel, *space]``.
        label: uint8 ``[field, *space]`` with :data:`IGNORE` where unknown, or None.
        raters: the masks of several raters, uint8 ``[rater, field, *space]``, or None.
        spacing_mm: voxel size per spatial axis, or None where the file does not say.
        affine: ``[4, 4]`` voxel to world (RAS, mm) of the volume as it was read, or None.
        oriented: whether the affine, where there is one, says where the axes point to; false where a
            file tells its voxel size alone.
        stratum: what splits are balanced by (such as a diagnosis), or None.
        text: free text that belongs to the image, or None.
        colour: whether the channels are the red, green and blue of a picture.
        window: where the case lies in its image, if it is a patch of it; None for the whole image.
    """

    id: str
    patient: str
    volume: str
    image: Float[np.ndarray, "channel *space"]
    label: UInt8[np.ndarray, "field *space"] | None = None
    raters: UInt8[np.ndarray, "rater field *space"] | None = None
    spacing_mm: tuple[float, ...] | None = None
    affine: Float[np.ndarray, "4 4"] | None = None
    oriented: bool = True
    stratum: str | None = None
    text: str | None = None
    colour: bool = False
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Where a mask of a slate comes from: the proposal family and its settings."""

    family: str
    settings: Mapping[str, float | int | str] = field(default_factory=dict)

    def __str__(self) -> str:
        inside = ", ".join(
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in self.settings.items()
        )
        return f"{self.family} ({inside})" if inside else self.family


@dataclass(frozen=True, slots=True)
class Slate:
    """K candidate masks of one image; index 0 is the anchor, the policy's own prediction.

    Args:
        masks: uint8 ``[K, field, *space]``.
        candidates: K descriptions, in the order of the masks.
        ids: content ids of the whole masks that these are parts of; None where they are whole.
    """

    masks: UInt8[np.ndarray, "K field *space"]
    candidates: tuple[Candidate, ...]
    ids: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.candidates)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Mined preferences of one batch; all arrays have length P.

    Args:
        case: index of the image in the batch.
        field: index of the field that the preference is about.
        winner: index of the preferred candidate in the image's slate.
        loser: index of the other one.
        gap: the judge's score of the winner minus that of the loser, above 0.
        weight: of each pair's margin before the loss, above 0; 1 where None.
        group: pairs with the same number are one margin; every pair is its own where None.
        target: how far the winner is said to be the better one: 1, which is meant where None, one half
            of a tie; of one mask against the anchor 1 where it is accepted and 0 where it is rejected.
        flip_rate: how often whoever said so is wrong, from 0 to 1/2; unknown where None.
        structure: index of the structure of an exclusive label map that the pair is about, -1 for all
            of them; all where None.
    """

    case: Int64[np.ndarray, " P"]
    field: Int64[np.ndarray, " P"]
    winner: Int64[np.ndarray, " P"]
    loser: Int64[np.ndarray, " P"]
    gap: Float[np.ndarray, " P"]
    weight: Float[np.ndarray, " P"] | None = None
    group: Int64[np.ndarray, " P"] | None = None
    target: Float[np.ndarray, " P"] | None = None
    flip_rate: Float[np.ndarray, " P"] | None = None
    structure: Int64[np.ndarray, " P"] | None = None

    def __len__(self) -> int:
        return len(self.case)


@dataclass(frozen=True, slots=True)
class WeightedPairs:
    """Pairs of one field of one slate that belong together.

    Args:
        rows: (winner, loser).
        weight: of each pair's margin before the loss, above 0.
        group: pairs with the same number are one margin; the numbers mean nothing outside the field.
    """

    rows: Int64[np.ndarray, "P 2"]
    weight: Float[np.ndarray, " P"]
    group: Int64[np.ndarray, " P"]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Margins:
    """How much policy and reference prefer each winner to its loser, after the reduction.

    What an objective does not ask for is None. The loser's log-likelihood needs no place of its own:
    it is ``winner - policy``, under every reduction.

    Args:
        policy: reduced log-ratios under the policy, differentiable.
        reference: the same under the frozen reference.
        gap: the judge's score difference of each pair.
        winner: log-likelihood of the winner under the policy, under the same reduction,
            differentiable; there for an objective with ``needs_likelihood``.
        reference_winner: the same under the reference; there for an objective with
            ``needs_reference_likelihood``.
        uncertainty: how unsure the judge is of the gap, in units of its score (one standard
            deviation); if the judge reports it.
        weight: what the margin is multiplied with before the loss (not the loss), above 0; 1 where
            None.
        group: margins with the same number are summed, with their weights, into one margin before
            the loss; every pair is a group of its own where None.
        target: how far the winner is said to be the better one (:class:`Pairs`), for an objective with
            ``soft_targets``; 1 where None.
        flip_rate: how often whoever said so is wrong, from 0 to 1/2; unknown where None.
    """

    policy: Float[Tensor, " P"]
    reference: Float[Tensor, " P"]
    gap: Float[Tensor, " P"]
    winner: Float[Tensor, " P"] | None = None
    reference_winner: Float[Tensor, " P"] | None = None
    uncertainty: Float[Tensor, " P"] | None = None
    weight: Float[Tensor, " P"] | None = None
    group: Int64[Tensor, " P"] | None = None
    target: Float[Tensor, " P"] | None = None
    flip_rate: Float[Tensor, " P"] | None = None

    @property
    def difference(self) -> Float[Tensor, " P"]:
        """Policy part minus reference part: the argument of DPO's sigmoid before beta (Eq. 5)."""
        return self.policy - self.reference


@runtime_checkable
class State(Protocol):
    """What a policy's one differentiable pass leaves behind."""

    @property
    def logits(self) -> Float[Tensor, "B C *space"]:
        """Network outputs, with their graph."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """Anything that turns images into logits without gradients: a policy, or a frozen network."""

    label_space: LabelSpace

    def logits(self, images: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B C *space"]:
        """Logits of a batch, without a graph."""
        ...

    def digest(self) -> str:
        """Name of the weights: predictions are cached under it."""
        ...


@runtime_checkable
class Policy(Predictor, Protocol):
    """The model that is fine-tuned: a distribution over masks given an image."""

    def forward(self, images: Float[Tensor, "B channel *space"]) -> State:
        """The one differentiable pass."""
        ...

    def dropout_logits(
        self, state: State, count: int, rate: float | None, seeds: Sequence[int]
    ) -> Float[Tensor, "S B C *space"] | None:
        """``count`` stochastic reruns of the last stage with dropout; None where it has no dropout.

        ``rate`` None keeps the network's own rates. ``seeds`` has one number per image, which
        determines its masks. No graph; the global random state is untouched.
        """
        ...


@runtime_checkable
class Judge(Protocol):
    """Gives every candidate a score per field, higher is better; NaN abstains."""

    needs_label: bool
    """Whether the judge reads ``case.label``. Only the oracle does."""

    # A judge with a true ``in_workers`` can be pickled and needs no network once it is prepared: it
    # scores in worker processes, if there are any.

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Scores of one slate."""
        ...


@runtime_checkable
class UnsureJudge(Judge, Protocol):
    """A judge that reports its uncertainty."""

    def uncertainty(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """One standard deviation of each score, in units of the score."""
        ...


@runtime_checkable
class Miner(Protocol):
    """Picks (winner, loser) pairs from the scores of one field; index 0 is the anchor."""

    def __call__(
        self, scores: Float[np.ndarray, " K"], rng: np.random.Generator, /
    ) -> Int64[np.ndarray, "P 2"] | WeightedPairs:
        """Pairs as rows (winner, loser), in groups or not; none where nothing can be told."""
        ...


@runtime_checkable
class Objective(Protocol):
    """Turns margins into losses, one per pair.

    An objective that also reads the likelihood of the winner says so with the class attribute
    ``needs_likelihood``, or ``needs_reference_likelihood`` for that under the reference; one that
    reads the judge's uncertainty with ``needs_uncertainty``. One that reads ``Margins.target`` says
    so with ``soft_targets``, so that ties can be learned from, and one whose margins are of single
    masks that are accepted or rejected, each against the anchor, with ``single_masks``.
    """

    def __call__(self, margins: Margins, /) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        ...
