"""Settings that are declared once: each field has its default, range and help.

A class of settings is a frozen dataclass whose fields say what they mean in the string below them.
Whoever builds one, the command line, a recipe or Python, gets the same checks and the same sentences.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from docstring_parser import DocstringStyle, parse_from_object

from segpref.checking import check_range, check_type
from segpref.types import SegprefError

__all__ = ["Settings", "described", "setting"]

T = TypeVar("T")


def setting(
    default: T,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> T:
    """A field with a default and a range of numbers that it may have.

    Args:
        default: where nothing is given; None where a setting has no number of its own.
        least: the lowest number.
        above: what the number must be above.
        most: the highest number.
        below: what the number must be below.
    """
    bounds = {"least": least, "above": above, "most": most, "below": below}
    told = {name: bound for name, bound in bounds.items() if bound is not None}
    made: T = field(default=default, metadata=told)
    return made


@dataclass(frozen=True)
class Settings:
    """A frozen dataclass whose values are checked by their types and ranges, whoever builds it.

    Raises:
        SegprefError: a value of another type, a number out of its range or not finite, or a word that
            is none of the choices.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # As types, not as text: parsers of YAML look text up in the module of the class, which need not
        # import the types of what it inherits.
        hints = get_type_hints(cls)
        cls.__annotations__ = {name: hints[name] for name in inspect.get_annotations(cls)}

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for one in fields(self):
            value = getattr(self, one.name)
            if value is None:
                check_type(one.name, value, hints[one.name])
                continue
            _check_choice(one.name, value, hints[one.name])
            if one.metadata:
                check_range(one.name, value, one.metadata)
                if isinstance(one.default, int) and not isinstance(value, int):
                    raise SegprefError(f"{one.name} must be a whole number, not {value!r}")
            check_type(one.name, value, hints[one.name])


def described(cls: type) -> Mapping[str, str]:
    """What the fields of a class of settings mean, in the order of its fields; a sentence each."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        if one is not object:
            docs = parse_from_object(one, style=DocstringStyle.GOOGLE)
            found |= {p.arg_name: p.description or "" for p in docs.params}
    return {one.name: found[one.name] for one in fields(cls) if one.name in found}


def _check_choice(name: str, value: object, hint: Any) -> None:
    choices = [word for part in (hint, *get_args(hint)) for word in _words(part)]
    if choices and isinstance(value, str) and value not in choices:
        raise SegprefError(f"{name} is one of {', '.join(choices)}, not {value!r}")


def _words(hint: Any) -> tuple[str, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()
