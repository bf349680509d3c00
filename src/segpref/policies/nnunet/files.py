"""The files of a trained nnU-Net v2 model."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from segpref.types import SegprefError

__all__ = ["description", "folds_of", "origin", "unpickled"]


def description(path: Path) -> dict[str, Any]:
    """Content of ``plans.json`` or ``dataset.json``."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise SegprefError(
            f"there is no {path}: name the folder TRAINER__PLANS__CONFIGURATION of a trained nnU-Net "
            "v2 model"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise SegprefError(f"{path} can't be read ({error}): copy it anew") from error


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
            f"{path} has no fold with {checkpoint}: finish the training, or name another checkpoint"
        )
    return tuple(chosen)


def unpickled(path: Path, fold: str, checkpoint: str) -> dict[str, Any]:
    """Content of a checkpoint whose owner is trusted."""
    file = path / f"fold_{fold}" / checkpoint
    try:
        content = dict(torch.load(io.BytesIO(file.read_bytes()), "cpu", weights_only=False))
    except Exception as error:  # a pickle raises whatever its content raises
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SegprefError(f"{file} can't be opened ({reason}): copy it anew") from error
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
