"""No module outside ``policies/`` depends on the class of a policy: a new policy touches one
package."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import segpref
import segpref.policies

SOURCE = Path(segpref.__file__).parent
ASKING = {"isinstance", "issubclass"}
WHAT_THEY_ARE = {"logits", "denoise", "forward", "apply", "mask"}
"""A class with one of these methods is a policy, its network, its preparation or its prediction."""


def concrete_classes() -> set[str]:
    found = set()
    modules = pkgutil.walk_packages(segpref.policies.__path__, "segpref.policies.")
    for module in (importlib.import_module(one.name) for one in modules):
        for name, value in vars(module).items():
            ours = isinstance(value, type) and value.__module__.startswith("segpref.policies")
            if ours and not getattr(value, "_is_protocol", False):
                found |= {name} if WHAT_THEY_ARE & set(dir(value)) else set()
    return found


def asked_for(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every class that is asked for: isinstance, issubclass, type(...) is, match."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asked = node.args[1:] if node.func.id in ASKING else []
        elif isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            asked = list(sides) if any(map(_is_type, sides)) else []
        elif isinstance(node, ast.MatchClass):
            asked = [node.cls]
        else:
            continue
        for part in (inner for one in asked for inner in ast.walk(one)):
            if isinstance(part, ast.Name):
                yield node.lineno, part.id
            elif isinstance(part, ast.Attribute):
                yield node.lineno, part.attr


def _is_type(node: ast.AST) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return called and node.func.id == "type"  # type: ignore[attr-defined]


def test_the_classes_are_found() -> None:
    assert concrete_classes() >= {
        "Segmenter", "PromptablePolicy", "PromptableNetwork", "AmbiSeg", "AmbiSegNetwork",
        "BlendedPredictions", "NnUNetNetwork", "NnUNetPrediction", "NnUNetPreparation",
    }  # fmt: skip
    assert not concrete_classes() & {"TunablePolicy", "OwnValidation", "Denoiser", "ModelCard"}


def test_nobody_outside_asks_for_one() -> None:
    concrete = concrete_classes()
    found = [
        f"{path.relative_to(SOURCE)}:{line} asks for {name}"
        for path in SOURCE.rglob("*.py")
        if not path.is_relative_to(SOURCE / "policies")
        for line, name in asked_for(ast.parse(path.read_text()))
        if name in concrete
    ]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(a, Segmenter)",
        "isinstance(a, (int, policies.Segmenter))",
        "isinstance(a, int | Segmenter)",
        "issubclass(a, Segmenter)",
        "type(a) is Segmenter",
        "match a:\n    case Segmenter():\n        pass",
    ],
)
def test_every_way_of_asking_is_seen(line: str) -> None:
    assert "Segmenter" in {name for _, name in asked_for(ast.parse(line))}
