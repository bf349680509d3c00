"""Puts images, masks and questions of a study together: ids, packed files and records."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import UInt8

from segpref.collect.contents import Contents, DisplayInfo, Item, Mask, Mode, Pair
from segpref.collect.display import Layout, layout_of, packed_mask
from segpref.collect.displays import display_file, write_display
from segpref.collect.native import Native, native_of
from segpref.collect.slices import Axis
from segpref.data.dataset import Volume
from segpref.data.preparation import Preparation
from segpref.data.source import Reader
from segpref.inference.decoding import decoded, restored
from segpref.policies import ModelCard
from segpref.preferences import content_id
from segpref.types import Candidate, Case, LabelSpace, SegprefError

__all__ = [
    "NewMask",
    "ShownImage",
    "StudyBuilder",
    "differing_slices",
    "native_mask",
    "shown_image",
    "structure_of",
]

Use = Literal["train", "choose", "gold", "evaluate"]


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image as it is shown, with what leads masks to it.

    Args:
        case: as it was read.
        layout: of its axes.
        native: its values.
        turned_to: where the axes of the volume were turned to, unlike those of others.
    """

    case: Case
    layout: Layout
    native: Native
    turned_to: str | None = None


def shown_image(
    reader: Reader, volume: Volume, item: int | None, card: ModelCard, channel: int = 0
) -> ShownImage:
    """Read an image of a dataset for the display.

    Of a model that sees slices of volumes only the slice is shown: there is no mask of the others.

    Args:
        reader: of the dataset.
        volume: which image.
        item: which of its prepared images; the whole image where None.
        card: of the model.
        channel: that is shown.
    """
    case = reader.read(volume.source)
    native = native_of(volume.source, case, channel)
    sliced = card.preparation.dims == 2 and case.image.ndim == 4
    codes = volume.turned or getattr(card.preparation, "orientation", None)
    layout = layout_of(case, item if sliced else None, codes)
    return ShownImage(case, layout, native, volume.turned)


def native_mask(
    mask: UInt8[np.ndarray, "field *grid"], card: ModelCard, shown: ShownImage
) -> UInt8[np.ndarray, "field *space"]:
    """A mask of the prepared image on the image's own voxels, the way in which predictions go.

    Args:
        mask: in the grid of the network.
        card: of the model.
        shown: the image.

    Returns:
        On the axes of the file; of a slice of a volume as thick as a slice.
    """
    space, own = card.label_space, card.preparation
    if shown.turned_to is not None and isinstance(own, Preparation):
        own = replace(own, orientation=shown.turned_to)
    values = mask if space.kind == "multi-label" else _one_hot(mask[0], space.channels)
    logits = torch.from_numpy(values.astype(np.float32) * 2 - 1)[None]
    case = replace(shown.case, label=None, raters=None)
    return decoded(restored(logits, replace(card, preparation=own), case), space)


def structure_of(packed: np.ndarray, space: LabelSpace, structure: int | None) -> np.ndarray:
    """Where a packed mask holds a structure; of all structures what it holds."""
    if structure is None:
        return packed
    if space.kind == "multi-label":
        return np.asarray((packed >> np.uint32(structure)) & np.uint32(1))
    inside: np.ndarray = space.structure_masks(packed[None])[structure]
    return inside


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMask:
    """A mask that is to be shown.

    Args:
        native: on the voxels of the file.
        prepared_id: content id in the grid of the network.
        candidate: where it comes from.
        place: in the slate.
        model: digest of the model.
        score: the judge's.
    """

    native: UInt8[np.ndarray, "field *space"]
    prepared_id: str
    candidate: Candidate
    place: int = 0
    model: str = ""
    score: float | None = None


