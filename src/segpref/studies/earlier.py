"""Converts settings of earlier versions, in recipes and in recorded studies.

A recipe's methods are whole configurations (:class:`~segpref.training.AlignConfig`): what its section
``align`` says of all of them, and over it what each says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from segpref.studies.recorded_settings import CLASS
from segpref.types import SegprefError

__all__ = ["align_settings", "renamed", "run_settings", "whole_methods", "with_own_ranges"]

_ALIGN = {"signal": "method", "pool": "images"}
_CLASSES = ("Method", "Stage2")
_RATES = {0.0: False, 0.5: True}


def renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Settings by today's names.

    Raises:
        SegprefError: one is given by both of its names.
    """
    for name in names.keys() & given:
        if names[name] in given:
            raise SegprefError(f"{name} is called {names[name]} now: leave {name} out")
    return {names.get(name, name): value for name, value in given.items()}


def align_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of stage 2 by today's names.

    Raises:
        SegprefError: a share of turned pairs that is no control.
    """
    found = renamed(given, _ALIGN)
    if "flip_rate" in found:
        rate = found.pop("flip_rate")
        if rate not in _RATES:
            raise SegprefError(
                f"flip_rate of a method is control now, which is 0.5 (true) or 0 (false), not {rate}"
            )
        found["control"] = _RATES[rate]
    if found.get(CLASS) in _CLASSES:
        found[CLASS] = "AlignConfig"
    if found.get(CLASS) == "AlignConfig":
        # Before there was a choice, candidates were proposed in the precision of the update.
        found.setdefault("proposal_precision", "no")
    # Those of the paper were the default, which a record may leave out.
    if found.get("families", None if found.get(CLASS) == "AlignConfig" else ()) is None:
        found["families"] = "paper"
    return found


def whole_methods(
    recipe: Any, today: Callable[[Mapping[str, Any]], dict[str, Any]] = align_settings
) -> Any:
    """A recipe, as it stands in YAML or on record, with a whole configuration for each method.

    Args:
        recipe: what was read; anything but a recipe is left to whoever parses it.
        today: gives settings of stage 2 the names that they have today.
    """
    if not isinstance(recipe, Mapping):
        return recipe
    shared, methods = recipe.get("align") or {}, recipe.get("methods")
    if not isinstance(shared, Mapping) or not isinstance(methods, Mapping):
        return recipe
    shared = today(shared)
    whole = {
        name: {**shared, **today(own or {})} if isinstance(own or {}, Mapping) else own
        for name, own in methods.items()
    }
    return {**recipe, "align": shared, "methods": whole}


def with_own_ranges(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recorded recipe for pictures in colour; before there was a choice, each colour had its own."""
    preparation = recipe.get("preparation")
    if not isinstance(preparation, Mapping):
        return recipe
    return {**recipe, "preparation": {"colour_range": "each", **preparation}}


def run_settings(
    recorded: Mapping[str, Any],
    shared: str = "align",
    today: Callable[[Mapping[str, Any]], dict[str, Any]] = align_settings,
) -> Mapping[str, Any]:
    """What the folder of a run of stage 2 was begun with, as it is kept today.

    Args:
        recorded: with the method and what all of them shared, or with a whole configuration.
        shared: where the record has what all methods shared.
        today: gives settings of stage 2 the names that they have today.
    """
    if "method" not in recorded:
        return recorded
    found = dict(recorded)
    common, own = today(found.pop(shared)), today(found.pop("method"))
    return {**found, "align": {**common, **own}}
