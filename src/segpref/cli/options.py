"""The options of a command, from the signature of its function and its classes of settings."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from types import ModuleType
from typing import Any, get_type_hints

from docstring_parser import parse_from_object
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from segpref.settings import Settings, described

__all__ = ["CommandParser", "command_parser", "with_settings"]

set_parsing_settings(docstring_parse_attribute_docstrings=True)  # help of settings within settings


class CommandParser(ArgumentParser):  # type: ignore[misc]
    """A parser whose help begins with examples."""

    examples = ""

    def format_help(self) -> str:
        """The examples, then all options."""
        text: str = super().format_help()
        return f"{self.examples}\n{text}" if self.examples else text


def command_parser(command: str) -> tuple[CommandParser, Callable[..., None]]:
    """The options of a command, and the function that takes them.

    A parameter whose type is a class of settings becomes one option for each of its fields, in a group
    for each class that declares some of them. Parameters that the module names in ``POSITIONAL`` are
    given by their place; one whose name is a word of Python, such as ``from_``, is an option without
    its last letter. A command of two words, such as ``collect init``, is in ``collect_init.py``.
    """
    name = command.replace(" ", "_")
    module = importlib.import_module(f"segpref.cli.{name}")
    function: Callable[..., None] = getattr(module, name)
    return _parser_of(command, module, function), function


@cache  # for who runs many commands in one process: it takes longer than what it parses
def _parser_of(command: str, module: ModuleType, function: Callable[..., None]) -> CommandParser:
    parser = CommandParser(
        prog=f"segpref {command}",
        description=(function.__doc__ or "").partition("\n")[0],
        exit_on_error=False,
    )
    parser.examples = getattr(module, "EXAMPLES", "")
    parser.add_argument("--config", action="config", help="YAML file with options")
    groups = _settings_of(function)
    placed: Sequence[str] = getattr(module, "POSITIONAL", ())
    _add_placed(parser, function, placed)
    words = {one for one in inspect.signature(function).parameters if one.endswith("_")}
    parser.add_function_arguments(function, skip={"settings", *groups, *placed, *words})
    for group in parser._action_groups:
        if group.title == parser.description.rstrip("."):
            group.title = "Main options"
            _add_words(group, function, words)
    for kind in groups.values():
        _add(parser, kind)
    required = (
        f"{a.option_strings[0]} {a.dest.upper()}" if a.option_strings else a.dest.upper()
        for a in parser._actions
        if a.required
    )  # fmt: skip
    parser.usage = f"segpref {command} {' '.join(required)} [options]"
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:  # a switch needs no value: --resume
            action.nargs, action.const = "?", True
    return parser


def with_settings(function: Callable[..., None], values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a command's function, with its classes of settings built from their options.

    Raises:
        SegprefError: a setting that is out of its range.
    """
    given = {name: _plain(value) for name, value in values.items() if name != "config"}
    for parameter, kind in _settings_of(function).items():
        given[parameter] = kind(**{one.name: given.pop(one.name) for one in fields(kind)})
    return given


def _settings_of(function: Callable[..., None]) -> dict[str, type[Settings]]:
    hints = get_type_hints(function)
    return {
        name: hints[name]
        for name in inspect.signature(function).parameters
        if inspect.isclass(hints[name]) and issubclass(hints[name], Settings)
    }


def _add_placed(
    parser: CommandParser, function: Callable[..., None], placed: Sequence[str]
) -> None:
    """Arguments without a name, in their order."""
    told = {one.arg_name: one.description for one in parse_from_object(function).params}
    hints = get_type_hints(function)
    for name in placed:
        parser.add_argument(name, type=hints[name], help=told.get(name))


def _add_words(group: Any, function: Callable[..., None], names: Iterable[str]) -> None:
    """Options whose names are words of Python; they may be left out."""
    told = {one.arg_name: one.description for one in parse_from_object(function).params}
    hints = get_type_hints(function)
    for name in sorted(names):
        option = f"--{name[:-1]}"
        group.add_argument(option, dest=name, type=hints[name], default=None, help=told.get(name))


def _add(parser: CommandParser, kind: type[Settings]) -> None:
    """A group of options for each class that declares some fields, the outermost first."""
    told, declared = described(kind), _declared(kind)
    everything = {one.name for one in fields(kind)}
    for owner, names in declared.items():
        title = (owner.__doc__ or owner.__name__).partition("\n")[0].rstrip(".")
        known = (one for one in parser._action_groups if one.title == title)
        group = next(known, None) or parser.add_argument_group(title)
        group.add_class_arguments(kind, as_group=False, skip=everything - names)
        for action in group._group_actions:
            if action.dest in told:
                action.help = " ".join(told[action.dest].split())


def _declared(kind: type[Settings]) -> dict[type, set[str]]:
    """The fields of a class by the class that first declared them, its own first."""
    owners: dict[str, type] = {}
    for one in reversed(kind.__mro__):
        for name in inspect.get_annotations(one):
            owners.setdefault(name, one)
    found: dict[type, set[str]] = {}
    for one in kind.__mro__:
        if names := {name for name, owner in owners.items() if owner is one}:
            found[one] = names
    return found


def _plain(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else value
