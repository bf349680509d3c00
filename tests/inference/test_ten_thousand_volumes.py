"""The commands of the page about large pools, as they stand, on a few images and two nodes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import ray_nodes

import own_process
from segpref.cli.main import main
from segpref.data.phantoms import write_phantoms
from small_network import network_option

pytestmark = pytest.mark.long

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "ten-thousand-volumes.md"


def test_the_documented_commands_run(
    two_nodes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_phantoms(tmp_path / "DATA", "cardiac", (32, 32), 10, seed=0)
    small = ["--preparation.size", "[32, 32]", "--epochs", "1", "--images_per_epoch", "8"]
    small += ["--network", network_option(dropout=0.1), "--cache", "cache", "--data", "DATA"]
    assert main(["fit", "--labelled", "3", "--out", "runs/base", *small]) == 0
    split = ["--split", "runs/base/split.json", "--part", "judge"]
    assert main(["fit", *split, "--out", "runs/judge", *small]) == 0
    images = sorted((tmp_path / "DATA" / "images").iterdir())
    rows = [f"id-{number},DATA/images/{path.name}" for number, path in enumerate(images)]
    (tmp_path / "pool.csv").write_text("\n".join(["id,image", *rows]))
    lines = re.findall(r"^segpref (.*--ray auto)$", PAGE.read_text(), re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["predict", "audit", "collect", "align"]
    for line in lines:
        given = [two_nodes if word == "auto" else word for word in shlex.split(line)]
        few = [] if given[0] == "predict" else ["--candidates", "6"]
        if given[0] == "align":
            few += ["--epochs", "1", "--images_per_epoch", "4"]
        ended = own_process.ended(
            ray_nodes.commanded, [*given, *few], tmp_path, environment=ray_nodes.IMPORTS
        )
        assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "masks").iterdir())) == len(images)
    assert (tmp_path / "study" / "contents.json").exists()
