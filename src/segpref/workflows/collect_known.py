"""Pairs with a known answer: gold pairs check raters, practice pairs are what everybody sees first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from segpref.collect.builder import NewMask, StudyBuilder, native_mask
from segpref.collect.config import CollectConfig
from segpref.collect.one_structure import one_structure_slate
from segpref.data import Dataset
from segpref.preferences import Candidates, content_id
from segpref.progress import track
from segpref.types import IGNORE, Candidate, LabelSpace
from segpref.workflows.collect_inputs import CollectInputs
from segpref.workflows.collect_sets import image_at, masks_shown

__all__ = ["add_known_pairs"]

GOOD_DICE = 0.8
"""Of a candidate that is shown as the better one; the label itself is shown where none is as good."""

CLEAR_GAP = 0.2
"""Of Dice, at least, between the better mask and the worse one."""


def add_known_pairs(
    inputs: CollectInputs, builder: StudyBuilder, config: CollectConfig, left_out: Counter[str]
) -> None:
    """Ask about labelled images of patients whom nothing was trained with, and never will be.

    One mask is near the label, the other clearly worse: ``CLEAR_GAP`` of Dice, at least.

    Args:
        inputs: model and labelled images.
        builder: takes the questions.
        config: how many.
        left_out: counts what could not be asked.
    """
    count = round(config.gold * len(builder.pairs))
    count = max(count, 1) if config.gold else 0
    uses: list[Literal["practice", "gold"]] = ["practice"] * config.practice
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
    waiting: list[Literal["practice", "gold"]],
) -> None:
    """Ask about one image, about one structure: the one with the largest gap."""
    case = pool[place]
    assert case.label is not None
    seen = replace(case, label=None, raters=None)
    slate = Candidates(inputs.whole_policy, inputs.proposals)([seen], config.seed, (1,))[0]
    slate = one_structure_slate(slate, pool.label_space)
    found = max(
        _known(slate.masks, case.label, pool.label_space), key=lambda one: one.gap, default=None
    )
    if found is None or found.gap < CLEAR_GAP:
        return
    assert inputs.known_reader is not None
    _, shown = image_at(inputs.known_reader, inputs.card, pool, place, config.channel)
    masks = [masks_shown(inputs, slate, found.worse, shown)]
    if found.better is None:
        label = np.where(case.label == IGNORE, 0, case.label).astype(np.uint8)
        native = native_mask(label, inputs.card, shown)
        better = NewMask(native=native, prepared_id=content_id(label), candidate=Candidate("label"))
    else:
        better = masks_shown(inputs, slate, found.better, shown)
    item = builder.add_item(case, "gold", shown)
    pair = builder.question(
        item, shown, [better, *masks], found.structure, use=waiting[-1], gold=0, chosen_by="random",
        mode="pair",
    )  # fmt: skip
    if pair is None:
        builder.drop_item(item)
    else:
        waiting.pop()


class _Known(NamedTuple):
    """A better and a worse candidate; the label itself is the better one where None."""

    gap: float
    structure: int
    better: int | None
    worse: int


def _known(
    masks: UInt8[np.ndarray, "K field *space"],
    label: UInt8[np.ndarray, "field *space"],
    space: LabelSpace,
) -> Iterator[_Known]:
    truth = space.structure_masks(label)
    inside = space.structure_masks(masks, field_axis=1)
    for structure, true in enumerate(truth):
        if not true.any():
            continue
        dice = _dice(inside[:, structure], true)
        best, worst = int(dice.argmax()), int(dice.argmin())
        good = float(dice[best]) >= GOOD_DICE
        gap = float(dice[best] if good else 1.0) - float(dice[worst])
        yield _Known(gap, structure, best if good else None, worst)


def _dice(
    masks: UInt8[np.ndarray, "K *space"], true: UInt8[np.ndarray, "*space"]
) -> Float[np.ndarray, " K"]:
    axes = tuple(range(1, masks.ndim))
    both = (masks & true).sum(axis=axes)
    return np.asarray(2 * both / (masks.sum(axis=axes) + true.sum()))
