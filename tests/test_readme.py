"""The README's code is run as it stands, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from segpref.cli.main import COMMANDS
from segpref.data.phantoms import write_phantoms
from segpref.types import Candidate, Case, Judge, Slate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_the_ten_lines_in_python_end_with_a_tuned_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_phantoms(tmp_path / "data", "cardiac", (32, 32), 12, seed=0, slices_per_patient=2)
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    assert (tmp_path / "runs/rn-dpo/best.safetensors").exists()
    assert (tmp_path / "runs/rn-dpo/summary.json").exists()


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


def test_every_documented_command_exists() -> None:
    used = set(re.findall(r"^segpref (\w+)", README, re.MULTILINE))
    assert used
    assert used <= set(COMMANDS)
    targets = set(re.findall(r"^make (\w+)", README, re.MULTILINE))
    assert {"demo", "test"} <= targets
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_to_files_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
