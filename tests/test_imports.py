"""Tests and benchmarks import what a package shows: modules may move without them."""

from __future__ import annotations

import ast
from pathlib import Path

import segpref

SOURCES = Path(next(iter(segpref.__path__)))
HERE = Path(__file__).parent
READERS = [*HERE.rglob("*.py"), *(HERE.parent / "benchmarks").rglob("*.py")]


def _imported() -> set[str]:
    """Modules that public names are imported from."""
    return {
        node.module
        for path in READERS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        if node.module is not None
        if node.module.split(".")[0] == "segpref"
        if not all(alias.name.startswith("_") for alias in node.names)
    }


def test_few_modules_are_named() -> None:
    assert len(_imported()) <= 50


def test_what_lies_in_a_package_comes_from_its_face() -> None:
    inside = {
        name
        for name in _imported()
        if name.count(".") > 1
        and (SOURCES / Path(*name.split(".")[1:])).with_suffix(".py").exists()
    }
    assert inside <= KEPT


KEPT: set[str] = {"segpref.cli.main"}
"""The command line begins in a module of its own, as programs do."""
