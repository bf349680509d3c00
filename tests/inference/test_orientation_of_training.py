"""A model sees volumes as in its training, wherever their axes point to on disk."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from test_predict import card_of, model_file
from torch import Tensor, nn

from segpref.data import Cache, Folders, MaskFolder, Preparation, prepare
from segpref.inference import predict_case, predict_folder
from segpref.policies import ModelCard, NetworkSpec, Segmenter, load_model, read_card, save_model
from segpref.types import LabelSpace, SegprefError
from segpref.workflows import evaluate, fit

SPACE = LabelSpace("multi-class", ("background", "foreground"))
SHAPE = (6, 8, 10)
SPACING = (1.0, 2.0, 3.0)
LPS = np.diag([-1.0, -2.0, 3.0, 1.0])
LPS[:3, 3] = 11, -7, 30


class Corner(nn.Module):
    """Says the structure is where all three indices are low: a network that knows where axes point."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv3d(1, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        corner = torch.zeros_like(images)
        corner[:, :, :3, :2, :4] = 1.0
        return torch.cat([0.5 - corner, corner - 0.5], 1)


class Bright(nn.Module):
    """Says the structure is where a slice is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([0.5 - images, images - 0.5], 1)


def corner_card(orientation: str | None = "LPS") -> ModelCard:
    card = card_of(Preparation(dims=3, normalise="none"), SPACE)
    return replace(
        card,
        network=NetworkSpec(f"{__name__}.Corner"),
        orientation=orientation,
        spacing_range_mm=((1.0, 1.0), (2.0, 2.0), (2.5, 3.0)),
    )


def as_codes(array: np.ndarray, affine: np.ndarray, codes: str) -> nib.Nifti1Image:
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    turned = nib.orientations.apply_orientation(array, turn)
    image = nib.Nifti1Image(turned, affine @ inv_ornt_aff(turn, array.shape))
    image.header.set_xyzt_units("mm")
    return image


def truth() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[:3, :2, :4] = 1
    return label


def dataset(root: Path, *codes: str) -> Path:
    rng = np.random.default_rng(0)
    for number, one in enumerate(codes):
        for name, array in (("images", rng.random(SHAPE, np.float32)), ("labels", truth())):
            (root / name).mkdir(parents=True, exist_ok=True)
            nib.save(as_codes(array, LPS, one), root / name / f"p{number}.nii.gz")
    return root


@pytest.mark.parametrize("codes", ["LPS", "RAS", "ASR", "SPL", "IAR"])
def test_masks_are_right_wherever_axes_point(
    tmp_path: Path, codes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = dataset(tmp_path / "data", codes)
    model = model_file(tmp_path, corner_card())
    (written,) = predict_folder(model, data / "images", tmp_path / "masks")
    mask, label = nib.load(written), nib.load(data / "labels" / "p0.nii.gz")
    np.testing.assert_array_equal(mask.dataobj, label.dataobj)
    np.testing.assert_array_equal(mask.affine, label.affine)
    said = " ".join(capsys.readouterr().err.split())
    assert (f"axes that point to {codes}: it is turned to LPS" in said) == (codes != "LPS")


def test_nothing_is_turned_where_nobody_wants_it(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", "RAS")
    model = model_file(tmp_path, corner_card())
    (written,) = predict_folder(model, data / "images", tmp_path / "masks", reorient=False)
    np.testing.assert_array_equal(nib.load(written).dataobj, truth())
    model = model_file(tmp_path, corner_card(None))
    (written,) = predict_folder(model, data / "images", tmp_path / "others")
    np.testing.assert_array_equal(nib.load(written).dataobj, truth())


def test_predict_case_turns_too(tmp_path: Path) -> None:
    reader = Folders(dataset(tmp_path, "IAR"))
    case, card = reader.read(reader.sources()[0]), corner_card()
    mask = predict_case(Segmenter(Corner(), card.label_space), card, case)
    np.testing.assert_array_equal(mask, case.label)


def test_a_mixed_dataset_is_brought_to_one_orientation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = Folders(dataset(tmp_path / "data", "RAS", "LPS", "LPS", "ASR"))
    mixed = prepare(reader, Preparation(dims=3), Cache(tmp_path / "cache"))
    assert "2 of 4 volumes, such as p0, have axes that do not point to LPS" in " ".join(
        capsys.readouterr().err.split()
    )
    for case in mixed:
        np.testing.assert_array_equal(case.label, truth()[None])
        assert case.spacing_mm == pytest.approx(SPACING)
    orientation, ranges = mixed.geometry()
    assert orientation == "LPS"
    assert ranges == tuple((step, step) for step in SPACING)
    # Masks of others go the same way.
    folder = tmp_path / "data" / "labels"
    masks = MaskFolder(
        folder, [reader], reader.label_space, Preparation(dims=3), Cache(tmp_path / "cache")
    )
    masks.prepare(mixed)
    for case in mixed:
        np.testing.assert_array_equal(masks[case], truth()[None])


def test_one_orientation_stays_and_a_model_s_own_wins(tmp_path: Path) -> None:
    reader, cache = Folders(dataset(tmp_path / "data", "RAS", "RAS")), Cache(tmp_path / "cache")
    as_is = prepare(reader, Preparation(dims=3), cache)
    assert as_is.geometry()[0] == "RAS"
    np.testing.assert_array_equal(as_is[0].label, truth()[None, ::-1, ::-1])
    turned = prepare(reader, Preparation(dims=3), cache, orientation="LPS")
    np.testing.assert_array_equal(turned[0].label, truth()[None])


def test_a_voxel_size_that_training_has_not_seen_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = model_file(tmp_path, corner_card())
    for name, thick, told in (("a", 2.75, False), ("b", 6.0, True)):
        folder = tmp_path / name
        folder.mkdir()
        affine = LPS @ np.diag([1, 1, thick / 3, 1])
        nib.save(as_codes(np.zeros(SHAPE, np.float32), affine, "ASR"), folder / f"{name}.nii.gz")
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            predict_folder(model, folder, tmp_path / "masks")
        assert ("1 x 2 x 6 mm, outside" in caplog.text) == told
        assert (f"{name}.nii.gz" in caplog.text) == told


def test_evaluate_scores_what_predict_writes(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", "RAS", "ASR", "LPS")
    model = model_file(tmp_path, replace(corner_card(), labelled=("p2",)))
    split = tmp_path / "split.json"
    split.write_text('{"train": ["p2"], "judge": [], "validation": [], "test": ["p0", "p1"]}')
    made = evaluate(model, data, split=split, cache=tmp_path / "cache")
    assert [row["dice"] for row in made.rows] == [1.0, 1.0]
    assert {"outside_crop"}.isdisjoint(made.columns)


@pytest.mark.parametrize("dims", [2, 3])
def test_labels_beyond_the_crop_are_missed_and_counted(
    tmp_path: Path, dims: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The image is the label; the network finds all of it that it sees."""
    images = np.zeros(SHAPE, np.float32)
    images[3, 4, 5] = images[0, 0, :4] = 1
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
        array = images if name == "images" else images.astype(np.uint8)
        nib.save(as_codes(array, LPS, "LPS"), tmp_path / "data" / name / "p0.nii.gz")
    crop = (4, 4, 10)[:dims]
    card = card_of(Preparation(dims=dims, crop=crop, normalise="none"), SPACE)
    model = model_file(tmp_path, card)
    split = tmp_path / "split.json"
    split.write_text('{"train": [], "judge": [], "validation": [], "test": ["p0"]}')
    options = {"split": split, "cache": tmp_path / "cache"}
    (inside,) = evaluate(model, tmp_path / "data", grid="network", **options).rows
    assert inside["dice"] == 1.0
    assert "outside_crop" not in inside
    (row,) = evaluate(model, tmp_path / "data", **options).rows
    assert row["dice"] == pytest.approx(2 / 6)
    assert row["outside_crop"] == pytest.approx(4 / 5)
    assert "leaves out labels of 1 volumes, such as p0, at most 80.0%" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(SegprefError, match="grid of the image or the network"):
        evaluate(model, tmp_path / "data", grid="mine", **options)  # type: ignore[arg-type]


