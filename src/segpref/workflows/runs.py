"""The result of a workflow, and how its settings are grouped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from segpref.settings import Settings
from segpref.studies.recorded_settings import plain, settings_of
from segpref.types import SegprefError

__all__ = ["Run", "chosen", "text_of"]

A = TypeVar("A", bound=Settings)
B = TypeVar("B", bound=Settings)
C = TypeVar("C", bound=Settings)


@dataclass(frozen=True)
class Run(os.PathLike[str]):
    """A run folder; can be used as its model wherever a path can.

    Args:
        out: the folder that was made.
    """

    out: Path

    def __fspath__(self) -> str:
        return str(self.out)

    @property
    def split(self) -> Path:
        """Who trains, judges, validates and tests."""
        return self.out / "split.json"


def chosen(options: Mapping[str, Any], first: A, second: B, third: C) -> tuple[A, B, C]:
    """Classes of settings with what was given by name; a name belongs to the first that has it.

    Raises:
        SegprefError: a name that none of them has.
    """
    groups: list[Settings] = [first, second, third]
    names = [{one.name for one in fields(group)} for group in groups]
    if unknown := [name for name in options if not any(name in own for own in names)]:
        known = ", ".join(sorted(set().union(*names)))
        raise SegprefError(f"there is no setting {unknown[0]!r}: choose from {known}")
    made: list[Any] = []
    left = dict(options)
    for group, own in zip(groups, names, strict=True):
        mine = {name: left.pop(name) for name in list(left) if name in own}
        made.append(replace(group, **mine) if mine else group)
    return made[0], made[1], made[2]


def text_of(*groups: Settings, **others: Any) -> dict[str, Any]:
    """Settings as a run folder keeps them, by name."""
    told = {one.name: getattr(group, one.name) for group in groups for one in fields(group)}
    return {name: plain(value, _by_path) for name, value in {**others, **told}.items()}


def _by_path(value: Any) -> dict[str, Any]:
    """An object as ``--config`` takes it back."""
    own = settings_of(value)
    if not is_dataclass(value):
        # An object of any other class (such as a judge) may hold networks, images, or itself.
        own = {name: one for name, one in own.items() if _is_plain(one)}
    path = f"{type(value).__module__}.{type(value).__qualname__}"
    return {"class_path": path, "init_args": plain(own, _by_path)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)
