"""Pairs with a known answer: gold pairs check raters, practice pairs are what everybody sees first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from segpref.collect.builder import NewMask, ShownImage, StudyBuilder, native_mask
from segpref.collect.config import CollectConfig
from segpref.collect.one_structure import one_structure_slate
from segpref.data import Dataset
from segpref.preferences import Candidates, content_id
from segpref.progress import track
from segpref.types import IGNORE, Candidate, Case, LabelSpace, Slate
from segpref.workflows.collect_inputs import CollectInputs
from segpref.workflows.collect_sets import SHOWN_MASKS, image_at, masks_shown

__all__ = ["add_known_pairs"]

GOOD_DICE = 0.8
"""Of a candidate that is shown as the better one; the label itself is shown where none is as good."""

CLEAR_GAP = 0.2
"""Of Dice, at least, between the better mask and the worse ones."""

Use = Literal["practice", "gold"]


def add_known_pairs(
    inputs: CollectInputs, builder: StudyBuilder, config: CollectConfig, left_out: Counter[str]
) -> None:
    """Ask about labelled images of patients whom nothing was trained with, and never will be.

    They are asked as all others are. One mask is near the label, the others are clearly worse:
    ``CLEAR_GAP`` of Dice, at least. Where one mask is shown, every second one is a good one. Of
    two models, whole masks are compared.

    Args:
        inputs: model and labelled images.
        builder: takes the questions.
        config: how many, and how they are asked.
        left_out: counts what could not be asked.
    """
    count = round(config.gold * len(builder.pairs))
    count = max(count, 1) if config.gold else 0
    uses: list[Use] = ["practice"] * config.practice
    uses += ["gold"] * count
    if not uses:
        return
    if inputs.known is None or inputs.known_reader is None or not inputs.can_make_slates:
        left_out["pairs with a known answer, for want of labelled patients to make them of"] += len(
            uses
        )
        return
    pool = inputs.known
    inputs.proposals.prepare(pool)
    waiting = list(reversed(uses))
    order = np.random.default_rng([config.seed, 0x60]).permutation(len(pool)).tolist()
    for place in track(order, "making pairs with a known answer", len(order)):
        if not waiting:
            break
        _ask(inputs, builder, config, pool, place, waiting)
    if waiting:
        left_out["pairs with a known answer, for want of candidates that are clearly worse"] += len(
            waiting
        )


def _ask(
    inputs: CollectInputs,
    builder: StudyBuilder,
    config: CollectConfig,
    pool: Dataset,
    place: int,
    waiting: list[Use],
) -> None:
    """Ask about one image, about one structure: the one with the largest gap."""
    case = pool[place]
    assert case.label is not None
    seen = replace(case, label=None, raters=None)
    slate = Candidates(inputs.whole_policy, inputs.proposals)([seen], config.seed, (1,))[0]
    whole = config.mode == "base-or-tuned"
    if not whole:
        slate = one_structure_slate(slate, pool.label_space)
    worse = max(SHOWN_MASKS.get(config.mode, 2) - 1, 1)
    # A label that leaves structures out is no mask to be shown as the better one.
    partial = bool(pool.label_space.unlabelled)
    found = max(
        (
            one
            for one in _known(slate.masks, case.label, pool.label_space, worse, whole)
            if one.better is not None or not partial
        ),
        key=lambda one: one.gap,
        default=None,
    )
    if found is None or found.gap < CLEAR_GAP:
        return
    assert inputs.known_reader is not None
    _, shown = image_at(inputs.known_reader, inputs.card, pool, place, config.channel)
    others = [masks_shown(inputs, slate, one, shown) for one in found.worse]
    masks, gold = [_better(inputs, slate, found, case, shown), *others], 0
    if config.mode == "accept-reject":
        gold = len(waiting) % 2
        masks = masks[gold : gold + 1]
    item = builder.add_item(case, "gold", shown)
    pair = builder.question(
        item, shown, masks, found.structure, use=waiting[-1], gold=gold, chosen_by="random"
    )
    if pair is None:
        builder.drop_item(item)
    else:
        waiting.pop()


def _better(
    inputs: CollectInputs, slate: Slate, found: _Known, case: Case, shown: ShownImage
) -> NewMask:
    if found.better is not None:
        return masks_shown(inputs, slate, found.better, shown)
    assert case.label is not None
    label = np.where(case.label == IGNORE, 0, case.label).astype(np.uint8)
    native = native_mask(label, inputs.card, shown)
    return NewMask(native=native, prepared_id=content_id(label), candidate=Candidate("label"))


class _Known(NamedTuple):
    """A better candidate and worse ones; the label itself is the better one where None.

    The structure is None where masks are compared as a whole.
    """

    gap: float
    structure: int | None
    better: int | None
    worse: tuple[int, ...]


def _known(
    masks: UInt8[np.ndarray, "K field *space"],
    label: UInt8[np.ndarray, "field *space"],
    space: LabelSpace,
    worse: int,
    whole: bool,
) -> Iterator[_Known]:
    """What could be asked, with so many worse masks that differ from each other where it is asked."""
    truth = space.structure_masks(label)
    inside = space.structure_masks(masks, field_axis=1)
    there = [number for number, true in enumerate(truth) if true.any()]
    if whole and there:
        dice = np.mean([_dice(inside[:, number], truth[number]) for number in there], axis=0)
        yield from _found(dice, masks, None, worse)
    for number in [] if whole else there:
        yield from _found(_dice(inside[:, number], truth[number]), inside[:, number], number, worse)


def _found(
    dice: Float[np.ndarray, " K"],
    shown: np.ndarray,
    structure: int | None,
    worse: int,
) -> Iterator[_Known]:
    best = int(dice.argmax())
    good = float(dice[best]) >= GOOD_DICE
    rows: list[int] = []
    for row in dice.argsort(kind="stable").tolist():
        if len(rows) == worse:
            break
        if row != best and not any(np.array_equal(shown[row], shown[other]) for other in rows):
            rows.append(row)
    if len(rows) == worse:
        # The least bad one decides.
        gap = float(dice[best] if good else 1.0) - float(dice[rows[-1]])
        yield _Known(gap, structure, best if good else None, tuple(rows))


def _dice(
    masks: UInt8[np.ndarray, "K *space"], true: UInt8[np.ndarray, "*space"]
) -> Float[np.ndarray, " K"]:
    axes = tuple(range(1, masks.ndim))
    both = (masks & true).sum(axis=axes)
    return np.asarray(2 * both / (masks.sum(axis=axes) + true.sum()))
