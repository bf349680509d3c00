from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from monai.networks.nets import UNet
from torch import Tensor
from torch.nn import functional

from segpref.objectives import SupervisedLoss
from segpref.training import StrongAugmentation
from segpref.training.semisupervised import (
    CopyPaste,
    FixMatch,
    MeanTeacher,
    Method,
    StepBatch,
    Student,
    UniMatch,
    strong_view,
)
from segpref.types import IGNORE, LabelSpace, SegprefError

HEART = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
CHEST = LabelSpace("multi-label", ("lung", "heart"))
STILL = StrongAugmentation(probability=0.0)
ALL: list[Method] = [
    MeanTeacher(),
    FixMatch(threshold=0.3),
    UniMatch(threshold=0.3),
    CopyPaste(),
    CopyPaste(pretraining=0.0),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chances(count: int, seed: int = 0) -> list[torch.Generator]:
    return [seeded(100 * seed + number) for number in range(count)]


class Recorder(Student):
    """Gives logits that were made beforehand, and remembers what it was shown."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.requires_grad_()
        self.seen: list[Tensor] = []
        self.perturbed_rows: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return self.logits

    def perturbed(self, images: Tensor, rows: Any, rate: float, generator: Any) -> Tensor:
        self.perturbed_rows += list(rows)
        return self(images)


def batch(space: LabelSpace, shape: tuple[int, ...], count: int = 3) -> StepBatch:
    generator = seeded(7)
    labels = torch.randint(0, space.values, (count, space.fields, *shape), generator=generator)
    return StepBatch(
        torch.rand(count, 1, *shape, generator=generator),
        labels.to(torch.uint8),
        torch.rand(count, 1, *shape, generator=generator),
        space,
    )


def logits_for(space: LabelSpace, count: int, shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return 3 * torch.randn(count, space.channels, *shape, generator=seeded(seed))


# Mean teacher --------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [HEART, CHEST])
def test_mean_teacher_by_hand(space: LabelSpace) -> None:
    data = batch(space, (6, 6))
    student = Recorder(logits_for(space, 6, (6, 6)))
    aim = logits_for(space, 3, (6, 6), seed=2)
    shown: list[Tensor] = []

    def teacher(images: Tensor) -> Tensor:
        shown.append(images)
        return aim

    result = MeanTeacher(weight=0.5, ramp_up=0.4, noise=0.0).loss(
        student, teacher, data, 0.2, chances(len(data.images))
    )
    activation = torch.sigmoid if space is CHEST else lambda z: functional.softmax(z, 1)
    expected = (activation(student.logits[3:]) - activation(aim)).square().mean()
    assert torch.allclose(result.unsupervised, expected)
    assert torch.allclose(result.supervised, SupervisedLoss(space)(student.logits[:3], data.labels))
    assert result.weight == pytest.approx(0.5 * math.exp(-5 * 0.25))
    assert torch.allclose(result.total, result.supervised + result.weight * result.unsupervised)
    assert torch.equal(shown[0], data.unlabelled)
    assert torch.equal(student.seen[0], torch.cat([data.images, data.unlabelled]))


def test_student_and_teacher_see_different_noise() -> None:
    data = batch(HEART, (64, 64))
    student, shown = Recorder(logits_for(HEART, 6, (64, 64))), []

    def teacher(images: Tensor) -> Tensor:
        shown.append(images)
        return logits_for(HEART, 3, (64, 64))

    MeanTeacher(noise=0.2).loss(student, teacher, data, 0.5, chances(len(data.images)))
    ours, theirs = student.seen[0][3:] - data.unlabelled, shown[0] - data.unlabelled
    assert torch.equal(student.seen[0][:3], data.images)
    for noise in (ours, theirs):
        # A normal variable that is clipped at two deviations has a deviation of .96.
        assert abs(noise.std() - 0.2 * 0.96) < 0.01
        assert noise.abs().max() <= 0.4 + 1e-5
    assert abs(torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1]) < 0.05


# FixMatch and UniMatch -----------------------------------------------------------------------


def test_a_box_comes_from_the_next_image_with_its_target() -> None:
    images = torch.arange(1.0, 5).reshape(4, 1, 1, 1).expand(4, 1, 16, 16).clone()
    targets = images.to(torch.uint8).repeat(1, 2, 1, 1)
    view, mixed = strong_view(images, targets, STILL, 1.0, chances(4))
    assert torch.equal(view[:, 0].to(torch.uint8), mixed[:, 0])
    assert torch.equal(mixed[:, 0], mixed[:, 1])
    for number in range(4):
        next_one = (number + 1) % 4 + 1
        assert set(view[number].unique().tolist()) == {number + 1.0, float(next_one)}
        inside = view[number, 0] == next_one
        rows, columns = inside.any(1), inside.any(0)
        assert torch.equal(inside, rows[:, None] & columns)


def test_fixmatch_by_hand() -> None:
    """Two classes, one image: of four pixels two are confident, and one of these is wrong."""
    space = LabelSpace("multi-class", ("background", "a"))
    data = StepBatch(
        torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4, dtype=torch.uint8),
        torch.rand(1, 1, 1, 4), space,
    )  # fmt: skip
    # The teacher's probability of "a": .99 .97 .6 .2
    likely = torch.tensor([0.99, 0.97, 0.6, 0.2])
    aim = torch.stack([(1 - likely).log(), likely.log()]).reshape(1, 2, 1, 4)
    given = torch.tensor([0.8, 0.1, 0.5, 0.5])
    logits = torch.stack([(1 - given).log(), given.log()]).reshape(1, 2, 1, 4)
    student = Recorder(torch.cat([torch.zeros(1, 2, 1, 4), logits]))
    result = FixMatch(weight=2.0, cutmix=0.0, strong=STILL).loss(
        student, lambda _: aim, data, 0.0, chances(len(data.images))
    )
    # Dice of the confident pixels: 1 - 2 (.8 + .1) / (.8 + .1 + 2); both parts count for 2 of 4.
    entropy = -(math.log(0.8) + math.log(0.1)) / 4
    dice = 1 - 1.8 / 2.9
    assert float(result.unsupervised.detach()) == pytest.approx(entropy + dice / 2, abs=1e-4)
    assert result.weight == 2.0
    assert result.figures == {"confident": 0.5, "confident_foreground": 0.5}
    result.unsupervised.backward()
    gradient = student.logits.grad
    assert gradient is not None
    assert not gradient[1, :, 0, 2:].any()
    assert gradient[1, :, 0, :2].all()


@pytest.mark.parametrize("method", [FixMatch(threshold=1.0), UniMatch(threshold=1.0)])
def test_where_nothing_is_confident_nothing_is_learned(method: Any) -> None:
    data = batch(HEART, (8, 8))
    student = Recorder(logits_for(HEART, 12 if isinstance(method, UniMatch) else 6, (8, 8)))
    aim = logits_for(HEART, 3, (8, 8)) * 0.1
    result = method.loss(student, lambda _: aim, data, 0.5, chances(len(data.images)))
    assert float(result.unsupervised.detach()) == 0
    assert result.figures["confident"] == 0
    result.total.backward()
    assert student.logits.grad is not None
    assert not student.logits.grad[3:].any()


@pytest.mark.parametrize("space", [HEART, CHEST])
def test_unimatch_is_two_strong_views_and_one_of_features(space: LabelSpace) -> None:
    data = batch(space, (8, 8))
    student = Recorder(logits_for(space, 12, (8, 8)))
    aim = logits_for(space, 3, (8, 8), seed=2) * 10
    method = UniMatch(weight=0.7, threshold=0.2, cutmix=0.0, strong=STILL)
    result = method.loss(student, lambda _: aim, data, 0.0, chances(len(data.images)))
    loss, target = SupervisedLoss(space), space.decode(aim)
    parts = [loss(views, target) for views in student.logits.split(3)[1:]]
    expected = parts[0] / 4 + parts[1] / 4 + parts[2] / 2
    assert torch.allclose(result.unsupervised, expected)
    assert result.weight == 0.7
    assert student.perturbed_rows == [9, 10, 11]
    shown = student.seen[0].split(3)
    assert torch.equal(shown[0], data.images)
    torch.testing.assert_close(shown[1], data.unlabelled, atol=1e-6, rtol=0)
    assert torch.equal(shown[3], data.unlabelled)


def test_the_strong_views_are_drawn_independently() -> None:
    data = batch(HEART, (16, 16))
    student = Recorder(logits_for(HEART, 12, (16, 16)))
    UniMatch().loss(
        student, lambda _: logits_for(HEART, 3, (16, 16)), data, 0.0, chances(len(data.images))
    )
    _, first, second, weak = student.seen[0].split(3)
    assert torch.equal(weak, data.unlabelled)
    for number in range(3):
        assert not torch.equal(first[number], second[number])
        assert not torch.equal(first[number], weak[number])


# Copy-paste ----------------------------------------------------------------------------------


def told_apart(shape: tuple[int, ...]) -> StepBatch:
    """Pixels of labelled images are 1, 2, 3 and of unlabelled ones 11, 12, 13; labels are like them."""
    which = torch.arange(1, 4).reshape(3, 1, *[1] * len(shape))
    return StepBatch(
        which.float().expand(3, 1, *shape).clone(),
        which.to(torch.uint8).expand(3, 1, *shape).clone(),
        (which + 10).float().expand(3, 1, *shape).clone(),
        HEART,
    )


@pytest.mark.parametrize("shape", [(12, 12), (9, 6, 6)])
def test_copy_paste_both_ways(shape: tuple[int, ...]) -> None:
    data = told_apart(shape)
    student = Recorder(logits_for(HEART, 6, shape))
    # The teacher sees 3, 2, 1 in the unlabelled images.
    values = torch.tensor([3, 2, 1]).reshape(3, *[1] * len(shape)).expand(3, *shape)
    aim = 9 * functional.one_hot(values, 4).movedim(-1, 1).float()
    result = CopyPaste(weight=0.5, pretraining=0.2).loss(
        student, lambda _: aim, data, 0.2, chances(len(data.images))
    )
    (shown,) = student.seen
    box = math.prod(round(2 * n / 3) for n in shape)
    known, guessed = torch.full((6, 1, *shape), IGNORE), torch.full((6, 1, *shape), IGNORE)
    for row in range(6):
        number = row % 3
        free = shown[row] == number + 11
        assert ((shown[row] == number + 1) | free).all()
        # Inwards the unlabelled image is in the box, outwards around it.
        assert int(free.sum()) == (box if row < 3 else math.prod(shape) - box)
        known[row][~free] = number + 1
        guessed[row][free] = 3 - number
    loss = SupervisedLoss(HEART)
    assert torch.allclose(result.supervised, loss(student.logits, known.to(torch.uint8)))
    assert torch.allclose(result.unsupervised, loss(student.logits, guessed.to(torch.uint8)))
    assert result.weight == 0.5


def test_pretraining_mixes_labelled_images_only() -> None:
    data = told_apart((12, 12))
    student = Recorder(logits_for(HEART, 6, (12, 12)))

    def nobody(_: Tensor) -> Tensor:
        raise AssertionError("there is no teacher yet")

    result = CopyPaste(pretraining=0.2).loss(student, nobody, data, 0.19, chances(len(data.images)))
    (shown,) = student.seen
    assert set(shown.unique().tolist()) == {1.0, 2.0, 3.0}
    for row in range(6):
        assert len(shown[row].unique()) == 2
    expected = SupervisedLoss(HEART)(student.logits, shown.to(torch.uint8))
    assert torch.allclose(result.total, expected)


@pytest.mark.parametrize("largest", [True, False])
def test_small_components_of_the_teacher_are_dropped(largest: bool) -> None:
    data = told_apart((12, 12))
    mask = torch.zeros(3, 12, 12, dtype=torch.long)
    mask[:, :6], mask[:, 9, 9] = 1, 1
    aim = 9 * functional.one_hot(mask, 4).movedim(-1, 1).float()
    student = Recorder(logits_for(HEART, 6, (12, 12)))
    method = CopyPaste(pretraining=0.0, largest=largest)
    result = method.loss(student, lambda _: aim, data, 0.0, chances(len(data.images)))
    pixels = 72 if largest else 73
    assert result.figures["pseudo_foreground"] == pytest.approx(pixels / 144)


# All -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize(("space", "shape"), [(HEART, (16, 16)), (CHEST, (16, 8, 8))])
def test_every_method_learns_in_2d_and_3d(
    method: Method, space: LabelSpace, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    network = UNet(
        len(shape), 1, space.channels, channels=(4, 8), strides=(2,), num_res_units=1, dropout=0.1
    )

    def teacher(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network.eval()(images) * 5

    assert isinstance(method, Method)
    result = method.loss(Student(network), teacher, batch(space, shape), 0.5, chances(3))
    result.total.backward()
    assert network.training
    assert torch.isfinite(result.total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("method", ALL)
def test_ignored_pixels_take_no_part(method: Method) -> None:
    """The same loss whatever the student says of labelled pixels that nobody knows."""
    data = batch(HEART, (8, 8))
    data.labels[:, :, 2:5] = IGNORE
    rows = 12 if isinstance(method, UniMatch) else 6
    student = Recorder(logits_for(HEART, rows, (8, 8)))
    aim = logits_for(HEART, 3, (8, 8), seed=2)
    result = method.loss(student, lambda _: aim, data, 0.1, chances(len(data.images)))
    result.supervised.backward()
    gradient = student.logits.grad
    assert gradient is not None
    if isinstance(method, CopyPaste):
        assert not gradient[:, :, 2:5].any()
        assert gradient[:, :, 5:].any()
    else:
        assert not gradient[:3, :, 2:5].any()
        assert not gradient[3:].any()
        assert gradient[:3, :, 5:].all()


@pytest.mark.parametrize("method", ALL)
def test_what_a_method_draws_is_its_generators(method: Method) -> None:
    data, rows = batch(HEART, (8, 8)), 12 if isinstance(method, UniMatch) else 6
    aim = logits_for(HEART, 3, (8, 8), seed=2)
    shown = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(shown))
        student = Recorder(logits_for(HEART, rows, (8, 8)))
        method.loss(student, lambda _: aim, data, 0.1, chances(len(data.images), seed))
        shown.append(student.seen[0])
    assert torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[0], shown[2])


@pytest.mark.parametrize("name", ["MeanTeacher", "FixMatch", "UniMatch", "CopyPaste"])
def test_methods_are_named_in_yaml(name: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--method", type=Method)
    settings: dict[str, Any] = {"weight": 0.25}
    if name in ("FixMatch", "UniMatch"):
        settings["strong"] = {"blur": 2.0}
    path = f"segpref.training.semisupervised.{name}"
    plain = parser.parse_object({"method": {"class_path": path, "init_args": settings}})
    method = parser.instantiate_classes(plain).method
    assert type(method).__name__ == name
    assert method.weight == 0.25
    if "strong" in settings:
        assert method.strong == StrongAugmentation(blur=2.0)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (MeanTeacher, {"weight": -1.0}),
        (MeanTeacher, {"decay": 1.5}),
        (FixMatch, {"threshold": 95.0}),
        (FixMatch, {"weight": math.nan}),
        (UniMatch, {"feature_dropout": 1.0}),
        (CopyPaste, {"side": 1.0}),
        (CopyPaste, {"pretraining": -0.1}),
    ],
)
def test_nonsense_is_refused(kind: Any, wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(
        SegprefError, match=f"{name} of {kind.__name__}|{kind.__name__}: {name} must be"
    ):
        kind(**wrong)
