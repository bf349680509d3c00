"""What the recorded trainings leave out: foreign models, adapters, prompts, samples, studies."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import made_bundle
import nibabel as nib
import numpy as np
import pytest
import runs
import small_studies
import torch
from accelerator import DEVICE, Accelerator, accelerator
from monai.networks.nets import UNet
from PIL import Image

from segpref.cli.main import main
from segpref.data import Preparation
from segpref.policies import load_model, save_model
from segpref.policies.promptable import PromptablePolicy, promptable_card, small_sam
from segpref.types import LabelSpace

pytestmark = pytest.mark.slow

METHODS = ("MeanTeacher", "FixMatch", "CopyPaste")
"""UniMatch is among the recorded trainings."""
SHORT = ["--epochs", "1", "--images_per_epoch", "4", "--batch_size", "2"]


def command(place: Path, name: str, *options: object, cached: bool = True) -> None:
    cache = ["--cache", str(place / "cache")] if cached else []
    assert main([name, *map(str, options), *cache]) == 0


def fitted(place: Path, out: str, *options: str) -> None:
    command(
        place, "fit", *runs.hearts(place), "--out", place / out, "--labelled", "2",
        "--preparation.size", "[32, 32]", "--network", runs.unet(), *options, *SHORT,
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_a_semisupervised_method(method: str, place: Path, there: Accelerator) -> None:
    spec = {"class_path": f"segpref.training.semisupervised.{method}"}
    fitted(place, method, "--method", json.dumps(spec))
    assert there.ran["Conv2d"]


def test_a_warm_up_with_dropout(place: Path, there: Accelerator) -> None:
    fitted(place, "dropout", "--augment", "none", "--dropout", "0.05")
    assert there.ran["Conv2d"]


def test_a_trained_judge_judges_there(place: Path, there: Accelerator) -> None:
    from segpref.data import Cache, open_dataset, prepare
    from segpref.training import RunFolder, fit_regressor

    base, folder = runs.fit_2d(place), RunFolder(place / "regressor")
    split = json.loads((base / "split.json").read_text())
    reader = open_dataset(Path(runs.hearts(place)[1]), patient_pattern=r"(phantom\d+)")
    hearts = prepare(reader, Preparation(dims=2, size=(32, 32)), Cache(place / "cache"))
    folder.open({}, resume=False)
    fit_regressor(
        base, hearts.of_patients(split["judge"]), hearts.of_patients(split["validation"]), folder,
        width=4, epochs=1, images_per_epoch=4, batch_size=2,
    )  # fmt: skip
    there.ran.clear()
    data = [*runs.hearts(place), "--model", base, "--judge", folder.path, "--candidates", 8]
    command(place, "audit", *data, "--out", place / "regressor.json")
    assert there.ran["Linear"]
    command(place, "align", *data, "--out", place / "judged", *SHORT)


def test_a_bundle_is_aligned_and_written_back(place: Path, there: Accelerator) -> None:
    network = UNet(2, 1, 4, (4, 8), (2,), num_res_units=1)
    config = {**made_bundle.CONFIG, "network_def": {**made_bundle.UNET, "out_channels": 4}}
    root = made_bundle.write(place / "bundle", config, network.cpu().state_dict())
    metadata: dict[str, Any] = json.loads((root / "configs/metadata.json").read_text())
    names = dict(zip("0123", ("background", "class 1", "class 2", "class 3"), strict=True))
    metadata["network_data_format"]["outputs"]["pred"] |= {"num_channels": 4, "channel_def": names}
    (root / "configs/metadata.json").write_text(json.dumps(metadata))
    form = json.dumps({"dims": 2, "size": [32, 32]})
    model = ["--model", root, "--trust", "--preparation", form]
    known = [*runs.hearts(place), "--labelled", "[]"]
    command(
        place, "align", *model, *known, "--judge", "oracle", "--out", place / "tuned-bundle",
        "--candidates", "8", "--keep_tuned", *SHORT,
    )  # fmt: skip
    assert there.ran["Conv2d"]
    command(place, "evaluate", *model, *known)
    images = Path(runs.hearts(place)[1]) / "images"
    tuned = ["--model", place / "tuned-bundle/tuned/bundle", *model[2:]]
    command(place, "predict", *tuned, "--input", images, "--output", place / "b", cached=False)
    assert any((place / "b").iterdir())


@pytest.mark.long
def test_adapters_are_tuned_there(place: Path, there: Accelerator) -> None:
    data = discs(place)
    network = json.dumps({"class_path": "adapted.adapted_sam"})
    prompter = {"class_path": "segpref.prompts.WholeImage", "init_args": {"structures": 1}}
    command(
        place, "fit", "--data", data, "--out", place / "adapted", "--preparation.size", "[32, 32]",
        "--preparation.normalise", "percentile", "--promptable", network, "--labelled", "2",
        "--prompter", json.dumps(prompter), *SHORT,
    )  # fmt: skip
    policy, _ = load_model(place / "adapted")
    assert isinstance(policy, PromptablePolicy)
    assert policy.inner.lora is not None
    assert policy.device == DEVICE
    command(
        place, "align", "--data", data, "--model", place / "adapted", "--judge", "oracle",
        "--out", place / "adapted-tuned", "--feedback.kind", "rating", *SHORT,
    )  # fmt: skip
    command(place, "evaluate", "--data", data, "--model", place / "adapted-tuned")
    images = data / "images"
    for name, prompts in (("own", []), ("boxed", ["--box", "[5, 4, 30, 20]"])):
        given = ["--model", place / "adapted-tuned", "--input", images, "--output", place / name]
        command(place, "predict", *given, *prompts, cached=False)


def discs(place: Path) -> Path:
    """Bright discs, with their masks."""
    rng, data = np.random.default_rng(0), place / "bright"
    rows, columns = np.mgrid[:32, :32]
    for number in range(10):
        row, column = rng.integers(8, 24, 2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < 36
        image = rng.integers(0, 60, disc.shape) + 150 * disc
        for part, values in (("images", image), ("masks/lesion", 255 * disc)):
            (data / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(data / part / f"case{number}.png")
    return data


def test_prompts_are_carried_through_a_volume_there(place: Path, there: Accelerator) -> None:
    network = small_sam(32, patch=4, width=32, layers=2, heads=2, prompt_width=32)
    space = LabelSpace("multi-label", ("lesion",))
    model = place / "prompted.safetensors"
    form = Preparation(size=(32, 32), normalise="percentile")
    save_model(model, network, promptable_card(network, space, form))
    volumes = place / "volumes"
    volumes.mkdir()
    image = np.random.default_rng(0).uniform(0, 100, (32, 24, 5)).astype(np.float32)
    image[8:20, 6:16] += 200
    nib.save(nib.Nifti1Image(image, np.diag([1.0, 1.0, 3.0, 1.0])), volumes / "scan.nii.gz")
    there.ran.clear()
    asked = ["--box", "[5, 4, 20, 25]", "--slice", "3"]
    for name, options in (("third", asked), ("carried", ["--carry"])):
        given = ["--model", model, "--input", volumes, "--output", place / name]
        command(place, "predict", *given, *options, cached=False)
        assert len(list((place / name).iterdir())) == 1
    assert there.ran["Linear"]


def test_masks_are_sampled_there(place: Path, there: Accelerator) -> None:
    model, images = runs.align_diffusion(place), place / "squares"
    images.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16)).astype(np.uint8)
    Image.fromarray(pixels).save(images / "a.png")
    there.ran.clear()
    given = ["--model", model, "--input", images, "--samples", "2", "--steps", "2"]
    command(place, "sample", *given, "--output", place / "samples", cached=False)
    mixed = ["--reference", place / "diffusion-base", "--knob", "0.5", "--mixed", "predictions"]
    command(place, "sample", *given, *mixed, "--output", place / "mixed", cached=False)
    assert there.ran["Conv2d"]


def test_a_network_is_exported_from_there(place: Path) -> None:
    """What is exported is traced on the host, wherever the network was."""
    base = runs.fit_2d(place)
    monkeypatch = pytest.MonkeyPatch()
    with accelerator(monkeypatch, strict=False):
        command(place, "export", "--model", base, "--out", place / "network.ts", cached=False)
    monkeypatch.undo()
    assert torch.jit.load(place / "network.ts")(torch.zeros(2, 1, 32, 32)).shape == (2, 4, 32, 32)


@pytest.mark.long
@pytest.mark.parametrize("study", ["squares", "discs"])
def test_a_study_of_another_kind_runs_there(
    study: str, tmp_path: Path, there: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import segpref.cli.ambiguity as ambiguity
    import segpref.cli.prompted as prompted
    from segpref.studies.engine import InProcess

    # A worker would be another process, without the accelerator.
    for module in (ambiguity, prompted):
        monkeypatch.setattr(module, "Processes", lambda *_: InProcess(), raising=False)
    rows = small_studies.STUDIES[study](tmp_path)
    assert len(rows) > 1
    assert sum(there.ran.values())
    with (tmp_path / "out" / "tables.csv").open(newline="") as file:
        assert any(row for row in csv.reader(file))
