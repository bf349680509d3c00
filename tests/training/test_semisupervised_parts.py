from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import UNet
from scipy import ndimage
from torch import Tensor, nn

from segpref.training import StrongAugmentation, averaged, teacher_decay
from segpref.training.semisupervised import (
    Student,
    box_masks,
    confident_labels,
    cutmix_masks,
    feature_layers,
    largest_components,
    lost_channels,
    paste_masks,
    pasted,
    ramp_up,
)
from segpref.types import IGNORE, LabelSpace, SegprefError

HEART = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
CHEST = LabelSpace("multi-label", ("lung", "heart"))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chances(count: int, seed: int = 0) -> list[torch.Generator]:
    return [seeded(10000 * seed + number) for number in range(count)]


# The teacher ---------------------------------------------------------------------------------


def test_the_decay_grows_to_its_limit() -> None:
    assert [teacher_decay(t, 0.75) for t in range(5)] == pytest.approx(
        [0, 1 / 2, 2 / 3, 0.75, 0.75]
    )
    assert teacher_decay(10_000, 0.0) == 0


def test_the_teacher_averages_by_hand() -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    weight, mean = network[0].weight, network[1].running_mean
    teacher = averaged(network, decay=0.6)
    seen = []
    for value in (4.0, 8.0, 2.0, 10.0):
        with torch.no_grad():
            weight.fill_(value)
            mean.fill_(value)  # type: ignore[operator]
        teacher.update_parameters(network)
        seen.append(teacher.module[0].weight.item())
        # Statistics are those of the student, not averages.
        assert teacher.module[1].running_mean.item() == value
    # Decays 0, 1/2, .6, .6: 4; 4/2 + 8/2 = 6; .6 * 6 + .4 * 2 = 4.4; .6 * 4.4 + .4 * 10 = 6.64
    assert seen == pytest.approx([4.0, 6.0, 4.4, 6.64])
    assert teacher.state_dict()["n_averaged"] == 4


def test_without_decay_the_teacher_is_the_student() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    teacher = averaged(network, 0.0)
    for _ in range(3):
        with torch.no_grad():
            network.weight += torch.randn(2, 3)
        teacher.update_parameters(network)
        assert torch.equal(teacher.module.weight, network.weight)


def test_ramp_up_by_hand() -> None:
    assert ramp_up(0.0, 0.5) == pytest.approx(math.exp(-5))
    assert ramp_up(0.25, 0.5) == pytest.approx(math.exp(-1.25))
    assert ramp_up(0.5, 0.5) == ramp_up(0.9, 0.5) == 1
    assert ramp_up(0.0, 0.0) == 1


# Targets -------------------------------------------------------------------------------------


def test_confident_classes_by_hand() -> None:
    # Probabilities of four pixels: (.97 .01 .01 .01), (.1 .8 .05 .05), (.02 .02 0 .96), (.25 ...)
    likely = torch.tensor(
        [[0.97, 0.01, 0.01, 0.01], [0.1, 0.8, 0.05, 0.05], [0.02, 0.02, 0.0, 0.96], [0.25] * 4]
    )
    logits = likely.clamp(min=1e-9).log().T.reshape(1, 4, 2, 2)
    labels = confident_labels(logits, HEART, 0.95)
    assert labels.dtype == torch.uint8
    assert labels.flatten().tolist() == [0, IGNORE, 3, IGNORE]
    assert confident_labels(logits, HEART, 0.8).flatten().tolist() == [0, 1, 3, IGNORE]


def test_confident_structures_by_hand() -> None:
    likely = torch.tensor([[0.96, 0.5, 0.03], [0.94, 0.99, 0.06]]).reshape(1, 2, 1, 3)
    labels = confident_labels(likely.logit(), CHEST, 0.95)
    assert labels.flatten().tolist() == [1, IGNORE, 0, IGNORE, 1, IGNORE]


