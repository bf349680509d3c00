"""What a quality report measures of masks and images, and the order in which it lists them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from segpref.data import Preparation, Source, Volume
from segpref.inference import (
    Calibration,
    ImageReference,
    LabelledImages,
    MaskFigures,
    QualityReference,
    SelfAssessment,
    Shape,
    VolumeFigures,
    confidence_of,
    figures_of,
    image_order,
    pairwise_disagreement,
    ranked,
    shape_of,
    spreads_of,
    worst_images,
    z_scores,
)
from segpref.policies import ModelCard, NetworkSpec, open_model, save_model
from segpref.types import LabelSpace, SegprefError

SPACE = LabelSpace("multi-class", ("background", "organ"))
BALL = Shape(100, 100.0, 1, 1.0, 0.5)


def image(
    level: float = 0.0, spacing: tuple[float, ...] | None = (1.0, 1.0), seed: int = 0
) -> object:
    pixels = np.random.default_rng(seed).normal(level, 1, (1, 1, 32, 32))
    return figures_of(pixels.astype(np.float32), spacing)


def volume(
    name: str,
    score: float,
    disagreement: float = 0.1,
    shape: Shape = BALL,
    seed: int = 0,
    confidence: float = math.nan,
) -> VolumeFigures:
    mask = MaskFigures("organ", score, math.nan, disagreement, confidence, shape)
    return VolumeFigures(name, name, image(seed=seed), (mask,))  # type: ignore[arg-type]


def reference(shapes: list[Shape] | None = None) -> QualityReference:
    rng = np.random.default_rng(0)
    scores = np.linspace(0.3, 0.9, 40)
    figures = [
        volume(str(n), float(score), float(rng.uniform(0, 0.3)), seed=n)
        for n, score in enumerate(scores)
    ]
    found = LabelledImages(
        figures, scores[:, None], [shapes or [BALL] * 40], [one.image for one in figures]
    )
    return QualityReference.of(found, SPACE, "model", "judge", 0.9, 0.05)


def test_shapes_by_hand() -> None:
    part = np.zeros((6, 6, 4), bool)
    part[0:2, 0:2, 0:2] = True
    part[5, 5, 3] = True
    found = shape_of(part, (0.5, 0.5, 2.0))
    assert (found.voxels, found.size, found.components) == (9, 4.5, 2)
    assert found.largest == pytest.approx(8 / 9)
    assert found.filling == pytest.approx(9 / (6 * 6 * 4))
    assert shape_of(part, None).size is None
    touching = np.eye(3, dtype=bool)
    assert shape_of(touching, (1.0, 1.0)).components == 1


def test_an_empty_mask_has_no_shape() -> None:
    empty = shape_of(np.zeros((3, 3), bool), (2.0, 2.0))
    assert (empty.voxels, empty.size, empty.components) == (0, 0.0, 0)
    assert math.isnan(empty.largest)
    spreads = spreads_of([BALL, BALL, empty], in_mm=True)
    assert spreads["size"].middle == pytest.approx(math.log(100))  # the empty one has no part in it
    assert all(math.isnan(value) for value in z_scores(empty, spreads, True).values())
    assert spreads_of([empty], True) == {}
    assert all(math.isnan(value) for value in z_scores(BALL, {}, True).values())


def test_robust_scores_by_hand() -> None:
    shapes = [Shape(n, float(n), 1, 1.0, 0.5) for n in (50, 80, 100, 125, 10_000)]
    spreads = spreads_of(shapes, in_mm=True)
    middle, away = math.log(100), math.log(1.25)
    # Distances from the median: log 2, log 1.25, 0, log 1.25, log 100; their median is log 1.25.
    assert spreads["size"].scale == pytest.approx(1.4826 * away)
    z = z_scores(Shape(200, 200.0, 3, 1.0, 0.5), spreads, True)
    assert z["size"] == pytest.approx((math.log(200) - middle) / (1.4826 * away))
    assert z["components"] == pytest.approx((3 - 1) / 0.5)  # nearly all have one part
    assert math.isnan(z_scores(Shape(200, None, 1, 1.0, 0.5), spreads, True)["size"])


def test_distances_of_images() -> None:
    known = ImageReference.of([image(seed=n) for n in range(20)])  # type: ignore[misc]
    same = known.distances(image(seed=30))  # type: ignore[arg-type]
    assert same["intensity"] < 3
    assert same["spacing"] == 1
    brighter = known.distances(image(level=2.0, spacing=(1.0, 1.5), seed=30))  # type: ignore[arg-type]
    assert brighter["intensity"] > 10
    assert brighter["spacing"] == pytest.approx(1.5)
    assert math.isnan(known.distances(image(spacing=None))["spacing"])  # type: ignore[arg-type]
    smooth = np.linspace(0, 1, 32 * 32).reshape(1, 1, 32, 32)
    assert known.distances(figures_of(smooth, None))["texture"] > 3.5
    assert math.isnan(figures_of(np.zeros((1, 1, 8, 8)), None).texture)
    assert ImageReference.from_dict(known.as_dict()).distances(image(seed=30)) == same  # type: ignore[arg-type]


def test_disagreement_by_hand() -> None:
    left, right = np.zeros((2, 1, 4), np.uint8), np.zeros((2, 1, 4), np.uint8)
    left[0, 0, :2] = right[0, 0, 1:3] = 1
    # Dice 1/2 of the two, 1 of each with itself.
    assert pairwise_disagreement([left, left, right], SPACE) == pytest.approx(
        [1 - (1 + 0.5 + 0.5) / 3]
    )
    assert np.isnan(pairwise_disagreement([left], SPACE)).all()
    empty = np.zeros_like(left)
    assert pairwise_disagreement([empty, empty], SPACE).tolist() == [0]


def test_the_worst_come_first() -> None:
    shapes = {
        "odd": Shape(10_000, 10_000.0, 1, 1.0, 0.5),
        "empty": Shape(0, 0.0, 0, math.nan, math.nan),
    }
    new = [
        volume("good", 0.8),
        volume("bad", 0.1),
        volume("silent", math.nan),
        volume("odd", 0.85, shape=shapes["odd"]),
        volume("unsure", 0.7, disagreement=0.9),
        volume("empty", 0.75, shape=shapes["empty"]),
        volume("fair", 0.6),
    ]
    found = ranked(new, reference())
    assert [one.rank for one in found] == list(range(1, 8))
    order = [one.volume for one in found]
    assert order == ["silent", "bad", "fair", "unsure", "empty", "good", "odd"]
    why = {one.volume: one.reasons for one in found}
    assert why == {
        "silent": ("the judge abstains",),
        "bad": ("low score",),
        "odd": ("unusually large",),
        "unsure": ("the model disagrees with itself",),
        "empty": ("nothing drawn",),
        "fair": (),
        "good": (),
    }
    assert [one.volume for one in worst_images(found, 2)] == ["silent", "bad"]
    # The flagged images have the numbers that the list of them gives, whatever stands between them.
    images = [one.volume for one in image_order(found)]
    assert images == ["silent", "bad", "unsure", "empty", "odd", "fair", "good"]
    row = found[0].as_row()
    assert (row["predicted_dice"], row["judge_score"], row["look"]) == ("", "", "yes")


def test_equal_predictions_are_ordered_by_score_and_disagreement() -> None:
    # Below the least score that was seen, all predictions are equal.
    new = [volume("c", 0.28), volume("b", 0.29, 0.05), volume("a", 0.29, 0.01), volume("d", 0.27)]
    found = ranked(new, reference())
    assert len({one.predicted for one in found}) == 1
    assert [one.volume for one in found] == ["d", "c", "b", "a"]
    odd = volume("odd", 0.93, shape=Shape(10_000, 10_000.0, 1, 1.0, 0.5))
    flagged_first = ranked([volume("plain", 0.92), odd], reference())
    assert [one.volume for one in flagged_first] == ["odd", "plain"]


def test_a_structure_that_is_often_absent_may_be_missing() -> None:
    empty = Shape(0, 0.0, 0, math.nan, math.nan)
    known = reference([BALL] * 20 + [empty] * 20)
    (found,) = ranked([volume("none", 0.75, shape=empty)], known)
    assert found.reasons == ()


def test_a_reference_is_read_as_it_was_written(tmp_path: Path) -> None:
    known = reference()
    known.save(tmp_path / "calibration.json")
    again = QualityReference.load(tmp_path / "calibration.json", SPACE)
    new = [volume("bad", 0.1), volume("good", 0.8)]
    assert [one.as_row() for one in ranked(new, again)] == [
        one.as_row() for one in ranked(new, known)
    ]
    assert "NaN" not in (tmp_path / "calibration.json").read_text()  # judges of one have no spread


@pytest.mark.parametrize(
    "change",
    [
        {"format": 9},
        {"structures": {}},
        {"structures": {"organ": {}}},
        {"structures": [1]},
        {"images": {"quantiles": "x"}},
        {"image_thresholds": None},
    ],
)
def test_what_is_no_reference_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "calibration.json"
    reference().save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(SegprefError, match=r"calibration\.json is"):
        QualityReference.load(path, SPACE)


def test_a_reference_of_other_structures_is_refused(tmp_path: Path) -> None:
    reference().save(tmp_path / "calibration.json")
    other = LabelSpace("multi-class", ("background", "liver"))
    with pytest.raises(SegprefError, match="is about organ, but the model predicts liver"):
        QualityReference.load(tmp_path / "calibration.json", other)


def test_sizes_are_compared_in_voxels_where_some_size_of_voxels_is_unknown() -> None:
    known = reference([Shape(100, None, 1, 1.0, 0.5), *[BALL] * 39])
    assert not known.in_mm
    (found,) = ranked([volume("large", 0.8, shape=Shape(100_000, None, 1, 1.0, 0.5))], known)
    assert found.reasons == ("unusually large",)


def test_an_unknown_structure_has_no_prediction_and_no_flag_for_it() -> None:
    silent = [volume(str(n), math.nan, seed=n) for n in range(10)]
    found = LabelledImages(silent, np.ones((10, 1)), [[BALL] * 10], [one.image for one in silent])
    known = QualityReference.of(found, SPACE, "", "", 0.9, 0.05)
    (one,) = ranked([volume("new", math.nan)], known)
    assert math.isnan(one.predicted)
    assert one.reasons == ()
    assert isinstance(known.structures["organ"].calibration, Calibration)


def test_folds_disagree_where_their_masks_do(tmp_path: Path) -> None:
    """A model of several members is compared with itself by them, without reruns."""
    arguments = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8]}
    spec = NetworkSpec("monai.networks.nets.UNet", {**arguments, "strides": [2]})
    preparation = Preparation(dims=2, size=(16, 16))
    members = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        path = tmp_path / f"{seed}.safetensors"
        save_model(path, spec.build(), ModelCard(spec, SPACE, preparation, ("image",)))
        members.append(open_model(path).policies()[0])
    images = np.random.default_rng(0).normal(size=(3, 1, 16, 16)).astype(np.float32)
    source = Source(id="one", patient="one", images=(tmp_path / "one.nii.gz",))
    volume = Volume(source, {}, images, None, None)

    def disagreement(*which: int) -> np.ndarray:
        folds = {f"fold_{place}": partial(members.__getitem__, n) for place, n in enumerate(which)}
        opened = replace(open_model(tmp_path / "0.safetensors"), members=folds)
        own = SelfAssessment(opened, reruns=2)(volume, [0, 1, 2])
        logits = sum(members[n].logits(torch.from_numpy(images)) for n in which) / len(which)
        assert own.confidence == pytest.approx(confidence_of(logits, SPACE))
        return own.disagreement

    masks = [SPACE.decode(one.logits(torch.from_numpy(images))).numpy() for one in members]
    assert disagreement(0, 1) == pytest.approx(pairwise_disagreement(masks, SPACE))
    assert disagreement(0, 1) > 0
    assert disagreement(0, 0) == 0
    # A single network without dropout has nothing to disagree with.
    assert np.isnan(disagreement(0))


def test_confidence_by_hand() -> None:
    logits = torch.tensor([[[[0.0, 2.0, 1.0]], [[0.0, 0.0, 3.0]], [[0.0, 0.0, 0.0]]]])
    space = LabelSpace("multi-class", ("background", "a", "b"))
    # The third voxel alone is a's, the first is background's (the first of equal ones), none is b's.
    sure = math.exp(3) / (math.exp(1) + math.exp(3) + 1)
    assert confidence_of(logits, space) == pytest.approx([sure, 0.0])
    each = torch.tensor([[[[1.0, -1.0, 3.0]], [[-1.0, -2.0, -3.0]]]])
    both = [(1 / (1 + math.exp(-1)) + 1 / (1 + math.exp(-3))) / 2, 0.0]
    assert confidence_of(each, LabelSpace("multi-label", ("a", "b"))) == pytest.approx(both)


def test_the_order_is_that_of_score_and_confidence_together() -> None:
    known = reference()

    def order(*masks: tuple[float, float]) -> list[str]:
        volumes = [
            volume(f"{number}", score, seed=number, confidence=confidence)
            for number, (score, confidence) in enumerate(masks)
        ]
        return [one.volume for one in ranked(volumes, known)]

    # Ranks of score: 2 1 3 4; of confidence: 1 3 2 4; sums: 3 4 5 8.
    assert order((0.5, 0.6), (0.4, 0.9), (0.6, 0.7), (0.8, 0.95)) == ["0", "1", "2", "3"]
    assert order((0.5, math.nan), (0.4, 0.9), (0.6, 0.7), (0.8, 0.95)) == ["1", "0", "2", "3"]
    # An abstaining judge comes first, however sure the model is; of equal sums the lower score.
    assert order((0.5, 0.6), (math.nan, 0.9), (0.4, 0.8)) == ["1", "2", "0"]
    assert order() == []


def test_structures_are_in_one_list_by_predicted_dice() -> None:
    """Confidence orders the masks of a structure, not one structure against another."""
    space = LabelSpace("multi-class", ("background", "easy", "hard"))
    rng = np.random.default_rng(0)
    scores = np.stack([np.linspace(0.8, 1.0, 40), np.linspace(0.1, 0.4, 40)], axis=1)

    def both(name: str, said: np.ndarray, sure: np.ndarray, seed: int) -> VolumeFigures:
        masks = tuple(
            MaskFigures(structure, float(s), math.nan, 0.1, float(c), BALL)
            for structure, s, c in zip(space.structures, said, sure, strict=True)
        )
        return VolumeFigures(name, name, image(seed=seed), masks)  # type: ignore[arg-type]

    figures = [both(str(n), one, rng.random(2), n) for n, one in enumerate(scores)]
    found = LabelledImages(figures, scores, [[BALL] * 40] * 2, [one.image for one in figures])
    known = QualityReference.of(found, space, "", "", 0.9, 0.05)
    new = [
        both("a", np.array([0.81, 0.39]), np.array([0.1, 0.99]), 50),
        both("b", np.array([0.99, 0.11]), np.array([0.2, 0.98]), 51),
    ]
    rows = [(one.figures.structure, one.volume) for one in ranked(new, known)]
    assert rows == [("hard", "b"), ("hard", "a"), ("easy", "a"), ("easy", "b")]


def test_where_predictions_are_equal_score_and_confidence_order() -> None:
    """Below the least score that was seen all predictions are equal, and a flag changes nothing."""
    odd = Shape(10_000, 10_000.0, 1, 1.0, 0.5)
    new = [
        volume("a", 0.27, confidence=0.9),
        volume("b", 0.28, confidence=0.1),
        volume("c", 0.29, confidence=0.2, shape=odd),
    ]
    found = ranked(new, reference())
    assert len({one.predicted for one in found}) == 1
    # Sums of ranks: 1 + 3, 2 + 1, 3 + 2.
    assert [one.volume for one in found] == ["b", "a", "c"]
