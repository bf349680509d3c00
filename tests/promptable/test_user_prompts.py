"""`segpref predict` with prompts that a person gives, good and bad ones."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import LESION, SIDE

from segpref.cli.main import main
from segpref.data import Preparation, images_for
from segpref.inference import propagate
from segpref.policies import ModelCard, NetworkSpec, load_model, save_model
from segpref.policies.promptable import PromptablePolicy, promptable_card, small_sam
from segpref.prompts import FixedPrompts, Prompt, in_prepared
from segpref.types import LabelSpace

HEIGHT, WIDTH = 40, 50
PREPARATION = Preparation(size=(SIDE, SIDE), normalise="min-max")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    network = small_sam(SIDE, patch=4, width=32, layers=2, heads=2, prompt_width=32)
    # Far from its start, so that prompts make a difference.
    torch.manual_seed(0)
    for weight in network.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=1.5 * weight[0].numel() ** -0.5)
    card = promptable_card(network, LESION, PREPARATION)
    save_model(tmp_path / "model.safetensors", network, card)
    return tmp_path / "model.safetensors"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)).save(
            folder / f"{name}.png"
        )
    return folder


def predict(model: Path, images: Path, out: Path, *options: str) -> int:
    return main(
        ["predict", "--model", str(model), "--input", str(images), "--output", str(out), *options]
    )


def written(out: Path, name: str) -> np.ndarray:
    (path,) = out.glob(f"{name}*.png")
    return np.asarray(Image.open(path)) > 0


def expected(model: Path, images: Path, prompt: Prompt) -> np.ndarray:
    """The mask of a.png, by the library's own hands."""
    policy, card = load_model(model)
    assert isinstance(policy, PromptablePolicy)
    reader = images_for(images, card.channels)
    case = reader.read(reader.sources()[0])
    prepared = torch.from_numpy(card.preparation.apply(case).images)
    moved = in_prepared([prompt], case, card.preparation)
    (logits,) = card.preparation.restore(
        policy.logits(prepared, [moved]), case, torch.tensor([-1.0])
    )
    return (logits > 0).numpy()


def test_box_and_points_are_in_pixels_of_the_file(
    tmp_path: Path, model: Path, images: Path
) -> None:
    options = ["--box", "[5, 4, 30, 20]", "--points", "[[12, 10, 1], [40, 30, 0]]"]
    assert predict(model, images, tmp_path / "asked", *options) == 0
    assert predict(model, images, tmp_path / "own") == 0
    prompt = Prompt((5, 4, 30, 20), ((12, 10, 1), (40, 30, 0)))
    asked = written(tmp_path / "asked", "a")
    assert np.array_equal(asked, expected(model, images, prompt).reshape(asked.shape))
    assert not np.array_equal(asked, written(tmp_path / "own", "a"))


def test_a_file_names_images_and_the_others_are_asked_as_ever(
    tmp_path: Path, model: Path, images: Path
) -> None:
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps({"b.png": {"box": [5, 4, 30, 20]}}))
    assert predict(model, images, tmp_path / "named", "--prompts", str(file)) == 0
    assert predict(model, images, tmp_path / "box", "--box", "[5, 4, 30, 20]") == 0
    assert predict(model, images, tmp_path / "own") == 0
    named, box, own = (tmp_path / name for name in ("named", "box", "own"))
    assert np.array_equal(written(named, "b"), written(box, "b"))
    assert np.array_equal(written(named, "a"), written(own, "a"))


SPACING = (0.7, 0.7, 5.0)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    folder = tmp_path / "volumes"
    folder.mkdir()
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 6)).astype(np.int16)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = 11.0, -7.0, 30.0
    nib.save(nib.Nifti1Image(image, affine), folder / "scan.nii.gz")
    return folder


def carried(model: Path, volumes: Path, prompt: Prompt | None, start: int | None) -> np.ndarray:
    """The mask of the volume, by the library's own hands."""
    policy, card = load_model(model)
    assert isinstance(policy, PromptablePolicy)
    reader = images_for(volumes, card.channels)
    case = reader.read(reader.sources()[0])
    slices = torch.from_numpy(card.preparation.apply(case).images)
    prompts = None if prompt is None else in_prepared([prompt], case, card.preparation)
    logits = propagate(policy, slices, prompts, start)
    outside = torch.tensor([-1.0])
    each = [card.preparation.restore(one[None], case, outside)[0] > 0 for one in logits]
    return torch.stack(each, dim=-1).squeeze().numpy()


def test_prompts_of_a_volume_are_carried_from_their_slice(
    tmp_path: Path, model: Path, volumes: Path
) -> None:
    asked = ["--box", "[5, 4, 30, 20]"]
    assert predict(model, volumes, tmp_path / "third", *asked, "--slice", "3") == 0
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps({"scan.nii.gz": {"box": [5, 4, 30, 20], "slice": 3}}))
    assert predict(model, volumes, tmp_path / "named", "--prompts", str(file)) == 0
    assert predict(model, volumes, tmp_path / "carried", "--carry") == 0
    (third, named, own), image = (
        [next((tmp_path / name).iterdir()) for name in ("third", "named", "carried")],
        nib.load(volumes / "scan.nii.gz"),
    )
    mask = nib.load(third)
    assert np.array_equal(mask.affine, image.affine)
    assert mask.header.get_zooms() == pytest.approx(SPACING)
    drawn = np.asarray(mask.dataobj) > 0
    assert drawn[..., 3].any()
    assert np.array_equal(drawn, carried(model, volumes, Prompt((5, 4, 30, 20)), 3))
    assert np.array_equal(drawn, np.asarray(nib.load(named).dataobj) > 0)
    assert np.array_equal(
        np.asarray(nib.load(own).dataobj) > 0, carried(model, volumes, None, None)
    )