@pytest.mark.parametrize("dims", [2, 3])
def test_only_the_largest_component_stays(dims: int) -> None:
    line = torch.tensor([1, 1, 0, 1, 0, 2, 0, 2, 2, 0], dtype=torch.uint8)
    kept = [1, 1, 0, 0, 0, 0, 0, 2, 2, 0]
    mask = line.reshape(1, 1, *[1] * (dims - 1), 10)
    assert largest_components(mask, HEART).flatten().tolist() == kept
    both = (mask > 0).to(torch.uint8).repeat(1, 2, *[1] * dims)
    both[:, 1] = 0
    result = largest_components(both, CHEST)
    assert result[0, 0].flatten().tolist() == [1, 1, *[0] * 8]
    assert not result[0, 1].any()


# Boxes ---------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    shape=st.lists(st.integers(1, 12), min_size=2, max_size=3),
    count=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_boxes_have_the_sides_asked_for(shape: list[int], count: int, seed: int) -> None:
    sides = torch.rand(count, len(shape), generator=seeded(seed)) * 1.2
    boxes = box_masks(sides, shape, chances(count, seed))
    assert boxes.shape == (count, 1, *shape)
    for box, side in zip(boxes[:, 0], sides, strict=True):
        lengths = [round(min(float(s), 1) * n) for s, n in zip(side, shape, strict=True)]
        assert int(box.sum()) == math.prod(lengths)
        if box.any():
            for axis, length in enumerate(lengths):
                others = tuple(a for a in range(len(shape)) if a != axis)
                (along,) = np.nonzero(box.numpy().any(axis=others))
                assert along.tolist() == list(range(along[0], along[0] + length))


def test_boxes_reach_every_pixel() -> None:
    boxes = box_masks(torch.full((2000, 2), 0.5), (4, 6), chances(2000))
    covered = boxes[:, 0].float().mean(0)
    # Starts 0, 1, 2 along an axis of 4 are equally likely: corner pixels are covered by one of them.
    expected = torch.tensor([1 / 3, 2 / 3, 2 / 3, 1 / 3])[:, None] * torch.tensor(
        [1 / 4, 2 / 4, 3 / 4, 3 / 4, 2 / 4, 1 / 4]
    )
    assert (covered - expected).abs().max() < 0.04


@pytest.mark.parametrize("shape", [(96, 96), (32, 40, 24)])
def test_cutmix_areas_and_shapes(shape: tuple[int, ...]) -> None:
    boxes = cutmix_masks(shape, chances(400), probability=0.5)[:, 0]
    share = boxes.flatten(1).float().mean(1)
    used = share > 0
    assert abs(used.float().mean() - 0.5) < 0.07
    assert share[used].min() > 0.012
    assert share[used].max() < 0.42
    # Uniform between .02 and .4, but for sides that the image cuts off.
    assert abs(share[used].mean() - 0.2) < 0.02
    assert not cutmix_masks(shape, chances(50), probability=0.0).any()
    if len(shape) == 2:
        height = boxes.any(2).sum(1)[used] / shape[0]
        width = boxes.any(1).sum(1)[used] / shape[1]
        ratio = width / height
        assert ratio.min() > 0.27
        assert ratio.max() < 1 / 0.27
        assert ratio.log().std() > 0.3


def test_copy_paste_boxes_are_two_thirds() -> None:
    boxes = paste_masks((96, 48), chances(5))
    assert boxes.flatten(1).sum(1).tolist() == [64 * 32] * 5
    assert len({tuple(box.nonzero()[0].tolist()) for box in boxes}) == 5


def test_what_is_pasted_where() -> None:
    box = torch.tensor([[[[False, True, True]]]])
    inside, outside = torch.tensor([[[[1, 2, 3]]]]), torch.tensor([[[[7, 8, 9]]]])
    assert pasted(inside, outside, box).flatten().tolist() == [7, 2, 3]


# Features ------------------------------------------------------------------------------------


