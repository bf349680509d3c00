"""Bases of a recipe that are existing models: opened, checked against the recipe, and kept."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpref.data.preparation import Preparation
from segpref.data.prepared import ImagePreparation, preparation_key
from segpref.data.source import Reader
from segpref.data.splits import Split, split_beside
from segpref.policies import draws_masks, save_model
from segpref.policies.model_formats import OpenModel, open_model
from segpref.training.folder import RunFolder
from segpref.types import SegprefError

__all__ = ["digest_of", "keep_model", "open_existing", "refuse_measured"]


def open_existing(path: Path, reader: Reader, preparation: Preparation) -> OpenModel:
    """Open a model as the base of a study; its card names the dataset's patients that trained it.

    Args:
        path: a run folder, a model file, or a model of another format.
        reader: the dataset.
        preparation: the recipe's, which all networks of the study share.

    Raises:
        SegprefError: no model, or one that does not fit the recipe.
    """
    opened = open_model(path)
    card = opened.card
    if draws_masks(card):
        raise SegprefError(
            f"{path} draws many masks of an image, and such models are what segpref ambiguity studies: "
            "name a segmenter"
        )
    if len(opened.members) > 1:
        folds = ", ".join(opened.members)
        raise SegprefError(f"{path} holds {folds}, and a base is one network: name one of them")
    if (labelled := opened.patients(reader)) is None:
        raise SegprefError(
            f"{path} does not say which patients it was trained with, who must stay out of validation "
            "and test: align it by itself (segpref align --labelled), or train a base in the recipe"
        )
    opened.check_dataset(reader)
    _refuse_preparation(path, card.preparation, preparation, reader.channels)
    return replace(opened, card=replace(card, labelled=labelled))


def refuse_measured(name: str, opened: OpenModel, splits: Collection[Split]) -> None:
    """Refuse a base that was trained on labels of patients who judge, validate or test.

    Args:
        name: of the base.
        opened: the model.
        splits: of the study; several where it has folds.

    Raises:
        SegprefError: it was.
    """
    for split in splits:
        for part in ("judge", "validation", "test"):
            shared = sorted({*getattr(split, part)} & {*opened.card.labelled})
            if not shared:
                continue
            more = "" if len(shared) <= 3 else f" and {len(shared) - 3} more"
            own = split_beside(opened.path)
            fix = (
                "a split file that has them in train as `split`"
                if own is None
                else f"`split: {own}`"
            )
            raise SegprefError(
                f"the base {name}: {opened.path} was trained on labels of patients who are in {part} "
                f"here ({', '.join(shared[:3])}{more}): write {fix} into the recipe"
                + (", and leave folds out" if len(splits) > 1 else "")
            )


def digest_of(opened: OpenModel) -> str:
    """Hash of the weights, as studies of votes know it."""
    return "+".join(one.digest() for one in opened.policies())


def keep_model(opened: OpenModel, folder: RunFolder) -> None:
    """Put a model where a training of the base would have left its own."""
    ((_, made),) = opened.members.items()
    policy = made()
    folder.path.mkdir(parents=True, exist_ok=True)
    save_model(folder.best, policy.network, opened.card)
    folder.write_summary({"kind": "existing", "model": str(opened.path), "digest": policy.digest()})


def _refuse_preparation(
    path: Path, own: ImagePreparation, asked: Preparation, channels: Sequence[str]
) -> None:
    if not isinstance(own, Preparation):
        raise SegprefError(
            f"{path} prepares images in a way of its own, which no recipe can: align it by itself "
            "(segpref align)"
        )
    wanted, there = _settings(own, channels), _settings(asked, channels)
    # A key lacks what has its default.
    differ = [name for name in {**wanted, **there} if wanted.get(name) != there.get(name)]
    if differ:
        write = ", ".join(f"{name}: {_as_yaml(getattr(own, name))}" for name in differ)
        now = ", ".join(f"{name}: {_as_yaml(getattr(asked, name))}" for name in differ)
        raise SegprefError(
            f"{path} was trained on images prepared with {write}, but the recipe's preparation says "
            f"{now}: write {write} there"
        )


def _settings(preparation: Preparation, channels: Sequence[str]) -> dict[str, Any]:
    return {**preparation_key(preparation, channels), "patch": preparation.patch}


def _as_yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
