"""Whole images of any size: validated, audited and predicted in the same way."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segpref.cli.main import main
from segpref.data import Cache, Folders, LabelPlaces, PatchDraw, Preparation, prepare
from segpref.inference import PaddedImages, WindowedNetwork, predict_case, whole_images
from segpref.judges import OracleJudge
from segpref.policies import ModelCard, NetworkSpec, Segmenter, save_model
from segpref.proposals import DropoutRates, MonteCarloDropout, SlateProposals
from segpref.studies import scored_slates
from segpref.types import Case, LabelSpace, SegprefError

SPACE = LabelSpace("multi-class", ("background", "bright"))
UNET = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8, 8], "strides": [2, 2],
    "dropout": 0.2,
}  # fmt: skip
NAMES = '{"names": ["background", "bright"]}'


class AboveMean(nn.Module):
    """Bright is what lies above the mean of the input, padding and all; notes what it was fed."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.fed: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.fed.append(images)
        above = self.scale * (images - images.mean((1, 2, 3), keepdim=True))
        return torch.cat([torch.zeros_like(above), above], dim=1)


def volume(*shape: int) -> np.ndarray:
    """Slices of noise, each a good deal brighter than the one before."""
    noise = np.random.default_rng(0).random(shape, dtype=np.float32)
    return noise + 5 * np.arange(shape[-1], dtype=np.float32)


@pytest.mark.parametrize("shape", [(6, 7, 5), (6, 20, 5), (19, 21, 3)])
def test_slices_are_predicted_as_they_were_validated(shape: tuple[int, ...]) -> None:
    preparation = Preparation(dims=2, normalise="none", patch=(8, 8))
    model = Segmenter(AboveMean(), SPACE)
    card = ModelCard(NetworkSpec("any"), SPACE, preparation)
    case = Case(id="a", patient="a", volume="a", image=volume(*shape)[None])
    items = torch.from_numpy(preparation.apply(case).images)
    validated = SPACE.decode(whole_images([model], preparation).logits(items))
    found = predict_case(model, card, case, batch_size=2)
    np.testing.assert_array_equal(found[0], validated[:, 0].numpy().transpose(1, 2, 0))


def test_slices_are_padded_as_in_training() -> None:
    preparation = Preparation(dims=2, normalise="none", patch=(8, 8))
    network = AboveMean()
    items = torch.from_numpy(np.moveaxis(volume(6, 7, 5)[None], -1, 0).copy())
    WindowedNetwork(Segmenter(network, SPACE), preparation)(items)
    (fed,) = network.fed
    draw = PatchDraw(preparation, LabelPlaces(SPACE), foreground=0)
    for item, one in zip(items.numpy(), fed, strict=True):
        case = Case(id="a", patient="a", volume="a", image=item)
        (patch,) = draw([case], [0], 0)
        assert patch.window is not None
        outside = np.ones(patch.image.shape[1:], bool)
        outside[patch.window.inside] = False
        assert set(patch.image[0][outside]) == {item.min()} == {float(one[0, 0, 0])}


class Contrary(Segmenter):
    """Predicts of whole images the opposite of what it predicts of patches."""

    contrary = False

    def logits_of(self, output: Any) -> Any:
        return -output if self.contrary else output

    def whole_images(self, preparation: Any, *_: Any, **__: Any) -> Segmenter:
        whole = copy(self)
        whole.contrary = True
        return whole


def test_a_policy_may_predict_whole_images_in_its_own_way() -> None:
    preparation = Preparation(dims=2, normalise="none", patch=(8, 8))
    model, card = Contrary(AboveMean(), SPACE), ModelCard(NetworkSpec("any"), SPACE, preparation)
    case = Case(id="a", patient="a", volume="a", image=volume(19, 21, 3)[None])
    usual = whole_images([Segmenter(AboveMean(), SPACE)], Preparation(dims=2, normalise="none"))
    items = torch.from_numpy(preparation.apply(case).images)
    wanted = SPACE.decode(-usual.logits(items))
    assert torch.equal(SPACE.decode(whole_images([model], preparation).logits(items)), wanted)
    found = predict_case(model, card, case, batch_size=2)
    np.testing.assert_array_equal(found[0], wanted[:, 0].numpy().transpose(1, 2, 0))
    with pytest.raises(SegprefError, match="in a way of its own"):
        predict_case(model, card, case, patch=(8, 8))


def unet(**changes: Any) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(NetworkSpec("monai.networks.nets.UNet", {**UNET, **changes}).build(), SPACE)