def test_the_encoder_of_a_monai_unet_is_found() -> None:
    network = UNet(2, 1, 3, channels=(4, 8, 16), strides=(2, 2), num_res_units=1).train()
    layers = feature_layers(network, torch.rand(1, 1, 16, 16))
    names = {id(module): name for name, module in network.named_modules()}
    # Two skip connections, and the bottom block.
    assert [names[id(layer)] for layer in layers] == [
        "model.1",
        "model.1.submodule.1",
        "model.1.submodule.1.submodule",
    ]
    assert network.training


class Plain(nn.Module):
    """Nobody's U-Net, with channel attention."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.ReLU())
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Sigmoid())
        self.up = nn.ConvTranspose2d(6, 2, 2, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        features = self.down(images)
        result: Tensor = self.up(features * self.attention(features))
        return result


def test_the_deepest_features_of_a_strangers_network_are_found() -> None:
    network = Plain()
    assert feature_layers(network, torch.rand(1, 1, 8, 8)) == [network.down]


def test_logits_are_no_features() -> None:
    body, head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
    assert feature_layers(nn.Sequential(body, head), torch.rand(1, 1, 8, 8)) == [body]
    assert feature_layers(nn.Sequential(head), torch.rand(1, 4, 8, 8)) == []


def test_channels_are_lost_in_the_chosen_images_only() -> None:
    network, layer = nn.Sequential(nn.Identity(), nn.Identity()), nn.Identity()
    network[1] = layer
    features = torch.ones(5, 400, 2, 2)
    with lost_channels([layer], [1, 3], 0.25, chances(2)):
        result = network(features)
    for row in (0, 2, 4):
        assert torch.equal(result[row], features[row])
    for row in (1, 3):
        # Whole channels, and what is left has grown so that the mean stays.
        assert (result[row] == result[row, :, :1, :1]).all()
        channels = result[row, :, 0, 0]
        assert channels.unique().tolist() == pytest.approx([0.0, 4 / 3])
        assert abs((channels == 0).float().mean() - 0.25) < 0.07
    assert not torch.equal(result[1], result[3])
    assert torch.equal(network(features), features)


def test_of_a_skip_connection_only_the_encoders_part_is_touched() -> None:
    network = UNet(2, 1, 3, channels=(4, 8), strides=(2,), num_res_units=0).eval()
    skip = feature_layers(network, torch.rand(1, 1, 8, 8))[0]
    seen: list[Tensor] = []
    images = torch.rand(1, 1, 8, 8)
    with lost_channels([skip], [0], 0.999, chances(1)):
        handle = skip.register_forward_hook(lambda *call: seen.append(call[2]))
        network(images)
        handle.remove()
    assert not seen[0][:, :4].any()
    assert seen[0][:, 4:].any()


def test_the_student_perturbs_no_more_than_it_is_asked_to() -> None:
    torch.manual_seed(0)
    network = UNet(2, 1, 3, channels=(4, 8, 16), strides=(2, 2), num_res_units=1)
    student, images = Student(network), torch.rand(3, 1, 16, 16)
    clean = student(images)
    half = student.perturbed(images, [2], 0.5, chances(1))
    assert torch.equal(clean[:2], half[:2])
    assert not torch.allclose(clean[2], half[2], atol=1e-3)
    assert torch.equal(student(images), clean)


# Strong augmentation -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 2, 24, 20), (2, 1, 12, 10, 8)])
def test_strong_augmentation_follows_the_range(shape: tuple[int, ...]) -> None:
    images, strong = torch.rand(shape, generator=seeded()), StrongAugmentation()
    changed = strong(images, chances(len(images), 1))
    assert changed.shape == images.shape
    other = strong(images * 40 - 7, chances(len(images), 1))
    torch.testing.assert_close(other, changed * 40 - 7, atol=2e-3, rtol=0)
    assert torch.equal(strong(images, chances(len(images), 1)), changed)
    assert not torch.equal(strong(images, chances(len(images), 2)), changed)


def test_each_image_and_channel_has_its_own_strengths() -> None:
    images = torch.rand(1, 1, 16, 16, generator=seeded()).repeat(3, 2, 1, 1)
    changed = StrongAugmentation(probability=1.0)(images, chances(len(images)))
    flat = changed.reshape(6, -1)
    assert len({tuple(row.tolist()) for row in flat}) == 6


def test_nothing_is_changed_with_probability_zero() -> None:
    images = torch.rand(2, 1, 16, 16, generator=seeded())
    still = StrongAugmentation(probability=0.0)(images, chances(len(images)))
    torch.testing.assert_close(still, images, atol=1e-6, rtol=0)


def only(**options: float) -> StrongAugmentation:
    nothing = {"brightness": 0.0, "contrast": 0.0, "gamma": 1.0, "blur": 0.0, "noise": 0.0}
    return StrongAugmentation(probability=1.0, **{**nothing, **options})


@pytest.mark.parametrize("name", ["brightness", "contrast", "gamma"])
def test_tone_changes_keep_the_order_of_grey_values(name: str) -> None:
    ramp = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8).repeat(200, 1, 1, 1)
    changed = only(**{name: 2.0 if name == "gamma" else 0.3})(ramp, chances(len(ramp))).flatten(1)
    assert (changed.diff(dim=1) > 0).all()
    if name == "brightness":
        shift = changed - ramp.flatten(1)
        torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), atol=1e-5, rtol=0)
        assert 0.27 < shift.abs().max() <= 0.3
        assert abs(shift.mean()) < 0.03
    elif name == "contrast":
        width = changed[:, -1] - changed[:, 0]
        assert 0.7 <= width.min() < 0.73
        assert 1.27 < width.max() <= 1.3
        torch.testing.assert_close(changed.mean(1), torch.full((200,), 0.5), atol=1e-5, rtol=0)
    else:
        exponent = changed[:, 31].log() / ramp.flatten(1)[:, 31].log()
        assert 0.5 <= exponent.min() < 0.52
        assert 1.9 < exponent.max() <= 2.0
        assert abs(exponent.log().mean()) < 0.08


def test_blur_is_gaussian() -> None:
    image = torch.rand(1, 1, 20, 14, generator=seeded(3))
    image[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    changed = only(blur=2.0)(image, chances(len(image), 5))[0, 0].numpy()
    ones = np.ones((20, 14))
    errors = []
    for sigma in np.linspace(0.05, 2.0, 400):
        smooth = ndimage.gaussian_filter(image[0, 0].numpy(), sigma, mode="constant", truncate=8)
        whole = ndimage.gaussian_filter(ones, sigma, mode="constant", truncate=8)
        errors.append(np.abs(smooth / whole - changed).max())
    assert min(errors) < 2e-3 < 0.05 < max(errors)


def test_noise_has_the_strength_asked_for() -> None:
    image = torch.linspace(0, 1, 4096).reshape(1, 1, 64, 64).repeat(200, 1, 1, 1)
    spread = (only(noise=0.2)(image, chances(len(image))) - image).flatten(1).std(1)
    assert spread.max() < 0.21
    assert abs(spread.mean() - 0.1) < 0.01


def test_an_even_image_stays_even() -> None:
    image = torch.full((2, 1, 8, 8), 3.0)
    assert (StrongAugmentation()(image, chances(len(image))) - 3).abs().max() < 1e-4


@pytest.mark.parametrize(
    "wrong", [{"probability": 1.5}, {"gamma": 0.5}, {"noise": -0.1}, {"blur": -1.0}]
)
def test_strong_augmentation_refuses_nonsense(wrong: dict[str, Any]) -> None:
    with pytest.raises(SegprefError, match="strong augmentation"):
        StrongAugmentation(**wrong)
