"""The files of a trained nnU-Net v2 model."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from segpref.trust import read_json
from segpref.types import SegprefError

__all__ = [
    "FINAL",
    "SPLITS",
    "cases_of",
    "checkpoint_of",
    "description",
    "folds_of",
    "origin",
    "unpickled",
]

FINAL = "checkpoint_final.pth"
"""What nnU-Net writes at the end of a training, and predicts with."""

_BEST = "checkpoint_best.pth"

SPLITS = "splits_final.json"
"""Which cases each fold was trained with, and which it was not."""


def description(path: Path) -> dict[str, Any]:
    """Content of ``plans.json`` or ``dataset.json``."""
    if not path.exists():
        raise SegprefError(
            f"there is no {path}: name the folder TRAINER__PLANS__CONFIGURATION of a trained nnU-Net "
            "v2 model"
        )
    content = read_json(path)
    if not isinstance(content, dict):
        raise SegprefError(f"{path} does not describe a model: copy it again")
    return content


def checkpoint_of(path: Path, wanted: Collection[str | int] | None) -> str:
    """The last checkpoint of a training, or the best so far where no fold of those wanted has that."""
    folds = ["*"] if wanted is None else list(wanted)
    names = [
        name for name in (FINAL, _BEST) for fold in folds if any(path.glob(f"fold_{fold}/{name}"))
    ]
    return names[0] if names else FINAL


def folds_of(path: Path, wanted: Collection[str | int] | None, checkpoint: str) -> tuple[str, ...]:
    """The folds that were asked for, all of which are there."""
    files = path.glob(f"fold_*/{checkpoint}")
    there = sorted(file.parent.name.removeprefix("fold_") for file in files)
    if wanted is None:
        chosen = [fold for fold in there if fold != "all"] or there
    else:
        chosen = [str(fold) for fold in wanted]
    if lacking := [fold for fold in chosen if fold not in there]:
        raise SegprefError(
            f"{path} has no fold_{lacking[0]}/{checkpoint}: choose from the folds "
            f"{', '.join(there) or 'of another checkpoint, for this one was never written'}"
        )
    if not chosen:
        raise SegprefError(
            f"{path} has no fold with {checkpoint}: finish the training, or copy the checkpoints into "
            "the folds"
        )
    return tuple(chosen)


def cases_of(path: Path, dataset: str, folds: Collection[str]) -> tuple[str, ...] | None:
    """Cases that any of the folds was trained with; None where that can't be told."""
    places = [path / SPLITS]
    if prepared := os.environ.get("nnUNet_preprocessed"):  # noqa: SIM112 - nnU-Net's name
        places.append(Path(prepared) / dataset / SPLITS)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return None
    splits = read_json(file)
    try:
        everything = {str(case) for split in splits for part in split.values() for case in part}
        trained = [
            everything if fold == "all" else set(map(str, splits[int(fold)]["train"]))
            for fold in folds
        ]
    except IndexError:
        return None  # nnU-Net draws folds beyond the file's by itself
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SegprefError(f"{file} can't be read ({error}): copy it again") from error
    return tuple(sorted(set().union(*trained)))


def unpickled(path: Path, fold: str, checkpoint: str) -> dict[str, Any]:
    """Content of a checkpoint whose owner is trusted."""
    file = path / f"fold_{fold}" / checkpoint
    try:
        content = dict(torch.load(io.BytesIO(file.read_bytes()), "cpu", weights_only=False))
    except Exception as error:  # a pickle raises whatever its content raises
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SegprefError(f"{file} can't be opened ({reason}): copy it again") from error
    if lacking := {"network_weights", "trainer_name", "init_args"} - set(content):
        raise SegprefError(
            f"{file} holds no {sorted(lacking)[0]}: use a checkpoint that nnU-Net v2 wrote"
        )
    return content


def origin(content: Mapping[str, Any]) -> tuple[str, str, tuple[int, ...]]:
    """Trainer, configuration, and the axes over which nnU-Net mirrors when it predicts."""
    axes = content.get("inference_allowed_mirroring_axes") or ()
    configuration = str(content["init_args"]["configuration"])
    return str(content["trainer_name"]), configuration, tuple(int(axis) for axis in axes)
