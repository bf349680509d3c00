"""Compares recorded settings with current ones; equal if they give the same result.

A setting that is not on disk is one that was added since: it is equal where it has its default now. One
that is on disk and no longer known was removed since: it is equal at the default that it had, which its
class keeps in ``removed``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from segpref.training.config import MethodConfig, TrainingConfig
from segpref.training.folder import NO_EFFECT, RunFolder
from segpref.trust import read_json

__all__ = ["CLASS", "as_recorded", "changed_settings", "plain", "same_settings", "settings_of"]

CLASS = "class"
"""Where a record names the class of an object."""


def plain(value: Any, written: Callable[[Any], Any] | None = None) -> Any:
    """Settings as JSON has them.

    Args:
        value: plain values, containers, and objects with settings.
        written: an object; its class's name and its own settings where None.
    """
    if isinstance(value, Mapping):
        return {str(name): plain(one, written) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one, written) for one in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if written is not None:
        return written(value)
    return {CLASS: type(value).__name__, **plain(settings_of(value))}


def settings_of(one: object) -> dict[str, Any]:
    """The fields of a dataclass, or what an object of another class keeps of its arguments."""
    if is_dataclass(one):
        return {field.name: getattr(one, field.name) for field in fields(one)}
    own = getattr(one, "__dict__", {})
    return {name: value for name, value in own.items() if not name.startswith("_")}


def same_settings(recorded: Any, now: Any) -> bool:
    """Whether what was recorded means what the settings mean now.

    Args:
        recorded: as :func:`plain` wrote it.
        now: any value of a recipe: plain ones, containers, and objects with settings.
    """
    if recorded == plain(now):
        return True
    if isinstance(now, Mapping):
        return (
            isinstance(recorded, Mapping)
            and recorded.keys() == {str(name) for name in now}
            and all(same_settings(recorded[str(name)], one) for name, one in now.items())
        )
    if isinstance(now, list | tuple):
        return (
            isinstance(recorded, Sequence)
            and not isinstance(recorded, str)
            and len(recorded) == len(now)
            and all(map(same_settings, recorded, now))
        )
    if now is None or isinstance(now, str | int | float | bool) or not hasattr(now, "__dict__"):
        return False
    if isinstance(recorded, str):
        return recorded == str(now)  # written as Python shows it
    if not isinstance(recorded, Mapping) or recorded.get(CLASS) != type(now).__name__:
        return False
    return not any(_differing(recorded, now))


def changed_settings(recorded: Mapping[str, Any], now: object) -> list[str]:
    """Names of the settings of an object that are not as they were recorded."""
    return list(_differing(recorded, now))


def as_recorded(
    folder: RunFolder,
    settings: Mapping[str, Any],
    today: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> dict[str, Any]:
    """Plain settings to open a run folder with: as recorded there, where they mean the same.

    Args:
        folder: of the run.
        settings: as they are now.
        today: gives recorded settings the names that they have today.
    """
    note = folder.path / "run.json"
    found = {}
    if note.exists():
        found = read_json(note, "restore it, or start the run again in another folder")
    before = found.get("settings") if isinstance(found, Mapping) else None
    now = {name: plain(one) for name, one in settings.items()}
    if not isinstance(before, Mapping):
        return now
    named = today(before)
    same = [name for name in named.keys() & now if same_settings(named[name], settings[name])]
    if len(same) == len(now) == len(named):
        return dict(before)
    return {**now, **{name: before[name] for name in same if name in before}}


def _differing(recorded: Mapping[str, Any], now: object) -> Iterator[str]:
    own, defaults = settings_of(now), _defaults_of(now)
    if isinstance(now, MethodConfig):
        # An average of 0 and none at all are the same.
        own["average"], recorded = now.decay, {**recorded, "average": _decay(recorded)}
    for name, value in own.items():
        if name in NO_EFFECT and isinstance(now, TrainingConfig):
            continue
        if name in recorded:
            if not same_settings(recorded[name], value):
                yield name
        elif name not in defaults or plain(defaults[name]) != plain(value):
            yield name
    removed = getattr(type(now), "removed", {})
    for name, value in recorded.items():
        if name in NO_EFFECT and isinstance(now, TrainingConfig):
            continue  # such as an earlier name of one
        if (
            name not in own
            and name != CLASS
            and (name not in removed or value != plain(removed[name]))
        ):
            yield name


def _decay(recorded: Mapping[str, Any]) -> Any:
    average, method = recorded.get("average"), recorded.get("method", "preference")
    return MethodConfig(method=method).decay if average is None else average


def _defaults_of(one: object) -> dict[str, Any]:
    if not is_dataclass(one):
        found = inspect.signature(type(one)).parameters.values()
        return {each.name: each.default for each in found if each.default is not each.empty}
    made = {}
    for field in fields(one):
        if field.default is not MISSING:
            made[field.name] = field.default
        elif field.default_factory is not MISSING:
            made[field.name] = field.default_factory()
    return made
