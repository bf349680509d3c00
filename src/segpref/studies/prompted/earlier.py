"""Converts settings of this study from earlier versions, in recipes and records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segpref.studies.earlier import renamed
from segpref.studies.recorded_settings import CLASS

__all__ = [
    "align_settings",
    "recipe_settings",
    "run_settings",
    "stand_in_settings",
    "unet_settings",
]

_UNET = {"unet": "network", "unet_epochs": "epochs", "unet_learning_rate": "learning_rate"}
_SHARED = ("images_per_epoch", "batch_size")
_FEEDBACK = ("betas", "thresholds")


def recipe_settings(recipe: Any) -> Any:
    """A recipe, as it stands in YAML or on record, by today's names."""
    if not isinstance(recipe, Mapping):
        return recipe
    found = {**recipe}
    if isinstance(stage1 := recipe.get("stage1"), Mapping):
        found["unet"] = {**unet_settings(stage1), **(recipe.get("unet") or {})}
        found["stage1"] = {name: one for name, one in stage1.items() if name not in _UNET}
    if isinstance(align := recipe.get("align"), Mapping):
        found["align"] = align_settings(align)
    if isinstance(start := recipe.get("start"), Mapping):
        found["start"] = stand_in_settings(start)
    return found


def unet_settings(stage1: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the U-Net, which were among those of stage 1."""
    found = {name: stage1[name] for name in (*_SHARED, *_UNET) if name in stage1}
    found = renamed(found, _UNET)
    return {CLASS: "UNet", **found} if CLASS in stage1 else found


def align_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of stage 2; those of its feedback were among them."""
    found = {name: one for name, one in given.items() if name not in _FEEDBACK}
    if said := {name: given[name] for name in _FEEDBACK if name in given}:
        kind = {CLASS: "Feedback"} if CLASS in given else {}
        found["feedback"] = {**kind, **said, **(given.get("feedback") or {})}
    return found


def stand_in_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the stand-in for SAM, whose rate was halved after each third of its epochs."""
    if CLASS in given and "halve_every" not in given:
        return {**given, "halve_every": given["epochs"] / 3}
    return dict(given)


def run_settings(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What a run folder of the study was begun with, as it is kept today."""
    found = dict(recorded)
    if "start" in found:
        found["start"] = stand_in_settings(found["start"])
    if "feedback" in found:
        said = {"feedback": found.pop("feedback")}
        kept = {name: one for name, one in found["align"].items() if name not in _FEEDBACK}
        found["align"] = {**kept, **said}
    if "stage1" in found and "prompts" in found:
        stage1 = found["stage1"]
        found["stage1"] = {name: one for name, one in stage1.items() if name not in _UNET}
    elif "stage1" in found:
        found["unet"] = unet_settings(found.pop("stage1"))
    return found
