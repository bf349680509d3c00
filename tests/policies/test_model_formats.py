"""Users' own models through the commands: in, tuned, and out in the format that they came in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from made_bundle import run_bundle, write
from safetensors.torch import load_file, save_file

import own_process
from counting_backend import Counting
from segpref.cli.main import main
from segpref.data import Preparation
from segpref.policies import load_model, open_model, read_card
from segpref.types import SegprefError

PREPARED = ["--preparation.dims", "2", "--preparation.normalise", "z-score"]
UNET = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2],
    "num_res_units": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of sizes of their own, larger than the 16 x 16 of the bundle's windows."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for number in range(10):
        shape = np.array([22 + number % 3, 20])
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        distance = np.linalg.norm(grid - shape / 2 - rng.uniform(-2, 2, 2), axis=-1)
        label = ((distance < 7).astype(np.uint8) + (distance < 4)).astype(np.uint8)
        image = (label + rng.normal(0, 0.4, shape)).astype(np.float32)
        for name, array in (("images", image), ("labels", label)):
            (root / name).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / name / f"p{number}.nii.gz")
    return root


def of(data: Path) -> list[str]:
    names = '{"names": ["background", "liver", "tumour"]}'
    return ["--data", str(data), "--data_options", names]


def align(model: Path, data: Path, out: Path, *options: str) -> int:
    return main(
        ["align", "--model", str(model), *of(data), "--out", str(out), "--judge", "oracle",
         "--epochs", "2", "--batch_size", "2", "--candidates", "6", "--learning_rate", "0.01",
         "--cache", str(out.parent / "cache"), "--keep_tuned", *options]
    )  # fmt: skip


@pytest.mark.slow
def test_a_bundle_goes_in_and_comes_out_tuned(data: Path, tmp_path: Path) -> None:
    bundle, out = write(tmp_path / "spleen"), tmp_path / "run"
    assert align(bundle, data, out, "--labelled", '["p0", "p1"]', *PREPARED) == 0
    card = read_card(out / "best.safetensors")
    assert card.preparation == Preparation(dims=2, normalise="z-score", patch=(16, 16))
    assert card.labelled == ("p0", "p1")
    assert {"p0", "p1"} <= set(json.loads((out / "split.json").read_text())["train"])
    tuned = out / "tuned" / "spleen"
    stored = torch.load(tuned / "models" / "model.pt", weights_only=True)
    best = load_file(out / "best.safetensors")
    before = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(stored[name], best[name]) for name in best)
    assert any(not torch.equal(stored[name], before[name]) for name in stored)

    options = {
        "config_file": tuned / "configs" / "inference.json",
        "meta_file": tuned / "configs" / "metadata.json",
        "bundle_root": tuned,
    }
    done = own_process.ended(run_bundle, *(f"--{name}={value}" for name, value in options.items()))
    assert done.returncode == 0, done.stderr[-2000:]
    image = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
    found = torch.load(tuned / "logits.pt", weights_only=True)
    expected = load_model(out)[0].logits(image)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    # What was tuned is opened as what it was made from, and a run that is whole is left alone.
    again = open_model(tuned, labelled=[], preparation=Preparation(dims=2, normalise="z-score"))
    assert again.policies()[0].digest() == load_model(out)[0].digest()
    assert align(bundle, data, out, "--labelled", '["p0", "p1"]', *PREPARED, "--resume") == 0


@pytest.mark.slow
def test_a_compiled_bundle_learns_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpref.networks.compiled.BACKEND", backend := Counting())
    bundle, stored = write(tmp_path / "spleen"), []
    for name in ("plain", "compiled"):
        options = ["--labelled", '["p0", "p1"]', *PREPARED, "--compile", str(name == "compiled")]
        assert align(bundle, data, tmp_path / name, *options) == 0
        stored.append(load_file(tmp_path / name / "last.safetensors"))
        assert (backend.runs > 0) == (name == "compiled")
    plain, compiled = stored
    assert plain.keys() == compiled.keys()
    assert all(torch.equal(compiled[name], value) for name, value in plain.items())


def described(root: Path, **changes: Any) -> Path:
    """Plain weights with a page of YAML."""
    from monai.networks.nets import UNet

    root.mkdir()
    torch.manual_seed(0)
    save_file(UNet(**UNET).state_dict(), root / "unet.safetensors")
    content = {
        "weights": "unet.safetensors",
        "network": {"class_path": "monai.networks.nets.UNet", "init_args": UNET},
        "label_space": {"kind": "multi-class", "names": ["background", "liver", "tumour"]},
        "preparation": {"dims": 2, "normalise": "z-score", "patch": [16, 16]},
        "labelled": ["p0", "p1"],
        **changes,
    }
    kept = {name: value for name, value in content.items() if value is not None}
    (root / "model.yaml").write_text(yaml.safe_dump(kept))
    return root / "model.yaml"


@pytest.mark.slow
def test_plain_weights_through_all_commands(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = described(tmp_path / "own"), tmp_path / "run"
    assert align(model, data, out) == 0
    tuned = out / "tuned" / "model.yaml"
    best = load_file(out / "best.safetensors")
    assert all(
        torch.equal(value, best[name])
        for name, value in load_file(out / "tuned" / "unet.safetensors").items()
    )
    split = ["--split", str(out / "split.json"), "--cache", str(tmp_path / "cache")]
    for one in (tuned, out):
        assert main(["evaluate", "--model", str(one), *of(data), *split, "--part", "test"]) == 0
    written = capsys.readouterr().out.split("mean")
    assert written[1].split("\n")[0] == written[2].split("\n")[0]  # the same figures
    assert main(["audit", "--model", str(tuned), "--judge", str(model), *of(data), *split]) == 0
    masks = tmp_path / "masks"
    images = ["--input", str(data / "images"), "--output", str(masks)]
    assert main(["predict", "--model", str(tuned), *images]) == 0
    assert nib.load(masks / "p1.nii.gz").shape == (23, 20)
    assert main(["export", "--model", str(tuned), "--out", str(tmp_path / "unet.ts")]) == 0


def test_nobody_is_tested_on_whom_a_model_may_have_seen(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = described(tmp_path / "own", labelled=None)
    assert align(model, data, tmp_path / "run") == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert "does not say which patients it was trained with" in printed
    assert "--labelled" in printed
    assert not (tmp_path / "run").exists()
    split = tmp_path / "split.json"
    parts = {"train": ["p3"], "judge": [], "validation": ["p0"], "test": ["p2"], "by_patient": True}
    split.write_text(json.dumps(parts))
    known = ["--labelled", '["p0"]', "--split", str(split)]
    assert align(model, data, tmp_path / "run", *known) == 1
    assert "patient p0 is in" in capsys.readouterr().err


def test_what_is_opened(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle")
    with pytest.raises(SegprefError, match="its preprocessing amounts to with --preparation"):
        open_model(bundle)
    with pytest.raises(SegprefError, match=r"there is no model at .* a trained nnU-Net folder"):
        open_model(tmp_path / "nothing")
    nnunet = tmp_path / "Trainer__Plans__2d"
    (nnunet / "fold_0").mkdir(parents=True)
    with pytest.raises(SegprefError, match=r"there is no .*plans\.json"):
        open_model(nnunet)
    for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
        (nnunet / name).write_text("{}")
    for path in (nnunet, nnunet / "fold_0"):
        with pytest.raises(SegprefError, match=r"unpickling runs whatever code .* add --trust"):
            open_model(path)
    plain = open_model(described(tmp_path / "own"), labelled=["p7"])
    assert plain.labelled == ("p0", "p1", "p7")
    assert open_model(tmp_path / "own" / "model.yaml").labelled == ("p0", "p1")
