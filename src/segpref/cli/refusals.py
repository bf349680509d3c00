"""What the parser of options, or a class that it builds, refuses, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from jsonargparse import ArgumentError

from segpref.types import SegprefError

__all__ = ["parser_sentence", "refused_values"]

_KEY = re.compile(r"^Parser key \"([^\"]+)\":\s*")
_USAGE = re.compile(r"\s*usage: .*?(?=error: |$)", re.DOTALL)
_REASON = re.compile(r"^\s*- (.*?)(?=^\s*- |^Given value|\Z)", re.MULTILINE | re.DOTALL)
_NOTHING = "Expected a <class 'NoneType'>"
_LITERAL = re.compile(r"Expected a typing\.Literal\[(.*?)\]\.?")
_CLASS = re.compile(r"<class '(?:[\w.]*\.)?(\w+)'>")
_CALLABLE = re.compile(
    r"Type \S*Callable\[.*?\] expects a function or a callable class:\s*", re.DOTALL
)
_NAMESPACE = re.compile(r"[.,]? (?:Got value:|Given value:) Namespace\(.*\Z", re.DOTALL)
_WORDS = {
    "int": "whole number",
    "float": "number",
    "str": "text",
    "dict": "mapping",
    "bool": "true/false",
}


@contextmanager
def refused_values() -> Iterator[None]:
    """While options are parsed and what they name is built: say what a value was refused for.

    Raises:
        SegprefError: a class refuses its arguments, or can't be built with them.
    """
    try:
        yield
    except (ArgumentError, SegprefError):
        raise
    except RecursionError as error:
        raise SegprefError("the options are nested too deeply: correct them") from error
    except (ValueError, TypeError, AttributeError, LookupError, ImportError, OSError) as error:
        raise SegprefError(f"{_told(error)}: correct that option") from error


def parser_sentence(error: BaseException) -> str:
    """What the parser said, without usage lines, types of Python and lists of alternatives."""
    return _told(error)


def _told(error: BaseException) -> str:
    own = _sentence_inside(error)
    text = _USAGE.sub(" ", str(error))
    found = _KEY.match(text)
    key, rest = (f"{found[1]}: ", text[found.end() :]) if found else ("", text)
    return f"{key}{own}" if own else f"{key}{_short(rest)}"


def _sentence_inside(error: BaseException | None) -> str | None:
    """What a class of segpref said, of which other errors were made."""
    seen: set[int] = set()
    found = None
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, SegprefError):
            found = str(error)
        error = error.__cause__ or error.__context__
    return found


def _short(text: str) -> str:
    _, union, errors = text.partition("Errors:")
    if union:
        reasons = [one.strip() for one in _REASON.findall(errors)]
        kept = [one for one in reasons if not one.startswith(_NOTHING)] or reasons
        value = errors.partition("Given value:")[2].strip()
        text = " or ".join(dict.fromkeys(kept))
        text += f" Got value: {value}" if value and "Got value" not in text else ""
    text = _LITERAL.sub(lambda one: f"expected one of {one[1]}.", text)
    text = _CALLABLE.sub("", _NAMESPACE.sub("", text))
    text = text.replace(" Got value:", ", got").replace(".,", ",")
    text = _CLASS.sub(lambda one: _WORDS.get(one[1], one[1]), text)
    return " ".join(text.split())[:400].rstrip(".")
