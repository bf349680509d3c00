"""Masks on images: contours for comparison, and a tint where two masks differ."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from segpref.late import late
from segpref.metrics import iou, overlap_counts, pairwise_dice, pixel_variance
from segpref.report.markup import in_figure
from segpref.report.page import Key, Picture
from segpref.report.views import COLOURS, TINT, View, small_png, view_of
from segpref.types import IGNORE, LabelSpace, Slate

if TYPE_CHECKING:
    from matplotlib import figure as figures
else:
    figures = late("matplotlib.figure")

__all__ = [
    "Overlay",
    "SlatePicture",
    "overlay_keys",
    "overlay_pictures",
    "picture_grid",
    "slate_keys",
    "slate_tiles",
    "variance_pictures",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """One image with masks to compare.

    Args:
        name: of the image.
        image: ``[channel, *space]``; the first channel is shown, or the colours, of a volume the slice
            with most foreground.
        masks: ``[field, *space]`` by the name of what made them, in the order of showing:
            ``{"base": ..., "tuned": ...}``.
        label_space: what the masks' values mean.
        truth: the true mask, or None.
        spacing_mm: voxel size, for the right proportions.
        colour: whether the channels are red, green and blue.
        focus: name of the mask whose errors decide which slice of a volume is shown; that with most
            foreground where empty.
        scores: what is said below each picture, by the name of the mask; its IoU where there is none.
        why: why the image is shown.
    """

    name: str
    image: Float[np.ndarray, "channel *space"]
    masks: Mapping[str, UInt8[np.ndarray, "field *space"]]
    label_space: LabelSpace
    truth: UInt8[np.ndarray, "field *space"] | None = None
    spacing_mm: Sequence[float] | None = None
    colour: bool = False
    focus: str = ""
    scores: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    @property
    def errors(self) -> Bool[np.ndarray, "*space"] | None:
        """Where the mask to look at is wrong; None where there is none, or no truth."""
        if not self.focus or self.truth is None:
            return None
        wrong = (self.masks[self.focus] != self.truth) & (self.truth != IGNORE)
        return np.asarray(wrong.any(axis=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class SlatePicture:
    """The slate of one image as the judge sees it.

    Args:
        name: of the image.
        image: ``[channel, *space]``.
        slate: the candidates; index 0 is the anchor.
        scores: the judge's, of one field; NaN abstains.
        label_space: what the masks' values mean.
        field: which field the scores are of.
        pair: (winner, loser), or None where no pair was mined.
        truth: the true mask, or None.
        spacing_mm: voxel size, for the right proportions.
        colour: whether the channels are red, green and blue.
    """

    name: str
    image: Float[np.ndarray, "channel *space"]
    slate: Slate
    scores: Float[np.ndarray, " K"]
    label_space: LabelSpace
    field: int = 0
    pair: tuple[int, int] | None = None
    truth: UInt8[np.ndarray, "field *space"] | None = None
    spacing_mm: Sequence[float] | None = None
    colour: bool = False


def overlay_pictures(overlays: Iterable[Overlay]) -> tuple[Picture, ...]:
    """One picture per image and mask, with the outline of the truth on each where there is one."""
    pictures = []
    for one in overlays:
        known = [*one.masks.values()] + ([] if one.truth is None else [one.truth])
        view = view_of(one.image, known, one.label_space, one.spacing_mm, one.colour, one.errors)
        true = None if one.truth is None else one.label_space.structure_masks(one.truth)
        for name, mask in one.masks.items():
            parts = one.label_space.structure_masks(mask)
            valid = one.scores.get(name) or _iou_told(mask, one.truth, one.label_space)
            if one.why:
                valid = f"{one.why}. {valid}"
            alt = f"{one.name}: outlines of the prediction by {name}"
            alt += f" and of the ground truth; {valid}" if valid else ""
            title = f"{one.name}: {name}"
            pictures.append(Picture(view.draw(parts, true, size=3.0), f"{alt}.", title, valid))
    return tuple(pictures)


def picture_grid(pictures: Sequence[Picture], columns: Sequence[str]) -> bytes:
    """Pictures in one, a row per image and a column per method (RN-DPO, Fig. 4), as a PNG."""
    rows = len(pictures) // len(columns)
    figure = figures.Figure((1.6 * len(columns), 1.8 * rows), dpi=150, layout="constrained")
    every = figure.subplots(rows, len(columns), squeeze=False)
    for number, (axes, picture) in enumerate(zip(every.flat, pictures, strict=True)):
        axes.imshow(np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB")))
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(in_figure(picture.caption), fontsize=7)
        if number < len(columns):
            axes.set_title(in_figure(columns[number]), fontsize=8)
    return small_png(figure)


def overlay_keys(overlays: Sequence[Overlay]) -> tuple[Key, ...]:
    """Legend of :func:`overlay_pictures`."""
    if not overlays:
        return ()
    truth = any(one.truth is not None for one in overlays)
    return _structure_keys(overlays[0].label_space.structures, truth)


def slate_tiles(shown: SlatePicture) -> tuple[Picture, ...]:
    """A picture per candidate, best score first, abstained ones last; winner, loser, anchor marked.

    Of candidates with the same mask one is shown, with how many others are like it.
    """
    masks = shown.slate.masks
    view = view_of(shown.image, masks, shown.label_space, shown.spacing_mm, shown.colour)
    true = None if shown.truth is None else _of_field(shown.truth, shown.label_space, shown.field)
    differ = None
    if shown.pair is not None:
        winner, loser = shown.pair
        differ = masks[winner, shown.field] != masks[loser, shown.field]
    ranked = sorted(
        range(len(masks)),
        key=lambda k: (math.isnan(shown.scores[k]), -np.nan_to_num(shown.scores[k]), k),
    )
    groups: dict[bytes, list[int]] = {}
    for k in ranked:
        same = blake2b(np.ascontiguousarray(masks[k, shown.field]).data).digest()
        groups.setdefault(same, []).append(k)
    marked = {0, *(shown.pair or ())}
    tiles = []
    for alike in groups.values():
        # Who has a part in the pair is shown, whoever else looks like it.
        chosen = [k for k in alike if k in marked] or alike[:1]
        tile = _tile(shown, view, true, differ, chosen[0])
        if more := len(alike) - len(chosen):
            tile = replace(tile, caption=f"{tile.caption}, and {more} alike")
        tiles += [tile, *(_tile(shown, view, true, differ, k) for k in chosen[1:])]
    return tuple(tiles)


def slate_keys(shown: SlatePicture) -> tuple[Key, ...]:
    """Legend of :func:`slate_tiles`."""
    structures = shown.label_space.structures
    if shown.label_space.kind == "multi-label":
        structures = structures[shown.field : shown.field + 1]
    keys = _structure_keys(structures, shown.truth is not None)
    if shown.pair is None:
        return keys
    return (*keys, Key("where winner and loser differ", TINT, "fill"))


def variance_pictures(slates: Sequence[SlatePicture]) -> tuple[Picture, ...]:
    """Where the candidates of each slate of one image differ (MAPO, Fig. 3), all in the same view."""
    first = slates[0]
    every = [mask for shown in slates for mask in shown.slate.masks]
    view = view_of(first.image, every, first.label_space, first.spacing_mm, first.colour)
    return tuple(_variance(shown, view) for shown in slates)


def _variance(shown: SlatePicture, view: View) -> Picture:
    masks = shown.slate.masks
    # Of the part that is shown: of a whole volume it would take much memory.
    variance = pixel_variance(view.of(masks), shown.label_space)
    alike = pairwise_dice(masks, shown.label_space)
    if shown.label_space.kind == "multi-label":
        variance, alike = variance[[shown.field]], alike[[shown.field]]
    valid = alike[~np.isnan(alike)]
    caption = f"pairwise Dice {valid.mean():.3f}" if len(valid) else "all empty"
    png = view.draw((), None, heat=variance.max(axis=0) * 4, size=3.0)
    alt = f"Variance of {len(masks)} candidates: bright where they differ; {caption}."
    return Picture(png, alt, shown.name, caption)


def _tile(
    shown: SlatePicture,
    view: View,
    true: Bool[np.ndarray, "structure *space"] | None,
    differ: Bool[np.ndarray, "*space"] | None,
    number: int,
) -> Picture:
    roles = {0: "anchor"} | dict(zip(shown.pair or (), ("winner", "loser"), strict=False))
    role = roles.get(number, "")
    paired = role in ("winner", "loser")
    score = shown.scores[number]
    valid = "abstains" if math.isnan(score) else f"{score:.3f}"
    candidate = shown.slate.candidates[number]
    parts = _of_field(shown.slate.masks[number], shown.label_space, shown.field)
    badge = f"{role} = anchor" if paired and number == 0 else role
    png = view.draw(parts, true, tint=differ if paired else None, size=2.0)
    alt = f"Candidate {number}, {candidate}: score {valid}" + (f", {badge}" if badge else "")
    return Picture(png, f"{alt}.", valid, str(candidate), badge, role)  # type: ignore[arg-type]


def _structure_keys(structures: Sequence[str], truth: bool) -> tuple[Key, ...]:
    keys = [Key(name, colour) for name, colour in zip(structures, cycle(COLOURS), strict=False)]
    return (*keys, Key("ground truth", "#9aa2ab", "dashed")) if truth else tuple(keys)


def _of_field(
    mask: UInt8[np.ndarray, "field *space"], space: LabelSpace, number: int
) -> Bool[np.ndarray, "structure *space"]:
    parts = space.structure_masks(mask)
    return parts if space.kind == "multi-class" else parts[number : number + 1]


def _iou_told(mask: np.ndarray, truth: np.ndarray | None, space: LabelSpace) -> str:
    if truth is None:
        return ""
    each = iou(overlap_counts(mask[None], truth, space), math.nan)[0]
    each = each if space.labelled is None else each[space.labelled]
    valid = each[~np.isnan(each)]
    return f"IoU {valid.mean():.3f}" if len(valid) else ""
