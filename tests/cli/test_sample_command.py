"""`segpref sample` as a person gives it: geometry, the knob, and mistakes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from segpref.cli.main import main
from segpref.data.preparation import Preparation
from segpref.policies import ModelCard, NetworkSpec, save_model
from segpref.policies.diffusion import DIFFUSION
from segpref.types import LabelSpace

pytest.importorskip("diffusers")
AFFINE = np.array([[0, -1.5, 0, 3], [1.25, 0, 0, 7], [0, 0, 4, -2], [0, 0, 0, 1.0]])
QUICK = ("--samples", "3", "--steps", "2")


def model(path: Path, seed: int = 0) -> Path:
    arguments = {
        "channels": [8, 16], "cross": 16, "heads": 2, "latent": 2, "latent_channels": 8,
        "text_encoder": None, "middle_attention": False, "attention": [False, False],
    }  # fmt: skip
    card = ModelCard(
        network=NetworkSpec("segpref.policies.diffusion.AmbiSegNetwork", arguments),
        label_space=LabelSpace("multi-label", ("blob",)),
        preparation=Preparation(crop=(16, 16)),
        policy=DIFFUSION,
    )
    torch.manual_seed(seed)
    save_model(path, card.network.build(), card)
    return path


@pytest.fixture
def aligned(tmp_path: Path) -> Path:
    return model(tmp_path / "aligned.safetensors", 1)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "scan.nii.gz"
    path.parent.mkdir()
    values = np.random.default_rng(0).integers(0, 100, (20, 18, 2)).astype(np.int16)
    image = nib.Nifti1Image(values, AFFINE)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def sample(model: Path, images: Path, out: Path, *options: str) -> int:
    given = ["--model", model, "--input", images, "--output", out]
    return main(["sample", *map(str, given), *QUICK, *options])


def masks(folder: Path) -> np.ndarray:
    paths = sorted(folder.glob("sample-*.nii.gz"))
    return np.stack([nib.load(path).get_fdata() for path in paths])


def test_masks_and_their_summaries_lie_on_the_image(
    tmp_path: Path, aligned: Path, scan: Path
) -> None:
    assert sample(aligned, scan, tmp_path / "out") == 0
    folder = tmp_path / "out" / "scan"
    names = ["majority", "mean", "sample-01", "sample-02", "sample-03", "uncertainty"]
    assert sorted(p.name for p in folder.iterdir()) == [f"{n}_blob.nii.gz" for n in names]
    for path in folder.iterdir():
        image = nib.load(path)
        np.testing.assert_array_equal(image.affine, AFFINE)
        assert image.shape == (20, 18, 2)
    drawn = masks(folder)
    # Beyond the crop of 16 x 16 nothing is drawn, within it something.
    assert not drawn[:, :2].any()
    assert not drawn[..., :1, :].any()
    assert 0 < drawn.mean() < 1
    mean = nib.load(folder / "mean_blob.nii.gz").get_fdata()
    np.testing.assert_allclose(mean, drawn.mean(axis=0), atol=1e-6)
    majority = nib.load(folder / "majority_blob.nii.gz").get_fdata()
    np.testing.assert_array_equal(majority, drawn.sum(axis=0) >= 2)
    bits = nib.load(folder / "uncertainty_blob.nii.gz").get_fdata()
    assert (bits[(mean == 0) | (mean == 1)] == 0).all()
    # One of three: the entropy of 1/3 in bits.
    assert bits[drawn.sum(axis=0) == 1] == pytest.approx(0.9183, abs=1e-4)


def test_seeds_repeat_samples_and_more_leave_the_first(
    tmp_path: Path, aligned: Path, scan: Path
) -> None:
    for name, options in (("a", ()), ("b", ("--samples", "5")), ("c", ("--seed", "1"))):
        assert sample(aligned, scan, tmp_path / name, *options) == 0
    a, b, c = (masks(tmp_path / name / "scan") for name in "abc")
    np.testing.assert_array_equal(a, b[:3])
    assert (a != c).any()


def test_the_knob_goes_from_the_reference_to_the_model(
    tmp_path: Path, aligned: Path, scan: Path
) -> None:
    reference = model(tmp_path / "reference.safetensors", 2)
    assert sample(aligned, scan, tmp_path / "1") == 0
    assert sample(reference, scan, tmp_path / "0") == 0
    for w in ("0", "1"):
        out = tmp_path / f"knob-{w}"
        assert sample(aligned, scan, out, "--reference", str(reference), "--knob", w) == 0
        np.testing.assert_array_equal(masks(out / "scan"), masks(tmp_path / w / "scan"))
    mixed = ("--reference", str(reference), "--knob", "1.5", "--mixed", "predictions")
    assert sample(aligned, scan, tmp_path / "beyond", *mixed) == 0


def test_a_picture_and_a_damaged_file(
    tmp_path: Path, aligned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10), np.uint8)).save(
        images / "b.png"
    )
    (images / "a.png").touch()
    assert sample(aligned, images, out) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert f"1 of 2 images were segmented into {out}, 1 failed: {images}/a.png is empty" in told
    assert np.asarray(Image.open(out / "b" / "sample-01_blob.png")).shape == (12, 10)
    mean = tifffile.imread(out / "b" / "mean_blob.tif")
    assert mean.dtype == np.float32
    assert 0 <= mean.min() <= mean.max() <= 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--knob", "0.5"), "give --reference"),
        (("--samples", "0"), "at least one sample"),
        (("--steps", "0"), "takes 1 to 1000 steps"),
        (("--text", "The Margin is Sharp."), "trained without text"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    tmp_path: Path,
    aligned: Path,
    scan: Path,
    options: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sample(aligned, scan, tmp_path / "out", *options) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert told in err
    assert "Traceback" not in err


def test_a_segmenter_draws_no_samples(
    tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = NetworkSpec("torch.nn.Conv2d", {"in_channels": 1, "out_channels": 1, "kernel_size": 1})
    card = ModelCard(spec, LabelSpace("multi-label", ("blob",)), Preparation(), ("image",))
    save_model(tmp_path / "plain.safetensors", spec.build(), card)
    assert sample(tmp_path / "plain.safetensors", scan, tmp_path / "out") == 1
    assert "use `segpref predict`" in " ".join(capsys.readouterr().err.split())
    assert sample(scan, scan, tmp_path / "out") == 1
    assert "Traceback" not in capsys.readouterr().err
