"""What CONTRIBUTING.md adds works as it stands there, and is as short as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import segpref
from segpref.cli.main import main
from segpref.data import Preparation, prepare
from segpref.data.phantoms import write_phantoms
from segpref.types import Candidate

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"```(python|yaml)\n(.*?)```", TEXT, re.DOTALL)


def defined(name: str) -> Any:
    (source,) = (text for kind, text in BLOCKS if kind == "python" and f"class {name}" in text)
    scope: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, "CONTRIBUTING.md", "exec"), scope)
    return scope[name]


@pytest.mark.parametrize(("kind", "text"), BLOCKS, ids=[text[:20] for _, text in BLOCKS])
def test_a_recipe_for_adding_something_is_short(kind: str, text: str) -> None:
    code = [line for line in text.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(code) <= 15


def test_the_judge_scores_and_the_objective_has_a_gradient() -> None:
    masks = np.zeros((3, 1, 4, 4), np.uint8)
    masks[1, 0, :2] = masks[2, 0] = 1
    image = np.zeros((1, 4, 4), np.float32)
    case = segpref.Case(id="a", patient="a", volume="a", image=image)
    slate = segpref.Slate(masks, (Candidate("anchor"),) * 3)
    judge = defined("Large")()
    assert isinstance(judge, segpref.Judge)
    assert judge.score(case, slate)[:, 0].tolist() == [0, 0.5, 1]
    policy = torch.tensor([0.5, 2.0], requires_grad=True)
    margins = segpref.Margins(policy, torch.zeros(2), torch.ones(2))
    losses = defined("Squared")()(margins)
    assert losses.tolist() == [0.25, 1.0]
    losses.sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == [-1, 2]


def test_the_policy_is_one_that_can_be_tuned() -> None:
    network = torch.nn.Conv2d(1, 2, 1)
    space = segpref.LabelSpace("multi-class", ("background", "a"))
    images = torch.rand(1, 1, 8, 8)
    policy = defined("Calm")(network, space, temperature=4.0)
    assert isinstance(policy, segpref.TunablePolicy)
    plain = segpref.Segmenter(network, space)
    torch.testing.assert_close(policy.logits(images) * 4, plain.logits(images))
    torch.testing.assert_close(policy.forward(images).logits * 4, plain.forward(images).logits)


def test_the_reader_gives_a_dataset(tmp_path: Path) -> None:
    for number in range(3):
        label = np.zeros((16, 16), np.uint8)
        label[4:9, 4:9] = 1
        np.savez(tmp_path / f"case{number}.npz", image=label + 0.1 * number, label=label)
    reader = defined("Arrays")(tmp_path)
    assert isinstance(reader, segpref.Reader)
    cache = segpref.Cache(tmp_path / "cache")
    cases = prepare(reader, Preparation(dims=2, size=(16, 16)), cache)
    assert cases.patients == ("case0", "case1", "case2")
    assert int(np.asarray(cases[0].label).sum()) == 25


@pytest.mark.slow
def test_the_study_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (recipe,) = (text for kind, text in BLOCKS if kind == "yaml")
    Path("mine.yaml").write_text(recipe)
    write_phantoms("data", "cardiac", (32, 32), 9, seed=0, slices_per_patient=2)
    pattern = '{"patient_pattern": "(phantom\\\\d+)"}'
    data = ["--data", "data", "--data_options", pattern]
    assert main(["study", "--recipe", "mine.yaml", *data, "--workers", "0"]) == 0
    assert "RN-DPO" in Path("runs/mine/tables.md").read_text()