# What a network halves once comes back larger, and twice does not fit.
@pytest.mark.parametrize("depth", [1, 2])
def test_images_without_a_size_are_padded_where_they_must_be(depth: int) -> None:
    model = unet(channels=[4] * (depth + 1), strides=[2] * depth)
    preparation = Preparation(dims=2)
    whole = whole_images([model], preparation)
    assert isinstance(whole, PaddedImages)
    odd, even = torch.rand(2, 1, 13, 11), torch.rand(2, 1, 12, 16)
    with pytest.raises((RuntimeError, SegprefError)):
        model.logits(odd)
    assert whole.logits(odd).shape == whole.forward(odd).logits.shape == (2, 2, 13, 11)
    torch.testing.assert_close(whole.forward(odd).logits, whole.logits(odd))
    assert torch.equal(whole.logits(even), model.logits(even))
    assert whole.digest() == model.digest()
    # As the model itself where nothing is padded.
    state = whole.forward(even)
    samples = whole.dropout_logits(state, 2, None, [7] * 8)
    assert samples is not None
    assert torch.equal(samples, model.dropout_logits(model.forward(even), 2, None, [7] * 8))
    assert whole.dropout_logits(whole.forward(odd), 2, None, [7] * 8) is None
    for images in (odd, even):
        some = whole.stochastic_logits(images, 0.3, [1, 2])
        assert some is not None
        assert some.shape == (2, 2, *images.shape[2:])


def test_whose_size_is_known_is_left_alone() -> None:
    model = unet()
    for preparation in (Preparation(size=(8, 8)), Preparation(crop=(8, 8))):
        assert whole_images([model], preparation) is model


def odd_data(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(10):
        label = np.zeros((21, 19), np.uint8)
        label[5:14, 4 : 11 + number % 3] = 1
        image = (label + rng.normal(0, 0.4, label.shape)).astype(np.float32)
        for name, array in (("images", image), ("labels", label)):
            (root / name).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / name / f"p{number}.nii.gz")
    return root


def model_of_any_size(path: Path) -> Path:
    spec = NetworkSpec("monai.networks.nets.UNet", UNET)
    save_model(path, unet().network, ModelCard(spec, SPACE, Preparation(normalise="z-score")))
    return path


def test_slates_of_images_that_must_be_padded(tmp_path: Path) -> None:
    data = Folders(odd_data(tmp_path / "data"), names=SPACE.names)
    cases = prepare(data, Preparation(), Cache(tmp_path / "cache"))
    whole = whole_images([unet()], Preparation())
    proposals = SlateProposals(6, [MonteCarloDropout(), DropoutRates((0.2, 0.4))])
    for scored in scored_slates(whole, cases, OracleJudge(SPACE), proposals, 0):
        assert scored.slate.masks.shape == (6, 1, 21, 19)


def test_a_model_of_any_size_is_scored_and_predicts_but_does_not_learn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, model = odd_data(tmp_path / "data"), model_of_any_size(tmp_path / "m.safetensors")
    cache = ["--cache", str(tmp_path / "cache")]
    given = ["--model", str(model), "--data", str(data), "--data_options", NAMES, *cache]
    assert main(["evaluate", *given]) == 0
    assert main(["audit", *given, "--judge", "oracle", "--candidates", "4"]) == 0
    images = ["--input", str(data / "images"), "--output", str(tmp_path / "masks")]
    assert main(["predict", "--model", str(model), *images]) == 0
    capsys.readouterr()
    short = [
        "--judge",
        "oracle",
        "--epochs",
        "1",
        "--candidates",
        "4",
        "--out",
        str(tmp_path / "r"),
    ]
    assert main(["align", *given, *short]) == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert "can't learn from images of 21 x 19 voxels" in printed
    assert "a patch, or a size" in printed


def test_what_no_padding_helps_is_told() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(1, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("nothing fits")

    whole = whole_images([Segmenter(Fixed(), SPACE)], Preparation())
    for ask in (whole.logits, whole.forward):
        with pytest.raises(SegprefError, match=r"7 x 7 voxels.*nothing fits.*give a patch"):
            ask(torch.zeros(1, 1, 7, 7))


def test_what_is_no_matter_of_the_size_is_told_as_it_is() -> None:
    class Unprompted(Segmenter):
        def logits(self, images: Tensor) -> Tensor:
            raise SegprefError("there are no prompts for this image: prepare them")

    whole = whole_images([Unprompted(AboveMean(), SPACE)], Preparation())
    with pytest.raises(SegprefError, match=r"^there are no prompts for this image: prepare them$"):
        whole.logits(torch.zeros(1, 1, 7, 7))
