"""The commands, one after the other, as a person would give them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from segpref.cli.main import COMMANDS, main
from segpref.data.phantoms import write_phantoms
from segpref.policies import load_model
from small_network import network_option

OPTIONS = ["--data_options", '{"patient_pattern": "(phantom\\\\d+)"}']
NETWORK = network_option(dropout=0.1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    write_phantoms(folder / "data", "cardiac", (32, 32), 16, seed=0, slices_per_patient=2)
    return folder


def run(place: Path, command: str, *options: str) -> int:
    return main([command, *options, "--cache", str(place / "cache")])


def fit(place: Path, out: str, *options: str) -> int:
    return run(
        place, "fit", "--data", str(place / "data"), *OPTIONS, "--out", str(place / out),
        "--preparation.size", "[32, 32]", "--network", NETWORK, "--epochs", "2",
        "--images_per_epoch", "16", *options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(place: Path) -> Path:
    assert fit(place, "base", "--labelled", "2") == 0
    split = str(place / "base" / "split.json")
    assert fit(place, "judge", "--split", split, "--part", "judge") == 0
    return place


def align(place: Path, out: str, *options: str) -> int:
    return run(
        place, "align", "--model", str(place / "base"), "--judge", str(place / "judge"),
        "--data", str(place / "data"), *OPTIONS, "--out", str(place / out), "--epochs", "1",
        "--images_per_epoch", "8", "--candidates", "8", *options,
    )  # fmt: skip


def test_fit_leaves_a_whole_run_folder(models: Path) -> None:
    base = models / "base"
    for name in ("config.yaml", "run.json", "metrics.csv", "summary.json", "best.safetensors",
                 "last.safetensors", "report.html", "split.json"):  # fmt: skip
        assert (base / name).exists(), name
    assert list((base / "tensorboard").iterdir())
    config = yaml.safe_load((base / "config.yaml").read_text())
    assert config["labelled"] == 2
    assert config["learning_rate"] == 1e-3


@pytest.mark.slow
def test_audit_align_evaluate_predict(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(models / "data"), *OPTIONS]
    both = ["--model", str(models / "base"), "--judge", str(models / "judge")]
    assert run(models, "audit", *both, *data, "--candidates", "8",
               "--out", str(models / "audit.json"), "--report", str(models / "audit.html")
               ) == 0  # fmt: skip
    printed = " ".join(capsys.readouterr().out.split())
    assert "worth using: its favourites " in printed.partition("HarmTop")[0]
    assert "worth using: its favourites " in (models / "audit.html").read_text()
    # The judge's own masks were measured, and it has learned from patients of its own.
    assert "The judge's own masks are " in printed.partition("HarmTop")[0]
    assert "The judge has learned from labels of 2 patients that the model has not seen." in printed
    assert json.loads((models / "audit.json").read_text())["unused"] == 2
    assert "PairFlip" in printed
    assert "--method calibrated" in printed
    assert align(models, "calibrated", "--method", "calibrated") == 0
    measured, before = (
        json.loads(file.read_text())["mined"]
        for file in (models / "calibrated" / "audit.json", models / "audit.json")
    )
    assert measured == before
    assert 0 <= json.loads((models / "audit.json").read_text())["judge"]["pair_flip"] <= 1
    assert align(models, "tuned") == 0
    assert "report" in capsys.readouterr().err
    page = (models / "tuned" / "report.html").read_text()
    assert "base" in page
    assert align(models, "objective", "--objective", "segpref.objectives.IPO",
                 "--objective.beta", "0.5", "--miner", "segpref.preferences.RandomPair",
                 "--reduction", '["power", 0.5]') == 0  # fmt: skip
    assert align(models, "pseudo", "--method", "pseudo-label") == 0
    # Pseudo-labels have no pairs that an objective could be for.
    assert align(models, "other pseudo", "--method", "pseudo-label",
                 "--objective", "segpref.objectives.CalibratedDPO") != 0  # fmt: skip
    assert "objective has no effect with method pseudo-label" in capsys.readouterr().err
    assert run(models, "evaluate", "--model", str(models / "tuned"), *data,
               "--out", str(models / "scores.csv")) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "hd95_mm" in out.replace("\n", "") or "hd95" in out
    header = (models / "scores.csv").read_text().splitlines()[0]
    assert header.startswith("volume,patient,structure,iou,dice")
    images, masks = models / "data" / "images", models / "masks"
    assert main(["predict", "--model", str(models / "tuned"), "--input", str(images),
                 "--output", str(masks)]) == 0  # fmt: skip
    first = next(iter(sorted(images.iterdir())))
    image, mask = nib.load(first), nib.load(masks / first.name)
    assert image.shape == mask.shape
    np.testing.assert_array_equal(image.affine, mask.affine)


@pytest.mark.slow
def test_masks_of_a_model_judge_as_the_model_does(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = models / "masks of the judge"
    assert main(["predict", "--model", str(models / "judge"), "--output", str(masks),
                 "--input", str(models / "data" / "images")]) == 0  # fmt: skip
    # nnU-Net's predictions lie beside its plans, and models beside pictures of their training.
    (masks / "plans.json").write_text("{}")
    judge = models / "judge"
    (judge / "progress.png").write_bytes(b"")
    for pool in ([], ["--pool", str(models / "data" / "images")]):
        weights = []
        # The mean of two equal opinions is that opinion.
        for number, named in enumerate((str(judge), str(masks), f"[{judge}, {masks}]")):
            out = f"by {number}, {len(pool)}"
            assert align(models, out, "--judge", named, *pool) == 0
            weights.append((models / out / "last.safetensors").read_bytes())
        assert weights[0] == weights[1] == weights[2]
    data = ["--data", str(models / "data"), *OPTIONS, "--candidates", "8"]
    capsys.readouterr()
    printed = []
    for one in (masks, judge):
        assert run(models, "audit", "--model", str(models / "base"), "--judge", str(one),
                   *data) == 0  # fmt: skip
        told = " ".join(capsys.readouterr().out.split())
        # Only a model says whose labels it has learned from.
        assert ("The judge has learned from labels of" in told) == (one == judge)
        before, _, table = told.partition("The judge (RN-DPO")
        printed.append((before.partition(" The judge has learned from")[0].strip(), table))
    assert printed[0] == printed[1]


@pytest.mark.slow
def test_a_control_turns_the_judge_round_by_chance(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flips = {}
    for out, options in (("by oracle", []), ("by a coin", ["--control"])):
        assert align(models, out, "--judge", "oracle", *options) == 0
        with (models / out / "metrics.csv").open(newline="") as file:
            flips[out] = float(list(csv.DictReader(file))[-1]["pair_flip"])
    assert "is a random-preference control" in capsys.readouterr().err
    assert flips["by oracle"] == 0
    assert 0 < flips["by a coin"] < 1


def test_export_writes_the_network_for_other_programs(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = models / "base.ts"
    assert main(["export", "--model", str(models / "base"), "--out", str(file)]) == 0
    assert "batch and space may differ" in capsys.readouterr().out
    network = torch.jit.load(file)
    policy, _ = load_model(models / "base")
    images = torch.rand(3, 1, 32, 32)
    torch.testing.assert_close(network(images), policy.logits(images), atol=1e-4, rtol=0)
    assert main(["export", "--model", str(models / "base"), "--out", str(models / "base.pkl")]) == 1
    assert ".ts (TorchScript) or .onnx" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_not_overwritten_but_resumed(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(models, "base", "--labelled", "2") == 1
    assert "--resume" in capsys.readouterr().err
    before = (models / "base" / "best.safetensors").read_bytes()
    assert fit(models, "base", "--labelled", "2", "--resume", "true") == 0
    assert (models / "base" / "best.safetensors").read_bytes() == before
    assert fit(models, "base", "--labelled", "3", "--resume", "true") == 1
    assert "labelled" in capsys.readouterr().err


def test_a_judge_that_saw_the_validation_patients_is_refused(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = json.loads((models / "base" / "split.json").read_text())
    split["judge"], split["validation"] = split["validation"], split["judge"]
    (models / "swapped.json").write_text(json.dumps(split))
    assert align(models, "leak", "--split", str(models / "swapped.json")) == 1
    message = capsys.readouterr().err
    assert "leaks" in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["predict", "--model", "nowhere", "--input", "x", "--output", "y"], "nowhere"),
        (["fit", "--data", "nowhere", "--out", "y"], "nowhere"),
        (["demo", "--recipe", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_sentence_without_a_traceback(
    options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(options) == 1
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert not list(tmp_path.rglob("*.png"))  # before any work


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert main(["no-such"]) == 2


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_option_has_a_help_text(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "settings" not in text.split("options:")[0]
    assert "--config" in text


RECIPE = """
name: tiny
description: a test
split: {{judge: 3, validation: 2, test: 3}}
preparation: {{dims: 2, size: [32, 32]}}
network: {network}
bases: {{weak: {{labelled: 2, epochs: 1, images_per_epoch: 8}}}}
judges:
  weak:
    class_path: segpref.studies.judging.ModelBased
    init_args: {{train_on: {{labelled: 3, epochs: 1, images_per_epoch: 8}}}}
  oracle: {{class_path: segpref.studies.judging.Oracle}}
align: {{epochs: 1, images_per_epoch: 8, candidates: 8}}
methods:
  RN-DPO: {{learning_rate: 1e-3}}
grid:
  - {{title: main, judges: [weak]}}
  - {{title: beta, judges: [oracle], sweep: {{objective.beta: [0.5, 2]}}}}
seeds: [0]
"""


@pytest.mark.long
def test_study(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = place / "tiny.yaml"
    recipe.write_text(RECIPE.format(network=NETWORK))
    command = ["study", "--recipe", str(recipe), "--data", str(place / "data"), *OPTIONS]
    command += ["--out", str(place / "study"), "--workers", "1"]
    assert run(place, *command, "--list_only", "true") == 0
    assert capsys.readouterr().out.count("to do") == 8
    assert run(place, *command) == 0
    printed = capsys.readouterr().out
    assert "tiny, main, 1 seeds" in printed
    assert "RN-DPO, beta 0.5" in printed
    assert "RN-DPO against the base" in printed
    assert (place / "study" / "report.html").exists()
    assert run(place, *command, "--list_only", "true") == 0
    assert capsys.readouterr().out.count("finished") == 8
