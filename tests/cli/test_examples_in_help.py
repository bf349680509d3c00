"""The help of every command begins with examples, whose options exist."""

from __future__ import annotations

import re
import shlex

import pytest

from segpref.cli import command_parser
from segpref.cli.main import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_begins_with_examples_that_parse(command: str) -> None:
    parser, _ = command_parser(command)
    text = parser.format_help()
    assert text.startswith(f"  segpref {command}")
    assert text.index("usage:") > text.index(parser.examples)
    lines = re.sub(r"\\\n\s*", "", parser.examples).splitlines()
    assert len(lines) >= 2
    for line in lines:
        words, given = command.split(), shlex.split(line)[1:]
        assert given[: len(words)] == words
        parser.parse_args(given[len(words) :])


def test_the_options_of_align_are_grouped_with_the_most_used_first() -> None:
    text = command_parser("align")[0].format_help()
    titles = [line for line in text.splitlines() if re.fullmatch(r"[A-Z].*:", line)]
    assert titles[0] == "Main options:"
    assert len(titles) == len(set(titles))
    order = ["--model", "--method", "--candidates", "--epochs", "--split", "--trust"]
    places = [text.index(f"\n  {option} ") for option in order]
    assert places == sorted(places)
