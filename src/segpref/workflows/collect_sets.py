"""Standing sets of candidates, and the questions that are asked about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from segpref.collect.builder import (
    NewMask,
    ShownImage,
    StudyBuilder,
    native_mask,
    shown_image,
)
from segpref.collect.config import CollectConfig
from segpref.collect.contents import Mode
from segpref.collect.selection import (
    Asked,
    PairSelection,
    preference_chance,
    score_scale,
)
from segpref.data import Dataset, Reader
from segpref.judges import Committee
from segpref.policies import ModelCard
from segpref.preferences import content_id
from segpref.progress import track
from segpref.types import Case, Judge, Predictor, Slate
from segpref.workflows.collect_inputs import CollectInputs
from segpref.workflows.collect_slates import KeptSet, MakeSet, made_here

__all__ = ["add_candidate_pairs", "drawn_images", "image_at", "masks_shown"]

SHOWN_MASKS: dict[Mode, int] = {"pair": 2, "best-of-four": 4, "accept-reject": 1}

Chance = Callable[[int], Float[np.ndarray, "field K K"] | None]


def add_candidate_pairs(
    inputs: CollectInputs,
    builder: StudyBuilder,
    config: CollectConfig,
    left_out: Counter[str],
    make: MakeSet = made_here,
) -> None:
    """Make the standing sets of a study, and ask about pairs of them.

    Args:
        inputs: model and images.
        builder: takes the questions.
        config: of images and pairs.
        left_out: counts what is not asked about, by reason.
        make: makes a set, in this process or by the workers of a pool.
    """
    selection = PairSelection(
        config.pairs_per_image,
        SHOWN_MASKS[config.mode],
        random=config.random,
        most_dice=config.most_dice,
        least_voxels=config.least_voxels,
        seed=config.seed,
    )
    for use, places in _divided(inputs, config).items():
        if not places:
            continue
        pool = inputs.pool.take(places)
        made = make(inputs, config, places, builder.folder / _FOLDERS[use])
        chance = _chances(made, pool, inputs.judge)
        for place in track(range(len(pool)), "choosing pairs", len(pool)):
            found = made.slates([place], 0, 0)
            _ask(
                inputs, builder, config, left_out, use, pool, place, found.slates[0],
                selection(
                    found.slates[0].masks, pool.label_space, chance(place), made.doubts[place]
                ),
                found.scores[0],
            )  # fmt: skip


_FOLDERS: dict[Literal["train", "choose"], str] = {"train": "set", "choose": "choose"}


def _ask(
    inputs: CollectInputs,
    builder: StudyBuilder,
    config: CollectConfig,
    left_out: Counter[str],
    use: Literal["train", "choose"],
    pool: Dataset,
    place: int,
    slate: Slate,
    questions: Sequence[Asked],
    scores: Float[np.ndarray, "K field"],
) -> None:
    """Ask about one image."""
    if not questions:
        left_out["images whose candidates hardly differ"] += 1
        return
    case, shown = image_at(inputs.reader, inputs.card, pool, place, config.channel)
    item = builder.add_item(case, use, shown)
    made: dict[int, NewMask] = {}
    added = 0
    several = pool.label_space.kind == "multi-label"
    for one in questions:
        field = one.structure if several else 0
        for number in one.places:
            if number not in made:
                score = float(scores[number, field])
                made[number] = masks_shown(inputs, slate, number, shown, score)
        masks = [made[number] for number in one.places]
        pair = builder.question(
            item, shown, masks, one.structure, information=one.information, chosen_by=one.chosen_by
        )
        added += pair is not None
        left_out["pairs that look the same on the image's own voxels"] += pair is None
    if not added:
        builder.drop_item(item)


def masks_shown(
    inputs: CollectInputs, slate: Slate, place: int, shown: ShownImage, score: float = np.nan
) -> NewMask:
    """A candidate of a slate on the voxels of its image."""
    mask = slate.masks[place]
    return NewMask(
        native=native_mask(mask, inputs.card, shown),
        prepared_id=content_id(mask),
        candidate=slate.candidates[place],
        place=place,
        model=inputs.digest,
        score=None if np.isnan(score) else score,
    )


def image_at(
    reader: Reader, card: ModelCard, pool: Dataset, place: int, channel: int
) -> tuple[Case, ShownImage]:
    """A case of the pool, and how it is shown."""
    one = pool.take([place])
    ((volume, items),) = one.by_volume()
    return one[0], shown_image(reader, volume, items[0], card, channel)


def drawn_images(
    policy: Predictor, pool: Dataset, count: int, seed: int, batch_size: int = 8
) -> list[int]:
    """Images that people are asked about, in the order of the pool.

    Patients take turns, each with an image drawn at random, so that all of them are asked about before
    one is twice. Slices in which the model finds nothing come last: most of them lie beyond the organ.

    Args:
        policy: of whole images.
        pool: to draw from.
        count: how many, at most.
        seed: of the draw.
        batch_size: images per pass.
    """
    rng = np.random.default_rng([seed, 0x1A])
    by_patient: dict[str, list[int]] = {}
    for place, patient in enumerate(_patients(pool)):
        by_patient.setdefault(patient, []).append(place)
    names = rng.permutation(sorted(by_patient)).tolist()
    turns = [rng.permutation(by_patient[name]).tolist() for name in names]
    longest = max(map(len, turns), default=0)
    order = [own[n] for n in range(longest) for own in turns if n < len(own)]
    if len(order) <= count:
        return sorted(order)
    full: list[int] = []
    empty: list[int] = []
    for start in range(0, len(order), batch_size):
        if len(full) >= count:
            break
        places = order[start : start + batch_size]
        images = torch.from_numpy(np.stack([pool[place].image for place in places]))
        with torch.no_grad():
            masks = pool.label_space.decode(policy.logits(images)).flatten(1)
        for place, holds in zip(places, masks.any(dim=1).tolist(), strict=True):
            (full if holds else empty).append(place)
    return sorted([*full, *empty][:count])


def _patients(pool: Dataset) -> list[str]:
    return [pool[place].patient for place in range(len(pool))]


def _divided(
    inputs: CollectInputs, config: CollectConfig
) -> dict[Literal["train", "choose"], list[int]]:
    """Places in the pool of the images to learn from, and of those that choose the checkpoint."""
    pool, names = inputs.pool, _patients(inputs.pool)
    patients = sorted(set(names))
    count = round(config.choose * len(patients))
    if config.choose and len(patients) > 1:
        count = min(max(count, 1), len(patients) - 1)
    rng = np.random.default_rng([config.seed, 0xC4])
    held = set(rng.permutation(patients)[:count].tolist()) if count else set()
    sides = {
        "train": [n for n, name in enumerate(names) if name not in held],
        "choose": [n for n, name in enumerate(names) if name in held],
    }
    most_held = min(len(sides["choose"]), max(1, round(config.choose * config.images)))
    most = {
        "train": max(1, config.images - most_held if held else config.images),
        "choose": most_held,
    }
    at_once = 1 if inputs.in_patches else config.batch_size
    found: dict[Literal["train", "choose"], list[int]] = {}
    for use in _FOLDERS:
        part = pool.take(sides[use])
        drawn = drawn_images(inputs.whole_policy, part, most[use], config.seed, at_once)
        found[use] = [sides[use][place] for place in drawn]
    return found


def _chances(made: KeptSet, pool: Dataset, judge: Judge | None) -> Chance:
    """For every image, the probability that the first of two candidates is better."""
    if judge is None:
        return lambda place: None
    if isinstance(judge, Committee) and len(judge.judges) > 1:
        return made.shares.__getitem__
    scores = np.stack([made.slates([place], 0, 0).scores[0] for place in range(len(pool))])
    scales = [score_scale(scores[..., field]) for field in range(scores.shape[-1])]

    def chance(place: int) -> Float[np.ndarray, "field K K"]:
        columns = zip(scores[place].T, scales, strict=True)
        return np.stack([preference_chance(own, scale) for own, scale in columns])

    return chance
