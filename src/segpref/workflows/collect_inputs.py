"""The inputs of a study of votes: model, images that people are asked about, and labelled ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from segpref.cluster import RayPool
from segpref.collect.config import CollectConfig
from segpref.collect.display import MOST_STRUCTURES
from segpref.data import Cache, Dataset, Reader, Split, images_for, prepare
from segpref.data.description import name_of
from segpref.data.splits import split_beside
from segpref.inference.windows import whole_images
from segpref.policies import ModelCard, TunablePolicy, draws_masks
from segpref.policies.model_formats import OpenModel
from segpref.preferences import AbstainingJudge
from segpref.proposals import SlateProposals
from segpref.types import Judge, Policy, SegprefError
from segpref.workflows.loading import (
    check_masks,
    families_with,
    open_judge,
    open_split,
    open_trained,
    prepared_for,
    refuse_itself,
    refuse_own_weights,
)
from segpref.workflows.options import PoolOptions, TrainedModel
from segpref.workflows.readers import refuse_labels_of_nothing

__all__ = ["CollectInputs", "digest_of", "open_collect_inputs", "refuse_drawing"]


@dataclass(frozen=True)
class CollectInputs:
    """What a study is made of; see :func:`open_collect_inputs`.

    Args:
        model: makes the masks.
        reader: of the images that people are asked about.
        pool: these images, prepared.
        known: labelled images of patients whom nothing was trained with; None where there are none.
        known_reader: of these.
        judge: guesses answers; None where nobody does.
        proposals: make the candidates.
        tuned: the model that it is compared with, of mode base-or-tuned.
        split: of the dataset's patients; None without a dataset.
    """

    model: OpenModel
    reader: Reader
    pool: Dataset
    known: Dataset | None
    known_reader: Reader | None
    judge: Judge | None
    proposals: SlateProposals
    tuned: OpenModel | None
    split: Split | None

    @property
    def card(self) -> ModelCard:
        """Of the model."""
        return self.model.card

    @cached_property
    def policy(self) -> TunablePolicy:
        """The model's, frozen."""
        (member,) = self.model.members.values()
        policy = member()
        policy.network.requires_grad_(False).eval()
        return policy

    @cached_property
    def digest(self) -> str:
        """Hash of the model's weights, of all its folds."""
        return digest_of(self.model)

    @cached_property
    def whole_policy(self) -> Policy:
        """What predicts whole prepared images: the policy itself, or windows that slide."""
        return whole_images([self.policy], self.card.preparation)

    @property
    def in_patches(self) -> bool:
        """Whether the model sees patches; images may differ in size then, and go one by one."""
        return self.card.preparation.patch is not None

    @property
    def can_make_slates(self) -> bool:
        """Whether the model makes candidates: not with several folds."""
        return len(self.model.members) == 1


def digest_of(model: OpenModel) -> str:
    """Hash of a model's weights, of all its folds."""
    return "+".join(policy.digest() for policy in model.policies())


def open_collect_inputs(
    *,
    model: Path,
    data: Reader | Path | str | None,
    pool: Path | str | None,
    others: Sequence[Path] | None,
    judge: Any,
    tuned: Any,
    config: CollectConfig,
    where: PoolOptions,
    opening: TrainedModel,
    cache: Cache,
    workers: RayPool | None = None,
) -> CollectInputs:
    """Open and check everything; workers may prepare the images.

    Raises:
        SegprefError: what does not fit together.
    """
    if data is None and pool is None:
        raise SegprefError(
            "a study needs images: give --data, or --pool for a folder of images alone"
        )
    refuse_labels_of_nothing(where, data)
    if judge is not None:
        refuse_itself(judge, model)
    compared = config.mode == "base-or-tuned"
    if compared != (tuned is not None):
        raise SegprefError(
            "mode base-or-tuned compares two models: give the other one as --tuned"
            if compared
            else f"--tuned is for mode base-or-tuned, not for {config.mode}: leave it out"
        )
    opened = open_trained(model, opening)
    _check_model(opened, config)
    card, reader, dataset, split = opened.card, None, None, None
    seen: set[str] = set()
    if data is not None:
        card, reader, dataset = prepared_for(opened, data, where, cache, workers)
        opened = replace(opened, card=card)
        seen |= set(card.labelled)
    other = None
    if compared:
        other = open_trained(Path(tuned), replace(opening, labelled=opening.labelled or []))
        refuse_drawing(other.card, other.path)
        _check_tuned(opened, other)
        seen |= set(other.labelled or ())
    more = None if pool is None else images_for(pool, card.channels, where.series)
    readers = [one for one in (reader, more) if one is not None]
    scorer = None
    if judge is not None:
        scorer, judged = open_judge(
            judge, card, readers[0], cache, opening.trust, more, opening.labelled
        )
        refuse_own_weights(scorer, opened)
        seen |= set(judged)
    if reader is not None:
        split = open_split(reader, where.split or split_beside(model), seen=seen)
    shown, shown_reader = _shown(dataset, reader, more, split, seen, card, cache, compared, workers)
    families: Any = config.families
    making = families_with(families, others, config.candidates, card, readers, cache)
    if not compared:
        asked: Any = scorer or AbstainingJudge()
        check_masks(asked, making, shown)
    known = None
    if dataset is not None and split is not None:
        known = _known(dataset, split, seen, shown if more is None else None)
    proposals = SlateProposals(config.candidates, making)
    return CollectInputs(
        opened, shown_reader, shown, known, reader, scorer, proposals, other, split
    )


