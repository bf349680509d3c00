"""The README's code is run as it stands, and its commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from segpref.cli import command_parser
from segpref.cli.main import COMMANDS, USAGE, main
from segpref.data.phantoms import write_phantoms
from segpref.types import Candidate, Case, Judge, Slate
from small_network import network_option

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_the_lines_in_python_end_with_masks_of_a_tuned_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGPREF_CACHE", str(tmp_path / "cache"))
    example = blocks("python")[0]
    assert len([line for line in example.splitlines() if line]) <= 12
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "runs/rn-dpo/summary.json").exists()
    assert "pairs the wrong way round: 0." in capsys.readouterr().out
    assert len(list((tmp_path / "masks").iterdir())) == len(
        list((tmp_path / "data/images").iterdir())
    )


def test_the_judge_in_the_readme_is_a_judge_and_prefers_smooth_masks() -> None:
    scope: dict[str, type] = {}
    exec(compile(blocks("python")[1], "README.md", "exec"), scope)
    judge = scope["SmoothnessJudge"]()
    assert isinstance(judge, Judge)
    smooth = np.zeros((1, 8, 8), np.uint8)
    smooth[0, 2:6, 2:6] = 1
    rough = smooth.copy()
    rough[0, 3, 3] = 0
    case = Case(id="a", patient="a", volume="a", image=np.zeros((1, 8, 8), np.float32))
    slate = Slate(np.stack([rough, smooth]), (Candidate("anchor"), Candidate("other")))
    scores = judge.score(case, slate)
    assert scores.shape == (2, 1)
    assert scores[1, 0] > scores[0, 0]


def commands(text: str) -> list[list[str]]:
    """The command lines in a text; a deeply indented line goes on with the one before."""
    one = r"^ *segpref +(?:\w+ +-|collect +\w+ ).*(?:\n {4,}.*)*"
    found = re.findall(one, text, re.MULTILINE)
    return [shlex.split(line)[1:] for line in found]


DOCUMENTED = {
    " ".join(line): line
    for file in DOCUMENTS
    for block in re.findall(r"```(?:text|bash)\n(.*?)```", file.read_text(), re.DOTALL)
    for line in commands(block)
}


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("line", DOCUMENTED)
def test_every_documented_command_takes_its_options(line: str) -> None:
    given = DOCUMENTED[line]
    words = 2 if given[0] == "collect" else 1
    command = " ".join(given[:words])
    assert command in COMMANDS
    command_parser(command)[0].parse_args(given[words:])


def test_help_shows_the_first_round_of_the_readme() -> None:
    first_round = commands(USAGE)
    assert [line[0] for line in first_round] == [
        "fit", "fit", "audit", "align", "evaluate", "predict",
    ]  # fmt: skip
    assert all(" ".join(line) in DOCUMENTED for line in first_round)


SMALL = {
    "fit": ["--preparation.size", "[32, 32]", "--epochs", "1", "--images_per_epoch", "8"],
    "align": ["--epochs", "1", "--images_per_epoch", "8", "--candidates", "4"],
    "audit": ["--candidates", "4"],
}


@pytest.mark.slow
def test_the_first_round_goes_from_images_to_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGPREF_CACHE", str(tmp_path / "cache"))
    write_phantoms(tmp_path / "DATA", "cardiac", (32, 32), 16, seed=0)
    (tmp_path / "IMAGES").symlink_to("DATA/images")
    for command, *options in commands(USAGE):
        small = SMALL.get(command, [])
        if command == "fit":
            small = [*small, "--network", network_option(dropout=0.1)]
        assert main([command, *options, *small]) == 0
    images = sorted(path.name for path in (tmp_path / "IMAGES").iterdir())
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == images


@pytest.mark.slow
def test_the_commands_of_mapo_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGPREF_CACHE", str(tmp_path / "cache"))
    write_phantoms(tmp_path / "DATA", "cardiac", (32, 32), 16, seed=0, slices_per_patient=2)
    warm, mapo = (line for line in commands(README) if {"runs/warm", "oracle-dice"} & {*line})
    short = [*SMALL["fit"], "--network", network_option(dropout=0.1)]
    assert main([*warm, *short]) == 0
    short = ["--epochs", "2", "--refresh", "1", "--candidates", "4"]
    assert main([*mapo, *short]) == 0
    kept = yaml.safe_load((tmp_path / "runs/mapo/config.yaml").read_text())
    assert (kept["judge"], kept["reduction"], kept["supervised"]) == ("oracle-dice", "image", 0.5)
    assert (tmp_path / "runs/mapo/best.safetensors").exists()


def test_documented_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^make (\w+)", README, re.MULTILINE))
    assert {"demo", "test"} <= targets
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", file.read_text()):
        assert (file.parent / target).exists(), target
