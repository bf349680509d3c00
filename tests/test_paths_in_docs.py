"""Paths of the repository that its documentation names are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
NAMED = re.compile(r"`((?:src/segpref|tests|benchmarks|docs|tools)/[\w./-]*)`")
MODULE = re.compile(r"`((?:\w+/)*[a-z_]+\.py)`")
RUN = re.compile(r"python -m ((?:benchmarks|tools|segpref)[\w.]*\w)")
EXAMPLES = {"mine.py", "newloss.py", "benchmarks.NAME"}
"""Files of readers of tutorials, and a place to be filled in."""
PACKAGES = {path.name for path in (ROOT / "src" / "segpref").iterdir() if path.suffix != ".py"}
PACKAGES -= {"__pycache__", "py.typed"}


def named(text: str) -> Iterator[str]:
    """Paths in backticks; places to be filled in, in capitals, are none."""
    yield from (path for path in NAMED.findall(text) if not re.search(r"[A-Z]{2}", path))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_paths_exist(page: Path) -> None:
    missing = [path for path in named(page.read_text()) if not (ROOT / path).exists()]
    assert not missing


def test_the_readme_names_every_package() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [name for name in sorted(PACKAGES) if f"`src/segpref/{name}/`" not in text]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_modules_exist(page: Path) -> None:
    folders = [ROOT / name for name in ("src", "tests", "benchmarks", "tools")]
    files = [str(path) for folder in folders for path in folder.rglob("*.py")]
    text = page.read_text()
    missing = [
        name
        for name in MODULE.findall(text)
        if name not in EXAMPLES and not any(path.endswith(f"/{name}") for path in files)
    ]
    for name in set(RUN.findall(text)) - EXAMPLES:
        place = (
            ROOT / "src" / Path(*name.split("."))
            if "segpref" in name
            else ROOT / Path(*name.split("."))
        )
        if not (place.with_suffix(".py").exists() or (place / "__main__.py").exists()):
            missing.append(name)
    assert not missing
