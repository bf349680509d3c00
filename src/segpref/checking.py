"""Checks of settings by their type hints and ranges, for every class.

The command line checks what it parses; Python and files that name a class by its import path do not.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import os
import types
from collections.abc import Callable, Mapping, Sequence, ValuesView
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from segpref.types import SegprefError

__all__ = ["Bounds", "check_arguments", "check_range", "check_type", "checked"]

T = TypeVar("T")

Bounds = Mapping[str, float]
"""``least``, ``above``, ``most`` and ``below``, as far as there are such limits."""

_WORDS = {"least": "at least", "above": "above", "most": "at most", "below": "below"}
_PLAIN = (str, bytes, bool, int, float, complex, list, tuple, dict, set, type(None))
_CHOICES = (Union, types.UnionType)


def checked(**bounds: Bounds) -> Callable[[type[T]], type[T]]:
    """A class whose arguments are checked by their type hints and ranges before it is made.

    Args:
        bounds: ranges of numbers, or of every number of a list or mapping, by the name of the argument,
            such as ``weight={"least": 0}``.
    """

    def decorated(cls: type[T]) -> type[T]:
        make = cls.__init__

        @functools.wraps(make)
        def init(self: T, *given: Any, **named: Any) -> None:
            check_arguments(cls.__name__, make, (self, *given), named, bounds)
            make(self, *given, **named)

        init.bounds = bounds  # type: ignore[attr-defined]
        cls.__init__ = init  # type: ignore[method-assign, assignment]
        return cls

    return decorated


def check_arguments(
    what: str,
    function: Callable[..., object],
    given: Sequence[Any],
    named: Mapping[str, Any],
    bounds: Mapping[str, Bounds] | None = None,
) -> None:
    """Check arguments by the hints of a function; what it would refuse itself is left to it.

    Raises:
        SegprefError: an argument of another type, a number that is not finite, or one out of its range.
    """
    try:
        arguments = inspect.signature(function).bind(*given, **named).arguments
    except TypeError:
        return  # one that is missing or not known: Python says so
    hints = _hints(function.__init__ if inspect.isclass(function) else function)
    for name, value in arguments.items():
        place = f"{what}: {name}"
        if name in hints:
            check_type(place, value, hints[name])
        if value is not None and bounds and name in bounds:
            each = value.values() if isinstance(value, Mapping) else value
            for one in each if isinstance(each, list | tuple | ValuesView) else (each,):
                check_range(place, one, bounds[name])


def check_type(name: str, value: object, hint: Any) -> None:
    """Check a value by a type hint, as deep as containers of plain values go.

    Lists and tuples are taken for each other, whole numbers for numbers, and text for paths.

    Raises:
        SegprefError: it is another type, a number that is not finite, or none of the choices.
    """
    if not _fits(value, hint):
        raise SegprefError(f"{name} must be {_described(hint)}, not {value!r:.200}")


def check_range(name: str, value: object, bounds: Bounds) -> None:
    """Check a number.

    Raises:
        SegprefError: it is none, is out of the range, or is not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise SegprefError(f"{name} must be a number, not {value!r:.200}")
    least, above = bounds.get("least", -math.inf), bounds.get("above", -math.inf)
    most, below = bounds.get("most", math.inf), bounds.get("below", math.inf)
    # Written so that NaN and infinity are out of every range.
    inside = least <= value <= most and (above == -math.inf or above < value) and value < below
    if not inside or not _finite(value):
        told = " and ".join(f"{_WORDS[one]} {bound:g}" for one, bound in bounds.items())
        raise SegprefError(f"{name} must be {told}, not {value!r}")


@functools.cache
def _hints(function: Callable[..., object]) -> Mapping[str, Any]:
    try:
        return get_type_hints(function)
    except NameError:  # of a name that only type checkers import
        return {}


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in _CHOICES:
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if hint is Any or hint is object:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin is Callable or hint is Callable:
        return callable(value)
    if inspect.isclass(origin):
        return _fits_container(value, origin, inner)
    return _fits_class(value, hint) if inspect.isclass(hint) else True


def _fits_container(value: Any, origin: type, inner: Sequence[Any]) -> bool:
    if issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            return False
        keys, values = inner or (Any, Any)
        return all(_fits(one, keys) and _fits(value[one], values) for one in value)
    if not issubclass(origin, list | tuple | Sequence):
        return True
    if isinstance(value, str | bytes) or not isinstance(value, list | tuple | Sequence):
        return False
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(map(_fits, value, inner))
    return all(_fits(one, inner[0]) for one in value) if inner else True


def _fits_class(value: Any, hint: type) -> bool:
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint is float:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return real and _finite(value)
    if hint is Path:
        return isinstance(value, str | os.PathLike)
    if hint in _PLAIN:
        return isinstance(value, hint)
    # Objects are taken at their word: anything may stand in for a class that does what it does. A
    # plain value never does, unless it is one, as a dictionary is a mapping.
    if not isinstance(value, _PLAIN):
        return True
    try:
        return isinstance(value, hint)
    except TypeError:  # a protocol that can't be checked
        return False


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _described(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in _CHOICES:
        return " or ".join(dict.fromkeys(_described(one) for one in inner))
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}" if len(inner) > 1 else str(inner[0])
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "a mapping"
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return f"a list of {len(inner)} ({', '.join(map(_described, inner))})"
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return f"a list (each {_described(inner[0])})" if inner else "a list"
    plain = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}
    plain |= {type(None): "left out", Path: "a path"}
    if hint in plain:
        return plain[hint]
    return getattr(hint, "__name__", None) or str(hint)
