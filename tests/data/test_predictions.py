from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from segpref.data import Cache, Dataset, PredictionStore, predict_ahead
from segpref.judges import Committee, ModelJudge, NoisyJudge
from segpref.types import Candidate, LabelSpace, SegprefError, Slate


class Brightness:
    """Logits from the image alone; counts its passes."""

    def __init__(self, label_space: LabelSpace, name: str = "one", factor: float = 1.0) -> None:
        self.label_space, self.name, self.factor, self.passes = label_space, name, factor, 0

    def logits(self, images: Tensor) -> Tensor:
        self.passes += 1
        level = torch.linspace(0, 1, self.label_space.channels).reshape(1, -1, 1, 1)
        return -self.factor * (images - level).abs()

    def digest(self) -> str:
        return self.name


def test_logits_are_those_of_the_case(hearts: Dataset, tmp_path: Path) -> None:
    network = Brightness(hearts.label_space)
    kept = PredictionStore(network, "logits", Cache(tmp_path), batch_size=3)
    part = hearts.take(range(0, len(hearts), 7))
    kept.prepare(part)
    for case in part:
        expected = network.logits(torch.from_numpy(np.array(case.image))[None])[0].numpy()
        assert kept[case].dtype == np.float32
        np.testing.assert_array_equal(kept[case], expected)


def test_masks_are_decoded(hearts: Dataset, tmp_path: Path) -> None:
    network = Brightness(hearts.label_space)
    kept = PredictionStore(network, "masks", Cache(tmp_path))
    part = hearts.take([4])
    kept.prepare(part)
    logits = network.logits(torch.from_numpy(np.array(part[0].image))[None])
    np.testing.assert_array_equal(kept[part[0]], hearts.label_space.decode(logits)[0].numpy())


def test_nothing_is_predicted_twice(hearts: Dataset, tmp_path: Path) -> None:
    network, part = Brightness(hearts.label_space), hearts.take([0, 5])
    kept = PredictionStore(network, "logits", Cache(tmp_path))
    for store in (kept, kept, PredictionStore(network, "logits", Cache(tmp_path))):
        store.prepare(part)
        assert len([store[case] for case in part]) == 2
    assert network.passes == 2
    other = Brightness(hearts.label_space, "two", factor=2.0)
    again = PredictionStore(other, "logits", Cache(tmp_path))
    again.prepare(part)
    np.testing.assert_array_equal(again[part[0]], 2 * kept[part[0]])
    assert other.passes == 1


def test_only_what_is_asked_for_is_predicted(hearts: Dataset, tmp_path: Path) -> None:
    network = Brightness(hearts.label_space)
    kept = PredictionStore(network, "masks", Cache(tmp_path))
    kept.prepare(hearts)
    assert network.passes == 1, "the first, so that a network that takes no such image says so"
    for place in (0, 3, 3):
        assert kept[hearts[place]].dtype == np.uint8
    assert network.passes == 2


def test_images_of_one_name_in_two_datasets_are_told_apart(
    hearts: Dataset, chests: Dataset, tmp_path: Path
) -> None:
    from dataclasses import replace

    network = Brightness(hearts.label_space)
    kept = PredictionStore(network, "logits", Cache(tmp_path))
    kept.prepare(hearts.take([0]))
    namesake = replace(chests.volumes[0], source=hearts.volumes[0].source, labels=None)
    other = Dataset([namesake], hearts.label_space)
    kept.prepare(other)
    expected = network.logits(torch.from_numpy(np.array(other[0].image))[None])[0].numpy()
    np.testing.assert_array_equal(kept[other[0]], expected)
    kept.prepare(hearts.take([0]))
    assert not np.array_equal(kept[hearts[0]], expected)


def test_what_was_predicted_ahead_needs_no_network(hearts: Dataset, tmp_path: Path) -> None:
    network, part = Brightness(hearts.label_space), hearts.take([0, 5, 7])
    judge = NoisyJudge(
        Committee([ModelJudge(network, Cache(tmp_path)), ModelJudge(network, Cache(tmp_path))]), 0.5
    )
    judge.prepare(part)
    predict_ahead(judge, part.take([1]))
    assert network.passes == 2
    elsewhere = pickle.loads(pickle.dumps(judge))
    slate = Slate(np.stack([part[1].label, 1 - part[1].label]), (Candidate("a"), Candidate("b")))
    np.testing.assert_array_equal(elsewhere.score(part[1], slate), judge.score(part[1], slate))
    with pytest.raises(SegprefError, match="gone from the cache"):
        elsewhere.score(part[2], slate)
    assert network.passes == 2
