"""The wheel, built once, and environments that hold it; pip asks the index that it is set up with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "src")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the source tree, which stays as it is."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
            )
        else:
            shutil.copy(ROOT / name, tree)
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(out), str(tree))
    (built,) = out.glob("*.whl")
    return built


def pip(python: Path | str, *options: str) -> None:
    subprocess.run([str(python), "-m", "pip", "--quiet", *options], check=True)


def environment(place: Path, wheel: Path, extras: str) -> Path:
    """The ``bin`` of a new environment that holds the wheel, and what it asks for, and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    constraints = str(ROOT / "constraints.txt")
    pip(place / "bin" / "python", "install", "-c", constraints, f"{wheel}[{extras}]")
    return place / "bin"


@pytest.fixture(scope="session")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which people can vote."""
    return environment(tmp_path_factory.mktemp("empty"), wheel, "collect")


@pytest.fixture(scope="session")
def more_programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that writes DICOM and exports networks, too."""
    return environment(tmp_path_factory.mktemp("more"), wheel, "collect,dicom,export")
