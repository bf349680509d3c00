"""`segpref sample` as a person gives it: geometry, the knob, and mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from segpref.cli.main import main
from segpref.data import Preparation
from segpref.policies import ModelCard, NetworkSpec, save_model
from segpref.policies.diffusion import DIFFUSION
from segpref.types import LabelSpace

pytest.importorskip("diffusers")
AFFINE = np.array([[0, -1.5, 0, 3], [1.25, 0, 0, 7], [0, 0, 4, -2], [0, 0, 0, 1.0]])
CROP = Preparation(crop=(16, 16))
QUICK = ("--samples", "3", "--steps", "2")


def model(
    path: Path,
    seed: int = 0,
    preparation: Preparation = CROP,
    silence: float = 0,
    **changes: Any,
) -> Path:
    arguments = {
        "channels": [8, 16], "cross": 16, "heads": 2, "latent": 2, "latent_channels": 8,
        "text_encoder": None, "middle_attention": False, "attention": [False, False], **changes,
    }  # fmt: skip
    card = ModelCard(
        network=NetworkSpec("segpref.policies.diffusion.AmbiSegNetwork", arguments),
        label_space=LabelSpace("multi-label", ("blob",)),
        preparation=preparation,
        policy=DIFFUSION,
    )
    torch.manual_seed(seed)
    network: Any = card.network.build()
    torch.nn.init.constant_(network.silence, silence)
    save_model(path, network, card)
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
    beyond = np.ones((20, 18, 2), bool)
    beyond[2:18, 1:17] = False
    assert not drawn[:, beyond].any()
    assert 0 < drawn.mean() < 1
    mean = nib.load(folder / "mean_blob.nii.gz").get_fdata()
    # That nothing is drawn there does not mean that nothing is there.
    np.testing.assert_allclose(mean, np.where(beyond, np.nan, drawn.mean(axis=0)), atol=1e-6)
    majority = nib.load(folder / "majority_blob.nii.gz").get_fdata()
    np.testing.assert_array_equal(majority, drawn.sum(axis=0) >= 2)
    bits = nib.load(folder / "uncertainty_blob.nii.gz").get_fdata()
    assert (bits[(mean == 0) | (mean == 1)] == 0).all()
    np.testing.assert_array_equal(np.isnan(bits), beyond)
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
    printed = " ".join(capsys.readouterr().err.split())
    assert f"1 of 2 images were segmented into {out}, 1 failed: {images}/a.png is empty" in printed
    assert np.asarray(Image.open(out / "b" / "sample-01_blob.png")).shape == (12, 10)
    mean = tifffile.imread(out / "b" / "mean_blob.tif")
    assert mean.dtype == np.float32
    assert 0 <= mean.min() <= mean.max() <= 1


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (("--knob", "0.5"), "give --reference"),
        (("--samples", "0"), "at least one sample"),
        (("--steps", "0"), "steps must be at least 1"),
        (
            ("--solver", "ddim", "--steps", "15"),
            "divides the 1000 of the process, not 15: take 10 or 20",
        ),
        (("--centre", "[20, 3]"), "scan has 20 x 18 pixels, which do not include (20, 3)"),
        (("--text", "The Margin is Sharp."), "trained without text"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    tmp_path: Path,
    aligned: Path,
    scan: Path,
    options: tuple[str, ...],
    printed: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sample(aligned, scan, tmp_path / "out", *options) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert printed in err
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


def test_samples_of_another_run_do_not_stay_beside_new_ones(
    tmp_path: Path, aligned: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    # The same again, and more, are written over what is there.
    for count in ("3", "3", "4"):
        assert sample(aligned, scan, out, "--samples", count) == 0
    before = {path: path.stat().st_mtime_ns for path in (out / "scan").iterdir()}
    assert len(masks(out / "scan")) == 4
    assert sample(aligned, scan, out, "--samples", "2") == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert f"{out}/scan holds samples of another run, such as sample-03_blob.nii.gz" in printed
    assert before == {path: path.stat().st_mtime_ns for path in (out / "scan").iterdir()}
    # Another folder, or other samples' names in one that is there.
    assert sample(aligned, scan, tmp_path / "other", "--samples", "2") == 0
    (out / "scan" / "sample-001_blob.nii.gz").touch()
    assert sample(aligned, scan, out, "--samples", "4") == 1
    assert "sample-001_blob.nii.gz" in capsys.readouterr().err


def test_the_name_of_a_sample_does_not_depend_on_their_number(
    tmp_path: Path, aligned: Path, scan: Path
) -> None:
    assert sample(aligned, scan, tmp_path, "--samples", "100", "--steps", "1") == 0
    assert (tmp_path / "scan" / "sample-02_blob.nii.gz").exists()
    assert (tmp_path / "scan" / "sample-100_blob.nii.gz").exists()
    assert len(masks(tmp_path / "scan")) == 100


@pytest.mark.parametrize("spoken", [True, False])
def test_a_model_that_never_went_without_a_text_is_not_asked_without(
    tmp_path: Path, scan: Path, spoken: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    from tiny_encoders import WIDTH, write_bert

    named = {"text_encoder": str(write_bert(tmp_path / "bert")), "text_width": WIDTH}
    path = model(tmp_path / "text.safetensors", **named)
    learned = model(tmp_path / "silent.safetensors", silence=0.1, **named)
    if spoken:
        for number, asked in enumerate((path, learned)):
            out = tmp_path / f"{number}"
            assert sample(asked, scan, out, "--text", "a small nodule") == 0
        assert sample(learned, scan, tmp_path / "mute") == 0
        # A blank text is none.
        assert sample(learned, scan, tmp_path / "blank", "--text", " ") == 0
        for name, like in (("blank", True), ("1", False)):
            mine = masks(tmp_path / name / "scan")
            assert np.array_equal(mine, masks(tmp_path / "mute" / "scan")) == like
        return
    for number, options in enumerate(
        [
            (),
            ("--text", ""),
            ("--reference", str(learned), "--knob", "0.5", "--mixed", "predictions"),
        ]
    ):
        out = tmp_path / f"mute-{number}"
        assert sample(path, scan, out, *options) == 1
        printed = " ".join(capsys.readouterr().err.split())
        assert "was always given a text in training" in printed
        assert '--text "The Subtlety is Obvious. The InternalStructure is Soft Tissue.' in printed
        assert "text_dropout" in printed
        assert not out.exists()


def test_the_crop_goes_where_the_centre_is(
    tmp_path: Path, aligned: Path, scan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # x and y are the first two voxel indices of NIfTI, and column and row of a picture.
    picture = tmp_path / "wide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 64), np.uint8)).save(picture)
    assert sample(aligned, picture, tmp_path / "pictures", "--centre", "[50, 12]") == 0
    drawn = tifffile.imread(tmp_path / "pictures" / "wide" / "uncertainty_blob.tif")
    seen = np.zeros((30, 64), bool)
    seen[4:20, 42:58] = True
    np.testing.assert_array_equal(np.isfinite(drawn), seen)
    mask = np.asarray(Image.open(tmp_path / "pictures" / "wide" / "sample-01_blob.png"))
    assert mask[seen].any()
    assert not mask[~seen].any()
    # At an edge the crop stays within the image.
    assert sample(aligned, scan, tmp_path / "scans", "--centre", "[19, 2]") == 0
    mean = nib.load(tmp_path / "scans" / "scan" / "mean_blob.nii.gz").get_fdata()
    assert np.isfinite(mean[4:, :16]).all()
    assert np.isfinite(mean).sum() == 16 * 16 * 2
    assert not caplog.messages


def test_a_small_part_of_an_image_is_told_of_once(
    tmp_path: Path, aligned: Path, scan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = tmp_path / "wide"
    images.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 64), np.uint8)).save(
            images / f"{name}.png"
        )
    assert sample(aligned, scan, tmp_path / "scans") == 0
    assert not caplog.messages
    assert sample(aligned, images, tmp_path / "pictures") == 0
    (printed,) = caplog.messages
    assert "a.png: the model sees 10 % of this image, its middle" in printed
    assert '--centre "[x, y]"' in printed


def test_a_model_of_whole_images_has_no_crop_to_move(
    tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model(tmp_path / "whole.safetensors", preparation=Preparation(size=(16, 16)))
    assert sample(path, scan, tmp_path / "out", "--centre", "[3, 3]") == 1
    assert "sees whole images: leave --centre out" in " ".join(capsys.readouterr().err.split())
    assert sample(path, scan, tmp_path / "out") == 0
    mean = nib.load(tmp_path / "out" / "scan" / "mean_blob.nii.gz").get_fdata()
    assert np.isfinite(mean).all()