def test_weights_and_outputs_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    card = card_of(Preparation(dims=3, normalise="none"))
    network = card.network.build()
    with torch.no_grad():
        next(network.parameters()).flatten()[:1] = float("nan")
    path = tmp_path / "nan.safetensors"
    save_model(path, network, card)
    with pytest.raises(SegprefError, match=r"nan\.safetensors holds weights that are NaN"):
        load_model(path)
    data = dataset(tmp_path / "data", "LPS")
    huge = card.network.build()
    with torch.no_grad():
        for weight in huge.parameters():
            weight.fill_(3e38)
    save_model(tmp_path / "huge.safetensors", huge, card)
    with pytest.raises(SegprefError, match=r"output for .*p0\.nii\.gz is NaN or infinite"):
        predict_folder(tmp_path / "huge.safetensors", data / "images", tmp_path / "masks")


def test_a_training_notes_where_axes_pointed_to(tmp_path: Path) -> None:
    network = NetworkSpec(
        "monai.networks.nets.UNet",
        {
            "spatial_dims": 3, "in_channels": None, "out_channels": None, "channels": [2, 4],
            "strides": [2],
        },
    )  # fmt: skip
    split = tmp_path / "split.json"
    split.write_text('{"train": ["p0", "p1"], "judge": [], "validation": ["p2"], "test": []}')
    made = fit(
        dataset(tmp_path / "data", "ASR", "ASR", "RAS"), out=tmp_path / "run", network=network,
        preparation=Preparation(dims=3), split=split, epochs=1, cache=tmp_path / "cache",
    )  # fmt: skip
    card = read_card(made.out)
    assert card.orientation == "ASR"
    assert card.spacing_range_mm == ((2.0, 2.0), (3.0, 3.0), (1.0, 1.0))


def test_a_model_that_does_not_know_its_axes_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = dataset(tmp_path / "data", "RAS")
    predict_folder(model_file(tmp_path, corner_card(None)), data / "images", tmp_path / "masks")
    said = " ".join(capsys.readouterr().err.split())
    assert "axes that point to RAS, but the model does not say where they pointed to" in said


@pytest.mark.parametrize("codes", ["LPS", "RAS", "ASR", "SPL", "IAR"])
@pytest.mark.parametrize("wanted", ["LSP", "SPL", None])
def test_slices_lie_along_the_last_axis_of_the_turned_volume(
    tmp_path: Path, codes: str, wanted: str | None
) -> None:
    preparation = Preparation(dims=2, normalise="none", orientation=wanted)
    card = replace(card_of(preparation, SPACE), network=NetworkSpec(f"{__name__}.Bright"))
    reader = Folders(dataset(tmp_path / "data", codes), names=SPACE.names)
    case = reader.read(reader.sources()[0])
    model = Segmenter(Bright(), SPACE)
    for batch_size in (3, 50):
        mask = predict_case(model, card, case, batch_size=batch_size)
        assert np.array_equal(mask, case.image > 0.5)
