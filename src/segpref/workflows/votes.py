"""Votes as what an alignment learns from: studies opened, joined and checked against the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segpref.collect import (
    StudyFolder,
    VoteStore,
    contents_digest,
    kept_cases,
    preferences_from_votes,
    ratings_of,
)
from segpref.data import Cache, Dataset, Split, images_for, prepare
from segpref.objectives import KTO, CalibratedDPO
from segpref.preferences import (
    AbstainingJudge,
    Preference,
    RecordedPairs,
    flip_rates,
    in_random_order,
)
from segpref.training import AlignConfig, HeldOut
from segpref.types import SegprefError
from segpref.workflows.inputs import Inputs, open_inputs
from segpref.workflows.loading import beside, open_trained
from segpref.workflows.options import DataOptions, TrainedModel
from segpref.workflows.standing import join_sets

__all__ = [
    "VoteInputs",
    "Votes",
    "configured",
    "open_vote_inputs",
    "open_votes",
    "pool_of",
    "read_studies",
]

HELD_OUT = 0.2
"""Share of the patients whose votes choose the checkpoint, where a study holds none out for it."""


class Votes(NamedTuple):
    """What the votes of some studies say.

    Args:
        studies: their folders, opened.
        learned: preferences to learn from.
        held_out: preferences of the patients whose votes choose the checkpoint.
        flip_rates: how often each rater is wrong.
        skipped: how many votes are not used, by reason.
    """

    studies: Sequence[StudyFolder]
    learned: Sequence[Preference]
    held_out: Sequence[Preference]
    flip_rates: Mapping[str, float]
    skipped: Mapping[str, int]

    @property
    def singles(self) -> bool:
        """Whether masks were accepted or rejected, and none was compared with another."""
        return all(one.choice in ("accept", "reject") for one in self.learned)


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


def read_studies(paths: Sequence[Path], database: str | None = None) -> Votes:
    """The votes of some studies of one model.

    Args:
        paths: of the studies.
        database: where the votes are, if not in the study's folder; of one study only.

    Raises:
        SegprefError: no study, or one without votes; studies of different models.
    """
    if database is not None and len(paths) > 1:
        raise SegprefError(
            "a database holds the votes of one study: give one study with --database, or leave it out"
        )
    studies = [StudyFolder(path) for path in paths]
    if len({one.path.resolve() for one in studies}) < len(studies):
        raise SegprefError("a study is named twice in --votes: name each once")
    for one in studies:
        if one.note.mode == "base-or-tuned":
            raise SegprefError(
                f"{one.path} asks which of two models is better, which evaluates and is not learned "
                "from: see segpref collect report"
            )
        if one.note.model_digest != studies[0].note.model_digest:
            raise SegprefError(
                f"the masks of {one.path} are of another model than those of {studies[0].path}: "
                "align with the studies of one model at a time"
            )
    learned: list[Preference] = []
    held: list[Preference] = []
    ratings, skipped = [], Counter[str]()
    for one in studies:
        rows = _rows(one, database)
        ratings += ratings_of(rows)
        learned += preferences_from_votes(rows, ["train"]).records
        held += preferences_from_votes(rows, ["choose"]).records
        skipped += preferences_from_votes(rows, ("train", "choose")).skipped
    if not learned:
        raise SegprefError(
            f"nobody has voted in {' or '.join(str(one.path) for one in studies)} on images to learn "
            "from: let people vote first (segpref collect serve)"
        )
    return Votes(studies, learned, held, flip_rates(ratings), dict(skipped))


def _rows(study: StudyFolder, database: str | None) -> list[Any]:
    where = study.database if database is None else database
    with VoteStore(where) as store:
        if store.contents_digest != contents_digest(study.contents()):
            raise SegprefError(
                f"{where} does not hold the votes of {study.path}: give the database of this study, or "
                "collect votes first (segpref collect serve)"
            )
        return list(store.votes())


def open_vote_inputs(
    votes: Votes,
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
    study = votes.studies[0]
    base = study.base if model is None else model
    if where.split is None and beside(base) is None and beside(study.base) is not None:
        where = replace(where, split=beside(study.base))
    if data is None:
        inputs = _without_data(base, where, opening, cache, pool)
    else:
        inputs = open_inputs(base, data, AbstainingJudge(), where, opening, cache, pool)
    digest = "+".join(one.digest() for one in inputs.model.policies())
    if digest != study.note.model_digest:
        raise SegprefError(
            f"{base} is not the model that made the masks of {study.path}: give {study.note.model}, or "
            "leave --model out to take the copy in the study"
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
    missing: set[str] = set()
    for dataset in sources:
        places = {dataset[index].id: index for index in range(len(dataset))}
        if missing := set(cases) - places.keys():
            continue
        return dataset.take([places[case] for case in cases])
    raise SegprefError(
        f"the images that were voted on are not all there ({sorted(missing)[0]} is missing): give the "
        "--data, and the --pool, that the study was made of"
    )


def open_votes(
    votes: Votes,
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
    slates, cases = _joined(votes.studies, "slates", folder / "set", inputs, cache)
    pool = pool_of(inputs, cases, cache)
    learned, held = list(votes.learned), list(votes.held_out)
    held_pool, held_slates = pool, slates
    if held and any(kept_cases(one.held_out) for one in votes.studies):
        held_slates, names = _joined(votes.studies, "held_out", folder / "choose", inputs, cache)
        held_pool = pool_of(inputs, names, cache)
    else:
        learned, held = (
            _held_back(learned, pool, config.seed) if not len(validation) else (learned, [])
        )
    rates = votes.flip_rates
    if config.control:
        learned = in_random_order(learned, config.seed)
        if isinstance(config.resolved().objective, CalibratedDPO):
            rates = dict.fromkeys(rates, 0.5)
    records = RecordedPairs.of(learned, flip_rates=rates)
    held_out = None
    if held:
        held_out = HeldOut(
            RecordedPairs.of(held, flip_rates=votes.flip_rates), held_pool, held_slates
        )
    return VoteInputs(records, pool, slates, held_out, _figures(votes, learned, held))


def configured(config: AlignConfig, votes: Votes) -> AlignConfig:
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
    if config.images != "unlabelled" or config.keep_preferences:
        raise SegprefError("images and keep_preferences have no effect with votes: leave them out")
    if votes.singles and config.objective is None and config.method == "preference":
        beta = 1.0 if config.beta is None else config.beta
        return replace(config, objective=KTO(beta), beta=None, reduction="image")
    return config


def _joined(
    studies: Sequence[StudyFolder], which: str, folder: Path, inputs: Inputs, cache: Cache
) -> tuple[Path, tuple[str, ...]]:
    """The set of all studies, and the cases that it is of."""
    folders = [path for path in (getattr(one, which) for one in studies) if kept_cases(path)]
    if len(folders) == 1:
        return folders[0], kept_cases(folders[0])
    parts = [(path, pool_of(inputs, kept_cases(path), cache)) for path in folders]
    cases = tuple(dict.fromkeys(case for path in folders for case in kept_cases(path)))
    join_sets(parts, pool_of(inputs, cases, cache), folder)
    return folder, cases


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
    votes: Votes, learned: Sequence[Preference], held: Sequence[Preference]
) -> dict[str, Any]:
    told = [*learned, *held]
    choices = Counter(one.choice for one in told)
    return {
        "preferences": len(learned),
        "held out": len(held),
        "raters": len({one.rater for one in told}),
        "images": len({one.case for one in told}),
        **{f"said {name}": count for name, count in sorted(choices.items())},
        **{f"left out: {why}": count for why, count in sorted(votes.skipped.items())},
    }
