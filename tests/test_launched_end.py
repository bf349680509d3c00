"""How a process ends that was launched together with others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

AMONG_OTHERS = {"WORLD_SIZE": "2", "RANK": "1"}
PROLOGUE = """
import atexit, os, sys

class Held:
    def __del__(self, write=os.write):
        write(1, b"taken apart\\n")

held = Held()
atexit.register(print, "registered")
print("worked")
"""


def told(ending: str, environment: dict[str, str], *arguments: str) -> tuple[str, int]:
    """What a script says, and its exit status."""
    ended = subprocess.run(
        [sys.executable, "-c", PROLOGUE + ending, *arguments], text=True, check=False,
        env={**os.environ, **environment}, capture_output=True,
    )  # fmt: skip
    assert not ended.stderr
    return ended.stdout, ended.returncode


@pytest.mark.parametrize("status", [0, 3])
def test_the_interpreter_is_not_taken_apart(status: int) -> None:
    ending = f"from segpref.runtime import end_in_launch\nsys.exit(end_in_launch({status}))"
    assert told(ending, AMONG_OTHERS) == ("worked\nregistered\n", status)


def test_a_process_that_is_alone_ends_as_any_other() -> None:
    ending = "from segpref.runtime import end_in_launch\nsys.exit(end_in_launch(3))"
    assert told(ending, {}) == ("worked\nregistered\ntaken apart\n", 3)


@pytest.mark.parametrize(("option", "status"), [("--version", 0), ("nothing", 2)])
def test_the_program_ends_so_too(option: str, status: int) -> None:
    ending = """
from segpref.cli.main import program
if sys.argv[1] == "nothing":
    os.dup2(1, 2)
sys.exit(program())
"""
    said, ended = told(ending, AMONG_OTHERS, option)
    assert "worked\n" in said
    assert said.endswith("registered\n")
    assert "segpref" in said
    assert ended == status
    alone, ended = told(ending, {}, option)
    assert alone.endswith("taken apart\n")
    assert ended == status
