"""A release is refused where its records do not fit; links of its README hold on a package index."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from tools.release import VERSION, faults

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REPOSITORY = PROJECT["project"]["urls"]["Repository"]


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "a")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A repository whose version may be released."""
    git(tmp_path, "init", "-q")
    (tmp_path / "src/segpref").mkdir(parents=True)
    (tmp_path / "src/a.py").write_text("a = 1\n")
    (tmp_path / VERSION).write_text('__version__ = "1.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.0\n")
    record(tmp_path, commit(tmp_path))
    commit(tmp_path)
    return tmp_path


def record(folder: Path, tested: str) -> None:
    text = f"# Changelog\n\n## 1.2.0 - 2026-01-02\n\n`make test-long` at `{tested}`, 3 passed.\n"
    (folder / "CHANGELOG.md").write_text(text)


def replace(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    commit(folder)


def test_nothing_is_wrong_with_a_version_that_is_ready(ready: Path) -> None:
    assert faults(ready) == []


def test_raising_the_version_needs_no_new_long_tests(ready: Path) -> None:
    replace(ready, VERSION, "1.2.0", "1.3.0")
    replace(ready, "CITATION.cff", "\nversion: 1.2.0", "\nversion: 1.3.0")
    replace(ready, "CHANGELOG.md", "## 1.2.0", "## 1.3.0")
    assert faults(ready) == []


SPOILED: dict[str, Callable[[Path], object]] = {
    "not clean": lambda one: (one / "new").write_text("a"),
    "tag v1.2.0 exists": lambda one: git(one, "tag", "v1.2.0"),
    "CITATION.cff has not version 1.2.0": lambda one: replace(
        one, "CITATION.cff", "\nversion: 1.2.0", "\nversion: 1.1.0"
    ),
    "needs a heading": lambda one: replace(one, "CHANGELOG.md", "## 1.2.0 - 2026", "## 2026"),
    "no result of": lambda one: replace(one, "CHANGELOG.md", "make test-long", "make test"),
    "is not in this repository": lambda one: (record(one, "0" * 40), commit(one)),
    "since then there changed:\nsrc/a.py": lambda one: replace(one, "src/a.py", "1", "2"),
}


@pytest.mark.parametrize("sentence", SPOILED)
def test_what_is_not_ready_is_refused(ready: Path, sentence: str) -> None:
    SPOILED[sentence](ready)
    (told,) = faults(ready)
    assert sentence in told


def test_the_readme_of_the_package_links_to_files_of_the_repository() -> None:
    text = (ROOT / "README.md").read_text()
    for one in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 20
    for link in links:
        assert link.startswith("https://")
        if link.startswith(REPOSITORY):
            kind, branch, file = link.removeprefix(f"{REPOSITORY}/").split("/", 2)
            assert (kind, branch) == ("raw" if file.endswith(".png") else "blob", "main")
            assert (ROOT / file.partition("#")[0]).is_file()
    assert f"![Validation IoU by epoch with the weak judge]({REPOSITORY}/raw/main/docs/" in text


def test_every_address_of_the_project_is_in_its_repository() -> None:
    for address in re.findall(r"https://github[^\"'\s)\\]+", (ROOT / "pyproject.toml").read_text()):
        assert address.startswith(REPOSITORY)
