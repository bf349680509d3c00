"""Promptable models through the commands: fit, align with feedback, evaluate, predict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpref.cli.main import main
from segpref.judges import VirtualAnnotator
from segpref.policies import load_model, read_card
from segpref.policies.promptable import PromptablePolicy
from segpref.prompts import WholeImage

SMALL = {"side": 32, "patch": 4, "width": 32, "layers": 2, "heads": 2, "prompt_width": 32}
NETWORK = json.dumps({"class_path": "segpref.policies.promptable.small_sam", "init_args": SMALL})
PROMPTER = json.dumps({"class_path": "segpref.prompts.WholeImage", "init_args": {"structures": 1}})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    for number in range(10):
        row, column = rng.integers(8, 24, 2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < 36
        image = rng.integers(0, 60, disc.shape) + 150 * disc
        for part, values in (("images", image), ("masks/lesion", 255 * disc)):
            (folder / "data" / part).mkdir(parents=True, exist_ok=True)
            file = folder / "data" / part / f"case{number}.png"
            Image.fromarray(values.astype(np.uint8)).save(file)
    status = main([
        "fit", "--data", str(folder / "data"), "--out", str(folder / "base"),
        "--preparation.size", "[32, 32]", "--preparation.normalise", "percentile",
        "--promptable", NETWORK, "--prompter", PROMPTER, "--labelled", "2", "--epochs", "1",
        "--images_per_epoch", "2", "--batch_size", "2", "--cache", str(folder / "cache"),
    ])  # fmt: skip
    assert status == 0
    return folder


def align(place: Path, out: str, *options: str) -> int:
    return main([
        "align", "--model", str(place / "base"), "--judge", "oracle", "--data", str(place / "data"),
        "--out", str(place / out), "--epochs", "1", "--images_per_epoch", "2",
        "--batch_size", "2", "--cache", str(place / "cache"), *options,
    ])  # fmt: skip


def test_fit_writes_a_model_that_prompts_itself(place: Path) -> None:
    policy, card = load_model(place / "base")
    assert isinstance(policy, PromptablePolicy)
    assert isinstance(policy.prompter, WholeImage)
    assert policy.prompter.structures == 1
    assert len(card.labelled) == 2
    assert "validation IoU" in (place / "base" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rating", "best-only"])
def test_align_hears_an_annotator(place: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    score = VirtualAnnotator.score

    def listening(self: VirtualAnnotator, *arguments: object) -> object:
        said = score(self, *arguments)  # type: ignore[arg-type]
        heard.append((self.says, said.shape[0]))
        return said

    monkeypatch.setattr(VirtualAnnotator, "score", listening)
    assert align(place, kind, "--feedback.kind", kind) == 0
    # Four thresholds, of which 0.5 is the model's own mask.
    says = "rating" if kind == "rating" else "ranking"
    assert {heard_says for heard_says, _ in heard} == {says}
    assert {count for _, count in heard} == {4}
    assert read_card(place / kind).policy == read_card(place / "base").policy


def test_feedback_is_not_mixed_with_another_method(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert align(place, "mixed", "--feedback.kind", "rating", "--method", "pseudo-label") == 1
    assert "feedback brings its own method" in " ".join(capsys.readouterr().err.split())


def test_the_model_is_evaluated(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main([
        "evaluate", "--data", str(place / "data"), "--model", str(place / "base"),
        "--cache", str(place / "cache"),
    ])  # fmt: skip
    assert status == 0
    assert "lesion" in capsys.readouterr().out
