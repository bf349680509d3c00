"""An audit whose slates the workers of a Ray cluster make is the audit of one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ray_nodes

import own_process
from segpref.cli.main import main

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("judge", ["model", pytest.param("own", marks=pytest.mark.long)])
def test_figures_are_those_of_one_process(
    two_nodes: str,
    tmp_path: Path,
    heart_folder: Path,
    heart_base: Path,
    heart_judge: Path,
    judge: str,
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    given = [
        "audit", "--data", str(heart_folder), "--model", str(heart_base), "--part", "validation",
        "--candidates", "6",
        "--data_options.patient_pattern", ray_nodes.PATIENT,
        "--data_options.names", '["background", "RV", "MYO", "LV"]',
    ]  # fmt: skip
    alone, pooled = tmp_path / "alone.json", tmp_path / "pooled.json"
    own = '{{"class_path": "ray_nodes.Signing", "init_args": {{"marks": "{}"}}}}'
    judges = [
        str(heart_judge) if judge == "model" else own.format(tmp_path / name)
        for name in ("here", "there")
    ]
    line = ["--judge", judges[0], "--cache", str(tmp_path / "one"), "--out", str(alone)]
    assert main([*given, *line]) == 0
    line = ["--judge", judges[1], "--cache", str(tmp_path / "two"), "--out", str(pooled)]
    driver = own_process.started(
        ray_nodes.commanded, [*given, *line, "--ray", two_nodes], environment=ray_nodes.IMPORTS
    )
    ended = driver.ended()
    assert ended.returncode == 0, ended.stderr
    if judge == "own":
        scorers = {path.name for path in (tmp_path / "there").iterdir()}
        assert scorers
        assert str(driver.process.pid) not in scorers
    figures = [json.loads(path.read_text()) for path in (alone, pooled)]
    for one in figures:
        del one["settings"]
    assert figures[0] == figures[1]
    # What they shared is in the cache that they share.
    entries = [len([*(tmp_path / name).rglob("*")]) for name in ("one", "two")]
    assert entries[0] == entries[1]
