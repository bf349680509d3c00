"""Votes as what an alignment learns from: studies opened, joined and checked against the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segpref.collect import SlatesByCase, StudyVotes, cases_named, joined, kept_cases, kept_set
from segpref.data import Cache, Dataset, Split, images_for, prepare
from segpref.objectives import KTO, CalibratedDPO
from segpref.preferences import (
    AbstainingJudge,
    Preference,
    PreferenceFolder,
    RecordedPairs,
    in_random_order,
)
from segpref.training import AlignConfig, HeldOut
from segpref.types import SegprefError
from segpref.workflows.collect_inputs import refuse_diffusion
from segpref.workflows.inputs import Inputs, open_inputs
from segpref.workflows.loading import beside, open_trained
from segpref.workflows.options import DataOptions, TrainedModel

__all__ = [
    "VoteInputs",
    "configured",
    "open_vote_inputs",
    "open_votes",
    "pool_of",
]

HELD_OUT = 0.2
"""Share of the patients whose votes choose the checkpoint, where a study holds none out for it."""


@dataclass(frozen=True)
class VoteInputs:
    """Votes on slates that stand.

    Args:
        records: to learn from.
        pool: the images of the slates, in their order.
        slates: folder of the slates.
        held_out: what is not learned from; None where nothing is held out.
        figures: what the report says of them.
    """

    records: RecordedPairs
    pool: Dataset
    slates: Path
    held_out: HeldOut | None
    figures: Mapping[str, Any]


def open_vote_inputs(
    votes: StudyVotes,
    model: Path | None,
    data: Any,
    where: DataOptions,
    opening: TrainedModel,
    cache: Cache,
    pool: Path | str | None,
) -> tuple[Path, Inputs]:
    """Open the model that made the masks, and the images that were voted on.

    Args:
        votes: of some studies.
        model: as given; the copy that the first study keeps where None.
        data: folder of the dataset; None where the study was made of a pool alone.
        where: data, split and cache.
        opening: what may be opened.
        cache: of prepared images.
        pool: folder of images without labels.

    Raises:
        SegprefError: another model than the one that made the masks; or what does not fit together.
    """
    base = votes.model if model is None else model
    if where.split is None and beside(base) is None and beside(votes.model) is not None:
        where = replace(where, split=beside(votes.model))
    if data is None:
        inputs = _without_data(base, where, opening, cache, pool)
    else:
        inputs = open_inputs(base, data, AbstainingJudge(), where, opening, cache, pool)
    refuse_diffusion(inputs.card, base)
    digest = "+".join(one.digest() for one in inputs.model.policies())
    if digest != votes.model_digest:
        raise SegprefError(
            f"{base} is not the model that made the masks that were voted on: leave --model out to "
            f"take {votes.model}, or give the model of the study"
        )
    return base, inputs


def _without_data(
    base: Path, where: DataOptions, opening: TrainedModel, cache: Cache, pool: Path | str | None
) -> Inputs:
    if pool is None:
        raise SegprefError("the images that were voted on are needed: give --data, or --pool")
    opened = open_trained(base, opening)
    card = opened.card
    images = images_for(pool, card.channels)
    dataset = prepare(
        images, card.preparation, cache, card.label_space, orientation=card.orientation
    )
    split = Split(train=dataset.patients, judge=(), validation=(), test=())
    return Inputs(opened, images, dataset, AbstainingJudge(), (), split, None)


def pool_of(inputs: Inputs, cases: Sequence[str], cache: Cache) -> Dataset:
    """The prepared images of some cases, in their order, from the dataset or the pool.

    Raises:
        SegprefError: neither has them all.
    """
    sources = [inputs.dataset]
    if inputs.pool is not None:
        card = inputs.card
        more = prepare(
            inputs.pool, card.preparation, cache, card.label_space, orientation=card.orientation
        )
        sources.append(more)
    return cases_named(sources, cases)


def open_votes(
    votes: StudyVotes,
    inputs: Inputs,
    config: AlignConfig,
    validation: Dataset,
    folder: Path,
    cache: Cache,
) -> VoteInputs:
    """The slates of the studies, joined where there are several, and the records about them.

    Args:
        votes: of some studies.
        inputs: model and images.
        config: of the alignment; ``control`` gives the votes in random order.
        validation: labelled cases; where there are none, held-out votes choose the checkpoint.
        folder: where joined slates go.
        cache: of prepared images.

    Raises:
        SegprefError: too few votes to hold some out.
    """
    sets = [one.slates for one in votes.studies]
    patches = inputs.card.preparation.patch is not None
    slates, cases = _joined(sets, votes.folders, folder / "set", patches)
    pool = pool_of(inputs, cases, cache)
    learned, held = list(votes.learned), list(votes.held_out)
    held_pool, held_slates = pool, slates
    if held and any(kept_cases(one.held_out) for one in votes.studies):
        others = [one.held_out for one in votes.studies]
        held_slates, names = _joined(others, (), folder / "choose", patches)
        held_pool = pool_of(inputs, names, cache)
    else:
        learned, held = (
            _held_back(learned, pool, config.seed) if not len(validation) else (learned, [])
        )
    rates = votes.flip_rates
    if config.control:
        learned = in_random_order(learned, config.seed)
        if rates is not None and isinstance(config.resolved().objective, CalibratedDPO):
            rates = dict.fromkeys(rates, 0.5)
    records = RecordedPairs.of(learned, flip_rates=rates)
    held_out = None
    if held:
        held_out = HeldOut(
            RecordedPairs.of(held, flip_rates=votes.flip_rates), held_pool, held_slates
        )
    return VoteInputs(records, pool, slates, held_out, _figures(votes, learned, held))


def configured(config: AlignConfig, votes: StudyVotes) -> AlignConfig:
    """The configuration with what votes imply: KTO where masks were only accepted or rejected.

    Raises:
        SegprefError: settings that make no sense with votes.
    """
    if config.method not in ("preference", "calibrated") or config.feedback is not None:
        raise SegprefError("votes are preferences: leave method and feedback out")
    for name in ("miner", "families"):
        if getattr(config, name) is not None:
            raise SegprefError(
                f"{name} has no effect with votes, which say the pairs: leave it out"
            )
    if config.reference == "round":
        raise SegprefError("a study's masks are of the base: leave reference out")
    if config.images != "unlabelled" or config.write_preferences:
        raise SegprefError("images and write_preferences have no effect with votes: leave them out")
    if votes.singles and config.objective is None and config.method == "preference":
        beta = 1.0 if config.beta is None else config.beta
        return replace(config, objective=KTO(beta), beta=None, reduction="image")
    return config


def _joined(
    sets: Sequence[Path], recorded: Sequence[PreferenceFolder], folder: Path, whole: bool
) -> tuple[Path, Sequence[str]]:
    """The set of all studies and folders, and the cases that it is of."""
    sets = [path for path in sets if kept_cases(path)]
    if len(sets) == 1 and not recorded:
        return sets[0], kept_cases(sets[0])
    slates = joined([*map(SlatesByCase.of_set, sets), *map(SlatesByCase.of_folder, recorded)])
    return kept_set(slates, folder, whole=whole), slates.cases


def _held_back(
    records: Sequence[Preference], pool: Dataset, seed: int
) -> tuple[list[Preference], list[Preference]]:
    """Records to learn from, and those of a share of the patients."""
    of = {case.id: case.patient for case in pool}
    patients = sorted({of[one.case] for one in records if one.case in of})
    if len(patients) < 2:
        raise SegprefError(
            "there are no validation labels, and votes of one patient can't both be learned from and "
            "choose the checkpoint: vote on images of more patients, or give labelled cases"
        )
    drawn = np.random.default_rng([seed, len(patients)]).permutation(patients)
    held = set(drawn[: max(1, round(HELD_OUT * len(patients)))].tolist())
    learned = [one for one in records if of.get(one.case) not in held]
    return learned, [one for one in records if of.get(one.case) in held]


def _figures(
    votes: StudyVotes, learned: Sequence[Preference], held: Sequence[Preference]
) -> dict[str, Any]:
    told = [*learned, *held]
    choices = Counter(one.choice for one in told)
    return {
        "preferences": len(learned),
        "held out": len(held),
        "raters": len({one.rater for one in told}),
        "images": len({one.case for one in told}),
        "said": dict(sorted(choices.items())),
        "left out": dict(sorted(votes.skipped.items())),
    }
