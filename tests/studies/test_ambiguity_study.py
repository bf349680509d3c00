"""A study of ambiguous segmentations from the command line, on a tiny dataset of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from flips import flip
from segpref.cli.main import main
from segpref.data import Cache, open_dataset
from segpref.studies.ambiguity import AmbiguityWorkspace, ambiguity_jobs, load_ambiguity_recipe

pytest.importorskip("diffusers")
SIDE = 16
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "description": "squares",
    "preparation": {"crop": [SIDE, SIDE]},
    "split": {"validation": 2, "test": 4, "judge": 0},
    "seeds": [0],
    "network": {
        "channels": [8, 16], "cross": 16, "heads": 2, "latent": 2, "latent_channels": 8,
        "text_encoder": None, "middle_attention": False, "attention": [False, False],
    },
    "fit": {"epochs": 1, "images_per_epoch": 8, "batch_size": 4},
    "align": {
        "epochs": 1, "images_per_epoch": 4, "batch_size": 4, "pool_images": 4, "learning_rate": 1e-3,
        "sampler": {"steps": 2},
    },
    "methods": {
        "Mean Dice": {"learning_rate": 1e-4},
        "Region": {"preference": "stochastic-run", "reduction": "region"},
        "Coin": {"learning_rate": 1e-4, "control": True, "refresh": 1},
    },
    "sampler": {"steps": 2},
    "samples": 4,
    "numbers": [1, 6],
    "knob": {"Mean Dice": [2.0], "Region": [2.0]},
    "control": {"rough": {"spiculation": 5}, "smooth": {"spiculation": 1}},
    "speed": [{"solver": "ddim", "steps": 4}, {"steps": 2}],
    "speed_images": 2,
    "pictures": 2,
    "variants": {
        "Without KL": {"fit": {"kl_weight": 0.0}},
        "v": {"network": {"prediction": "v"}, "table": "predictions"},
    },
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for number in range(10):
        rng = np.random.default_rng(number)
        folder = tmp_path / "data" / f"LIDC-IDRI-{number:04d}" / "nodule-0"
        y, x = rng.integers(3, SIDE - 8, 2)
        for rater in range(2):
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[y - rater : y + 5 + rater, x - rater : x + 5 + rater] = 255
            _write(folder / f"mask-{rater}" / "slice-0.png", mask)
        _write(folder / "images" / "slice-0.png", mask // 2 + rng.integers(0, 9, mask.shape))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


class Missing:
    """A reader that nobody asks."""


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def study(place: Path, *options: str) -> int:
    given = ["--recipe", place / "tiny.yaml", "--data", place / "data", "--out", place / "out"]
    return main(["ambiguity", *map(str, given), *options])


@pytest.mark.long
def test_a_study_and_its_tables(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study(place, "--only", "fit AmbiSeg") == 0
    assert "No table yet" in capsys.readouterr().out
    assert study(place, "--only", "Without KL") == 0
    alone = (place / "out" / "tables.md").read_text()
    assert "| Without KL |" in alone
    assert "| AmbiSeg |" not in alone
    assert study(place, "--only", "seed 0") == 0
    assert study(place) == 0
    tables = (place / "out" / "tables.md").read_text()
    for told in (
        "Alignments, N = 4", "| Mean Dice, w = 2 |", "| N = 6 |", "| Without KL |", "| v |",
        "Semantic control", "matched one to one for size", "Validation, by which", "| ddim, 4 steps |",
        "Without KL against AmbiSeg: Avg. Dice", "Region against AmbiSeg: Avg. Dice",
        "Region against Coin: Avg. Dice",
        "Of the raters' masks 0.0% are empty", "| Empty |",
        "GED of dpm-solver++, 2 steps minus ddim, 4 steps: +",
    ):  # fmt: skip
        assert told in tables
    pictures = {path.stem for path in (place / "out" / "figures").iterdir()}
    assert pictures == {"knob", "samples", "control"}
    rows = (place / "out" / "images.csv").read_text().splitlines()
    # AmbiSeg, two variants, the coin, and two methods with two stops each, on four images.
    assert len(rows) == 1 + 8 * 4
    capsys.readouterr()
    assert study(place, "--list_only", "true") == 0
    assert "to do" not in capsys.readouterr().out
    # What is there is not made again, and what was lost is.
    drawn = place / "out" / "samples" / "mean-dice" / "seed-0" / "w-2" / "000.safetensors"
    content = drawn.read_bytes()
    kept = place / "out" / "samples" / "mean-dice" / "seed-0" / "w-1" / "000.safetensors"
    untouched = kept.stat().st_mtime_ns
    drawn.unlink()
    assert study(place) == 0
    assert drawn.read_bytes() == content
    assert kept.stat().st_mtime_ns == untouched
    # What is not what was written is not used.
    flip(kept)
    capsys.readouterr()
    assert study(place) == 1
    assert "draws its samples again" in " ".join("".join(capsys.readouterr()).split())
    kept.unlink()
    assert study(place) == 0
    # Samples are of the best checkpoint of a method, unless the last is asked for.
    runs = place / "out" / "runs"
    shutil.copy(
        runs / "ambiseg/seed-0/best.safetensors", runs / "mean-dice/seed-0/last.safetensors"
    )
    assert study(place, "--list_only", "true") == 0
    # A changed setting is not a finished part under an old name.
    for change, told in (
        (
            {"methods": {**RECIPE["methods"], "Mean Dice": {"beta": 1}}},
            "mean-dice/seed-0 was begun",
        ),
        (
            {"variants": {**RECIPE["variants"], "v": {"fit": {"average": 0.5}}}},
            "v/seed-0 was begun",
        ),
        ({"sampler": {"steps": 3}}, "ambiseg/seed-0/w-1 was begun with other settings (sampler)"),
        ({"checkpoint": "last"}, "mean-dice/seed-0/w-1 was begun with other settings (models)"),
        ({"data_options": {"padded": False}}, "begun with other settings (data_options)"),
        ({"split_seed": 1}, "begun with other settings (split_seed)"),
    ):
        (place / "tiny.yaml").write_text(yaml.safe_dump({**RECIPE, **change}))
        assert study(place) == 1
        assert told in "".join(capsys.readouterr().err.split("\n"))


@pytest.mark.slow
def test_seeds_of_ones_own_are_in_the_tables(place: Path) -> None:
    few = {**RECIPE, "numbers": [], "knob": {}, "control": {}, "variants": {}, "methods": {}}
    (place / "tiny.yaml").write_text(yaml.safe_dump(few))
    assert study(place, "--seeds", "[5]") == 0
    tables = (place / "out" / "tables.md").read_text()
    for told in ("| AmbiSeg |", "| ddim, 4 steps |"):
        assert told in tables


def test_mistakes_in_a_recipe(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for change, told in (
        ({"knob": {"Nobody": [2.0]}}, "which is not a method"),
        ({"control": {"rough": {"spiculation": 5}}}, "give two"),
        ({"labelled": 0}, "labelled must be above 0 and at most 1"),
        ({"variants": {"v": {"fit": {"epoch": 1}}}}, "stage 1 has no setting 'epoch'"),
        ({"variants": {"v": {"fit": {"epochs": 0}}}}, "epochs must be at least 1"),
    ):
        (place / "tiny.yaml").write_text(yaml.safe_dump({**RECIPE, **change}))
        assert study(place) == 1
        assert told in " ".join(capsys.readouterr().err.split())
    assert main(["ambiguity", "--data", str(place / "data"), "--recipe", "acdc"]) == 1
    assert "there is no recipe acdc: name a YAML file or one of lidc, lidc-small" in " ".join(
        capsys.readouterr().err.split()
    )


def test_the_recipe_that_comes_with_segpref(tmp_path: Path) -> None:
    recipe = load_ambiguity_recipe("lidc-small")
    jobs = ambiguity_jobs(AmbiguityWorkspace(recipe, Missing(), tmp_path))  # type: ignore[arg-type]
    names = [job.shown for job in jobs]
    assert len(names) == len(set(names))
    assert names[:2] == ["fit AmbiSeg, seed 0", "draw AmbiSeg, seed 0"]
    assert "draw Mean Dice, seed 1, w 1.5" in names
    # Ablations are of the first seed.
    assert names.index("fit AmbiSeg, seed 1") > names.index("fit Without text, seed 0")
    assert "fit Without text, seed 1" not in names


@pytest.mark.slow
def test_the_recipe_of_the_paper() -> None:
    recipe = load_ambiguity_recipe("lidc")
    assert recipe.fit.epochs * recipe.fit.images_per_epoch // recipe.fit.batch_size == 50_000
    assert {method.beta for method in recipe.methods.values()} == {5000}
    with torch.device("meta"):
        network = recipe.network_spec({}).for_data(1, 1).build()
    attending = [m for m in network.modules() if hasattr(m, "heads") and hasattr(m, "to_q")]
    assert {one.to_q.out_features // one.heads for one in attending} == {64}


def test_a_share_of_the_training_patients(place: Path) -> None:
    (place / "tiny.yaml").write_text(yaml.safe_dump({**RECIPE, "labelled": 0.5}))
    recipe, reader = load_ambiguity_recipe(place / "tiny.yaml"), open_dataset(place / "data")
    workspace = AmbiguityWorkspace(recipe, reader, place / "out", Cache(place / "cache"))
    assert len(workspace.split.train) == 4
    assert len(workspace.train.patients) == 2
    assert set(workspace.train.patients) < set(workspace.split.train)
    assert set(workspace.pool(recipe.align).patients) <= set(workspace.train.patients)