def _check_model(opened: OpenModel, config: CollectConfig) -> None:
    card, path = opened.card, opened.path
    if card.label_space.kind == "multi-label" and card.label_space.fields > MOST_STRUCTURES:
        raise SegprefError(
            f"{path} has {card.label_space.fields} structures that may overlap, and the page shows at "
            f"most {MOST_STRUCTURES}: use a model of fewer"
        )
    refuse_drawing(card, path)
    if config.mode == "base-or-tuned":
        return
    if len(opened.members) > 1:
        raise SegprefError(
            f"{path} holds {len(opened.members)} folds, and votes are about the masks of one network: "
            "name one fold (.../fold_0)"
        )


def refuse_drawing(card: ModelCard, path: Path) -> None:
    """Refuse a model that draws many masks of an image, which no study keeps.

    Raises:
        SegprefError: it is one.
    """
    if draws_masks(card):
        raise SegprefError(
            f"{path} draws many masks of an image, on which people can't vote yet: use a segmenter"
        )


def _check_tuned(base: OpenModel, tuned: OpenModel) -> None:
    if base.card.label_space != tuned.card.label_space:
        raise SegprefError(
            f"{tuned.path} segments {', '.join(tuned.card.label_space.names)} and {base.path} "
            f"{', '.join(base.card.label_space.names)}: compare models of the same labels"
        )
    if len(base.card.channels) != len(tuned.card.channels):
        raise SegprefError(
            f"{tuned.path} takes {len(tuned.card.channels)} channels and {base.path} "
            f"{len(base.card.channels)}: compare models of the same images"
        )


def _shown(
    dataset: Dataset | None,
    reader: Reader | None,
    more: Any,
    split: Split | None,
    seen: set[str],
    card: ModelCard,
    cache: Cache,
    compared: bool,
    workers: RayPool | None,
) -> tuple[Dataset, Reader]:
    """The images that people are asked about, and their reader."""
    if more is not None:
        space, axes = card.label_space, card.orientation
        return prepare(more, card.preparation, cache, space, axes, workers), more
    assert dataset is not None
    assert reader is not None
    assert split is not None
    if compared:
        patients = set(split.test) - seen
        what = "test patients whom neither model was trained with"
    else:
        # Patients without any label are in no part.
        held = {*split.judge, *split.validation, *split.test}
        patients = set(dataset.patients) - held - seen
        what = "unlabelled training patients"
    if not patients:
        raise SegprefError(f"{name_of(reader)} has no {what}: give a folder of images as --pool")
    return dataset.of_patients(patients & set(dataset.patients)), reader


def _known(dataset: Dataset, split: Split, seen: set[str], shown: Dataset | None) -> Dataset | None:
    """Labelled images of the patients of validation and test whom people are not asked about."""
    asked = set() if shown is None else set(shown.patients)
    patients = ({*split.validation, *split.test} - seen - asked) & set(dataset.patients)
    if not patients:
        return None
    known = dataset.of_patients(patients).labelled()
    return known if len(known) else None
