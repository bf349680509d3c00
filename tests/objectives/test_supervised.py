"""The supervised loss against MONAI's own losses, and against itself on a cropped image."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss, FocalLoss
from torch.nn import functional

from segpref.objectives import OneHotLoss, SupervisedLoss
from segpref.types import IGNORE, LabelSpace, SegprefError

CLASSES = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
STRUCTURES = LabelSpace("multi-label", ("lung", "heart", "clavicle"))
BOTH = pytest.mark.parametrize("space", [CLASSES, STRUCTURES], ids=lambda s: s.kind)
SHAPES = pytest.mark.parametrize("shape", [(8, 10), (4, 5, 6)], ids=["2d", "3d"])


def make_batch(space: LabelSpace, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, space.channels, *shape, generator=generator) * 2
    targets = torch.randint(0, space.values, (2, space.fields, *shape), generator=generator)
    return logits, targets.to(torch.uint8)


@BOTH
@SHAPES
@pytest.mark.parametrize("batch_dice", [False, True])
def test_it_is_monais_loss_where_nothing_is_ignored(space, shape, batch_dice):
    logits, targets = make_batch(space, shape)
    if space.kind == "multi-class":
        monai = DiceCELoss(
            include_background=False, softmax=True, to_onehot_y=True, batch=batch_dice
        )
        expected = monai(logits, targets)
    else:
        dice = DiceLoss(sigmoid=True, batch=batch_dice)
        expected = dice(logits, targets.float())
        expected += functional.binary_cross_entropy_with_logits(logits, targets.float())
    torch.testing.assert_close(SupervisedLoss(space, batch_dice)(logits, targets), expected)


@BOTH
@SHAPES
def test_ignored_pixels_might_as_well_not_be_there(space, shape):
    logits, targets = make_batch(space, shape)
    loss = SupervisedLoss(space)
    expected = loss(logits[:, :, :3], targets[:, :, :3])
    targets[:, :, 3:] = IGNORE
    logits.requires_grad_()
    found = loss(logits, targets)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, logits)
    assert torch.count_nonzero(gradient[:, :, 3:]) == 0
    assert torch.count_nonzero(gradient[:, :, :3]) > 0


@BOTH
def test_a_batch_without_any_opinion_has_loss_and_gradient_zero(space):
    logits, targets = make_batch(space, (6, 6))
    logits.requires_grad_()
    loss = SupervisedLoss(space)(logits, torch.full_like(targets, IGNORE))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert torch.count_nonzero(gradient) == 0


@BOTH
def test_half_precision_is_widened(space):
    logits, targets = make_batch(space, (8, 8))
    low = logits.bfloat16()
    loss = SupervisedLoss(space)(low, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, SupervisedLoss(space)(low.float(), targets))


def test_perfect_logits_have_next_to_no_loss_and_absent_structures_no_harm():
    targets = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    targets[0, 0, 2:5, 2:5] = 1
    perfect = 30.0 * functional.one_hot(targets[:, 0].long(), 4).movedim(-1, 1)
    assert SupervisedLoss(CLASSES)(perfect, targets).item() < 1e-4


def test_shapes_that_do_not_fit_are_refused():
    logits, targets = make_batch(CLASSES, (8, 8))
    with pytest.raises(SegprefError, match="number of outputs"):
        SupervisedLoss(CLASSES)(logits[:, :3], targets)
    with pytest.raises(SegprefError, match="field"):
        SupervisedLoss(STRUCTURES)(logits[:, :3], targets)


@BOTH
@SHAPES
def test_any_loss_of_one_hot_masks_can_take_its_place(space, shape):
    logits, targets = make_batch(space, shape)
    if space.kind == "multi-class":
        # MONAI makes the one-hot masks itself here.
        loss, expected = DiceLoss(softmax=True), DiceLoss(softmax=True, to_onehot_y=True)
        probability = logits.softmax(1)
        held = functional.one_hot(targets[:, 0].long(), space.channels).movedim(-1, 1)
        entropy = -(held * probability.log()).sum(1).mean()
        given = OneHotLoss(space, torch.nn.CrossEntropyLoss())(logits, targets)
        torch.testing.assert_close(given, entropy)
    else:
        loss = expected = DiceLoss(sigmoid=True)
    torch.testing.assert_close(OneHotLoss(space, loss)(logits, targets), expected(logits, targets))


def test_a_loss_that_can_not_ignore_says_so():
    logits, targets = make_batch(STRUCTURES, (4, 4))
    targets[0, 0, 0, 0] = IGNORE
    with pytest.raises(SegprefError, match="FocalLoss can't leave out the pixels"):
        OneHotLoss(STRUCTURES, FocalLoss())(logits, targets)
    with pytest.raises(SegprefError, match="check its number of outputs"):
        OneHotLoss(STRUCTURES, FocalLoss())(logits[:, :2], targets)