@dataclass
class StudyBuilder:
    """Collects the contents of a study and writes what is shown.

    Args:
        folder: of the study.
        card: of the model that made the masks.
        mode: what is asked.
        votes: how many raters answer each pair.
    """

    folder: Path
    card: ModelCard
    mode: Mode
    votes: int = 1
    items: list[Item] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    @property
    def contents(self) -> Contents:
        """What there is by now."""
        return Contents(items=tuple(self.items), masks=tuple(self.masks), pairs=tuple(self.pairs))

    def add_item(self, case: Case, use: Use, shown: ShownImage) -> Item:
        """Add an image.

        Args:
            case: in the dataset.
            use: what votes about it are for.
            shown: how it is shown.
        """
        values = shown.layout(shown.native.values)
        asset = new_id()
        write_display(self.folder, asset, values)
        z, y, x = values.shape[:3]
        display = DisplayInfo(
            asset=asset,
            shape=(z, y, x),
            axes=shown.layout.axes,
            dtype=values.dtype.name,
            channels=3 if values.ndim == 4 else 1,
            spacing_mm=shown.layout.spacing_mm,
            window=shown.native.window,
            inverted=shown.native.inverted,
        )
        item = Item(
            id=new_id(), case=case.id, patient=case.patient, volume=case.volume, use=use,
            display=display,
        )  # fmt: skip
        self.items.append(item)
        return item

    def drop_item(self, item: Item) -> None:
        """Take back an image that nothing is asked about."""
        self.items.remove(item)
        display_file(self.folder, item.display.asset).unlink(missing_ok=True)

    def question(
        self,
        item: Item,
        shown: ShownImage,
        masks: Sequence[NewMask],
        structure: int | None,
        *,
        use: Literal["normal", "gold", "practice"] = "normal",
        information: float = 0.0,
        chosen_by: Literal["information", "random"] = "information",
        gold: int | None = None,
    ) -> Pair | None:
        """Add a question about an image; None where two of its masks look the same in what is asked.

        Args:
            item: of the image.
            shown: how it is shown.
            masks: one, two or four.
            structure: number of the one that is asked about; all where None.
            use: of the answer.
            information: that is expected of it.
            chosen_by: how it was chosen.
            gold: which mask is better, where that is known; of one mask 0 where it is good, 1 where
                not.
        """
        space = self.card.label_space
        packed = [packed_mask(one.native, shown.layout, space) for one in masks]
        asked = [structure_of(one, space, structure) for one in packed]
        apart = [_differs(one, other) for n, one in enumerate(asked) for other in asked[n + 1 :]]
        if apart and not all(one.any() for one in apart):
            return None
        ids = [self._mask(item, one, values) for one, values in zip(masks, packed, strict=True)]
        differing = np.logical_or.reduce(apart) if apart else asked[0] != 0
        several = space.kind == "multi-label"
        pair = Pair(
            id=new_id(),
            item=item.id,
            masks=tuple(ids),
            mode=self.mode,
            structure=None if structure is None else space.structures[structure],
            field_index=None if structure is None else structure if several else 0,
            use=use,
            information=information,
            chosen_by=chosen_by,
            gold=gold,
            votes=self.votes,
            slices=differing_slices(differing),
        )
        self.pairs.append(pair)
        return pair

    def _mask(self, item: Item, mask: NewMask, packed: np.ndarray) -> str:
        """The id of a mask, which is packed once for all questions that show it."""
        display_id = content_id(mask.native)
        for one in self.masks:
            if (one.item, one.prepared_id, one.display_id) == (
                item.id,
                mask.prepared_id,
                display_id,
            ):
                return one.id
        made = Mask(
            id=new_id(),
            item=item.id,
            prepared_id=mask.prepared_id,
            display_id=display_id,
            asset=new_id(),
            candidate=mask.place,
            family=mask.candidate.family,
            settings=dict(mask.candidate.settings),
            model=mask.model,
            score=mask.score,
        )
        write_display(self.folder, made.asset, packed)
        self.masks.append(made)
        return made.id


def differing_slices(differing: np.ndarray) -> Mapping[str, tuple[int, ...]]:
    """Which slices hold something, along every axis that an image has slices along.

    Of a single slice only the axis that it is cut along is named.
    """
    axes: tuple[Axis, ...] = get_args(Axis)
    thin = [n for n in range(3) if differing.shape[n] == 1]
    found: dict[str, tuple[int, ...]] = {}
    for number, axis in enumerate(axes):
        if thin and number != thin[0]:
            continue
        others = tuple(n for n in range(3) if n != number)
        found[axis] = tuple(np.flatnonzero(differing.any(axis=others)).tolist())
    return found


def new_id() -> str:
    """An opaque id, which carries no information."""
    return secrets.token_urlsafe(16)


def _differs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    if one.shape != other.shape:
        raise SegprefError("masks of one image have different sizes: make the study again")
    return np.asarray(one != other)


def _one_hot(labels: UInt8[np.ndarray, "*grid"], classes: int) -> np.ndarray:
    return np.stack([labels == value for value in range(classes)])
