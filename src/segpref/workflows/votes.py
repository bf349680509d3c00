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
)
from segpref.collect.ratings import ratings_of
from segpref.data import Cache, Dataset, Split, images_for, prepare
from segpref.objectives import KTO, CalibratedDPO
from segpref.preferences import (
    AbstainingJudge,
    Preference,
    PreferenceFolder,
    RecordedPairs,
    flip_rates,
    in_random_order,
)
from segpref.training import AlignConfig, HeldOut
from segpref.types import SegprefError
from segpref.workflows.inputs import Inputs, open_inputs
from segpref.workflows.loading import beside, open_trained
from segpref.workflows.options import DataOptions, TrainedModel
from segpref.workflows.standing import join_sets, kept_set

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
        folders: of preferences that were written by an alignment or exported.
        learned: preferences to learn from.
        held_out: preferences of the patients whose votes choose the checkpoint.
        flip_rates: how often each rater is wrong.
        skipped: how many votes are not used, by reason.
    """

    studies: Sequence[StudyFolder]
    folders: Sequence[PreferenceFolder]
    learned: Sequence[Preference]
    held_out: Sequence[Preference]
    flip_rates: Mapping[str, float] | None
    skipped: Mapping[str, int]

    @property
    def model_digest(self) -> str:
        """Of the model that made the masks."""
        return _digests(self.studies, self.folders)[0][1]

    @property
    def model(self) -> Path:
        """The model that made the masks: the copy in a study, or where it was."""
        if self.studies:
            return self.studies[0].base
        return Path(str(self.folders[0].about.get("model") or "base"))

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
        paths: of the studies, or of folders of preferences.
        database: where the votes are, if not in the study's folder; of one study only.

    Raises:
        SegprefError: no study, or one without votes; studies of different models.
    """
    if database is not None and len(paths) > 1:
        raise SegprefError(
            "a database holds the votes of one study: give one study with --database, or leave it out"
        )
    if len({path.expanduser().resolve() for path in paths}) < len(paths):
        raise SegprefError("a study is named twice in --votes: name each once")
    recorded = [path for path in paths if PreferenceFolder.is_one(path)]
    folders = [PreferenceFolder.open(path) for path in recorded]
    studies = [StudyFolder(path) for path in paths if path not in recorded]
    for one in studies:
        if one.note.mode == "base-or-tuned":
            raise SegprefError(
                f"{one.path} asks which of two models is better, which evaluates and is not learned "
                "from: see segpref collect report"
            )
    digests = _digests(studies, folders)
    for path, digest in digests:
        if digest != digests[0][1]:
            raise SegprefError(
                f"the masks of {path} are of another model than those of {digests[0][0]}: align with "
                "the studies of one model at a time"
            )
    learned = [record for one in folders for record in one.records]
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
            f"nobody has voted in {' or '.join(map(str, paths))} on images to learn "
            "from: let people vote first (segpref collect serve)"
        )
    rates = flip_rates(ratings) if ratings else None
    return Votes(studies, folders, learned, held, rates, dict(skipped))


def _digests(
    studies: Sequence[StudyFolder], folders: Sequence[PreferenceFolder]
) -> list[tuple[Path, str]]:
    told = [(one.path, one.note.model_digest) for one in studies]
    return told + [(one.path, one.model_digest) for one in folders]


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
    base = votes.model if model is None else model
    if where.split is None and beside(base) is None and beside(votes.model) is not None:
        where = replace(where, split=beside(votes.model))
    if data is None:
        inputs = _without_data(base, where, opening, cache, pool)
    else:
        inputs = open_inputs(base, data, AbstainingJudge(), where, opening, cache, pool)
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
    sets = [one.slates for one in votes.studies]
    slates, cases = _joined(sets, votes.folders, folder / "set", inputs, cache)
    pool = pool_of(inputs, cases, cache)
    learned, held = list(votes.learned), list(votes.held_out)
    held_pool, held_slates = pool, slates
    if held and any(kept_cases(one.held_out) for one in votes.studies):
        others = [one.held_out for one in votes.studies]
        held_slates, names = _joined(others, (), folder / "choose", inputs, cache)
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
    if config.images != "unlabelled" or config.write_preferences:
        raise SegprefError("images and write_preferences have no effect with votes: leave them out")
    if votes.singles and config.objective is None and config.method == "preference":
        beta = 1.0 if config.beta is None else config.beta
        return replace(config, objective=KTO(beta), beta=None, reduction="image")
    return config


def _joined(
    sets: Sequence[Path],
    recorded: Sequence[PreferenceFolder],
    folder: Path,
    inputs: Inputs,
    cache: Cache,
) -> tuple[Path, tuple[str, ...]]:
    """The set of all studies and folders, and the cases that it is of."""
    folders = [path for path in sets if kept_cases(path)]
    for number, one in enumerate(recorded):
        folders.append(folder.with_name(f"{folder.name}-{number}"))
        kept_set(one.slates(), pool_of(inputs, one.cases, cache), folders[-1])
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
        "said": dict(sorted(choices.items())),
        "left out": dict(sorted(votes.skipped.items())),
    }
