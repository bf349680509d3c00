"""What a study asks: items, masks and pairs, with opaque ids that tell a rater nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Axes", "Contents", "DisplayInfo", "Item", "Mask", "Mode", "Pair"]

Mode = Literal["pair", "best-of-four", "accept-reject", "base-or-tuned"]
Axes = Literal["LPS", "picture", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayInfo:
    """How an image is shown.

    Args:
        asset: opaque name of its packed values.
        shape: ``(z, y, x)``; z is 1 of a picture.
        axes: ``LPS`` where indices grow to the patient's left, back and head (x, y, z); ``picture`` for
            rows and columns as viewers show them; ``unknown`` where the file does not say.
        dtype: of the values as the file has them, such as ``int16``.
        channels: 1, or 3 for colour.
        spacing_mm: voxel size along z, y, x; None where the file does not say.
        window: centre and width of the grey levels shown at first.
        inverted: whether low values are shown bright, as the file says.
    """

    asset: str
    shape: tuple[int, int, int]
    axes: Axes
    dtype: str
    channels: int = 1
    spacing_mm: tuple[float, float, float] | None = None
    window: tuple[float, float] | None = None
    inverted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An image that raters see.

    Args:
        id: opaque.
        case: id of the case in the dataset.
        patient: who it is of.
        volume: which volume it is, or is a slice of.
        use: what its votes are for: ``train``, ``choose`` a checkpoint, ``gold`` (its label is known),
            or ``evaluate`` (base or tuned).
        display: how it is shown.
    """

    id: str
    case: str
    patient: str
    volume: str
    use: Literal["train", "choose", "gold", "evaluate"]
    display: DisplayInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A candidate that raters see.

    Args:
        id: opaque.
        item: id of its image.
        prepared_id: content id in the prepared grid, under which it is trained on.
        display_id: content id in the image's own grid.
        asset: opaque name of the packed mask.
        candidate: its place in the slate.
        family: what proposed it.
        settings: of the family.
        model: digest of the model that it comes from.
        score: the judge's, where one was asked.
    """

    id: str
    item: str
    prepared_id: str
    display_id: str
    asset: str
    candidate: int
    family: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A question: which of these masks is better, or whether one is good enough.

    Args:
        id: opaque.
        item: id of the image.
        masks: ids of one, two or four masks.
        mode: what is asked.
        structure: name of the structure asked about; all where None.
        field_index: index of the field of the masks that it is about; all where None.
        use: ``gold`` and ``practice`` are never learned from.
        information: expected information, by which it was chosen.
        chosen_by: ``information`` or ``random``.
        gold: which mask is better, where that is known; of one mask 0 where it is good, 1 where not.
        votes: how many raters are to answer it.
        slices: for each of ``axial``, ``coronal`` and ``sagittal``, where its masks differ.
    """

    id: str
    item: str
    masks: tuple[str, ...]
    mode: Mode
    structure: str | None = None
    field_index: int | None = None
    use: Literal["normal", "gold", "practice"] = "normal"
    information: float = 0.0
    chosen_by: Literal["information", "random"] = "information"
    gold: int | None = None
    votes: int = 1
    slices: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Everything that a study asks."""

    items: tuple[Item, ...]
    masks: tuple[Mask, ...]
    pairs: tuple[Pair, ...]