@pytest.mark.slow
def test_a_text_goes_for_every_slice_of_a_volume(
    tmp_path: Path, volumes: Path, clip_folder: Path
) -> None:
    network = small_sam(
        SIDE, patch=4, width=32, layers=2, heads=2, prompt_width=32, text_encoder=str(clip_folder)
    )
    assert network.text_projection is not None
    torch.nn.init.normal_(network.text_projection.weight, std=3.0)
    model = tmp_path / "reader.safetensors"
    save_model(model, network, promptable_card(network, LESION, PREPARATION))
    for name, text, more in (("a", "lesion", []), ("b", "tumor", []), ("c", "lesion", ["--carry"])):
        assert predict(model, volumes, tmp_path / name, "--text", text, *more) == 0
    first, other, together = (
        np.asarray(nib.load(next((tmp_path / name).iterdir())).dataobj) > 0 for name in "abc"
    )
    assert not np.array_equal(first, other)
    policy, card = load_model(model)
    assert isinstance(policy, PromptablePolicy)
    reader = images_for(volumes, card.channels)
    case = reader.read(reader.sources()[0])
    slices = torch.from_numpy(card.preparation.apply(case).images)
    row = [Prompt(text="lesion")]
    outside = torch.tensor([-1.0])
    each = [
        card.preparation.restore(policy.logits(one[None], [row]), case, outside) for one in slices
    ]
    assert np.array_equal(first, torch.stack(each, dim=-1).squeeze().numpy() > 0)
    policy.prompter = FixedPrompts(row)
    each = [card.preparation.restore(one[None], case, outside) for one in propagate(policy, slices)]
    assert np.array_equal(together, torch.stack(each, dim=-1).squeeze().numpy() > 0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--box", "[5, 4, 30, 20]"], "scan.nii.gz is a volume: say on which slice"),
        (["--box", "[5, 4, 30, 20]", "--slice", "6"], "6 slices, counted from 0: there is no slice 6"),
        (["--slice", "2"], "--slice says where prompts are drawn: give --box, --points or --text"),
        (["--prompts", '{"scan": {"box": [1, 2, 9, 9], "slice": -1}}'], "a slice is a whole number"),
    ],
)  # fmt: skip
def test_a_bad_slice_is_told_of_in_a_sentence(
    tmp_path: Path,
    model: Path,
    volumes: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    told: str,
) -> None:
    if options[0] == "--prompts":
        (tmp_path / "prompts.json").write_text(options[1])
        options = ["--prompts", str(tmp_path / "prompts.json")]
    assert predict(model, volumes, tmp_path / "out", *options) == 1
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_picture_has_no_slice(
    tmp_path: Path, model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--box", "[5, 4, 30, 20]", "--slice", "0"]
    assert predict(model, images, tmp_path / "out", *options) == 1
    assert "a.png is not a volume: leave the slice out" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--box", "[5, 4, 60, 20]"], "a.png: the box (5, 4, 60, 20) reaches beyond an image of 50"),
        (["--box", "[5, 4, 5, 20]"], "the box (5, 4, 5, 20) has no area"),
        (["--box", "[.nan, 4, 5, 20]"], "a box prompt is four finite numbers"),
        (["--points", "[[3, 70, 1]]"], "a.png: the point (3, 70) is outside an image of 50 x 40"),
        (["--points", "[[3, 7, 2]]"], "a point prompt is x, y and a label (1 on the structure"),
        (["--text", " "], "a text prompt is empty"),
        (["--text", "a lesion"], "this model was made without a text encoder"),
        (["--box", "[5, 4, 30, 20]", "--prompts", "p.json"], "by --prompts or by --box"),
    ],
)  # fmt: skip
def test_a_bad_prompt_is_told_of_in_a_sentence(
    tmp_path: Path,
    model: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    told: str,
) -> None:
    assert predict(model, images, tmp_path / "out", *options) == 1
    found = " ".join(capsys.readouterr().err.split())
    assert told in found
    assert "Traceback" not in found


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not valid JSON"),
        ("[]", "holds no object"),
        ('{"c.png": {"box": [1, 2, 3, 4]}}', "prompts name 'c.png', but there is no such"),
        ('{"a.png": {"circle": 3}}', "a.png: a prompt is an object with box, points or text"),
        ('{"a.png": {"box": [1, 2, 3]}}', "a.png: a box prompt is four finite numbers"),
        ('{"a.png": {"box": "xyz"}}', "a.png: a box is four numbers and a point three"),
        ('{"a.png": {"points": [[1, 2]]}}', "a.png: a box is four numbers and a point three"),
        ('{"a.png": [{"text": "a"}, {"text": "b"}]}', "draws 1 structure(s) (lesion) and was given 2"),
    ],
)  # fmt: skip
def test_a_bad_file_is_told_of_in_a_sentence(
    tmp_path: Path,
    model: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    told: str,
) -> None:
    file = tmp_path / "prompts.json"
    file.write_text(content)
    assert predict(model, images, tmp_path / "out", "--prompts", str(file)) == 1
    found = " ".join(capsys.readouterr().err.split())
    assert told in found
    assert "Traceback" not in found


def test_other_models_take_no_prompts(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
    spec = NetworkSpec(
        "monai.networks.nets.UNet", {**arguments, "channels": [4, 8], "strides": [2]}
    )
    space = LabelSpace("multi-class", ("background", "organ"))
    card = ModelCard(spec, space, PREPARATION, ("image",))
    save_model(tmp_path / "unet.safetensors", spec.build(), card)
    options = ["--box", "[5, 4, 30, 20]"]
    assert predict(tmp_path / "unet.safetensors", images, tmp_path / "out", *options) == 1
    assert "this model takes no prompts" in " ".join(capsys.readouterr().err.split())
