"""Preference and supervised loss together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from torch import Tensor

from segpref.objectives import DPO, OneHotLoss, SupervisedLoss
from segpref.preferences import Extremes
from segpref.training import (
    AnchoredSignal,
    LogitMargins,
    PreferenceSignal,
    ScoredBatch,
    SupervisedSignal,
    read_logs,
)
from segpref.types import IGNORE, Candidate, LabelSpace, SegprefError, Slate

CLASSES = LabelSpace("multi-class", ("background", "a"))
# One row of four pixels; the second image's scores are nearer than tau to each other.
ANCHOR, BETTER = [[[0, 0, 0, 0]]], [[[1, 1, 0, 0]]]
LOGITS = torch.tensor([[[[0.0, 1.0, 0.0, 2.0]], [[0.5, 0.0, 0.0, 0.0]]]]).repeat(2, 1, 1, 1)
LABELS = torch.tensor([[[[1, 1, 0, 0]]], [[[1, 0, 0, 0]]]], dtype=torch.uint8)
PAIRED = PreferenceSignal(CLASSES, Extremes(0.3), DPO(0.1), "image")


def batch(logits: Tensor, gap: float = 0.5, labels: Tensor | None = LABELS) -> ScoredBatch:
    slate = Slate(np.array([ANCHOR, BETTER], np.uint8), (Candidate("anchor"), Candidate("b")))
    return ScoredBatch(
        margins=LogitMargins(logits, torch.zeros_like(logits), CLASSES),
        slates=[slate, slate],
        scores=[np.array([[0.2], [0.2 + gap]]), np.array([[0.2], [0.3]])],
        truth=None,
        rngs=[np.random.default_rng(n) for n in range(2)],
        labels=labels,
    )


def test_the_loss_of_eq_7_by_hand() -> None:
    logits = LOGITS.clone().requires_grad_()
    result = AnchoredSignal(CLASSES, PAIRED, weight=0.5)(batch(logits))
    assert result.terms == 2
    assert result.loss is not None
    # The one pair differs in pixels 0 and 1, where class 1 minus class 0 is 0.5 and -1.
    preferred = np.log1p(np.exp(-0.1 * (0.5 - 1.0) / 4))
    supervised = float(SupervisedLoss(CLASSES)(LOGITS, LABELS))
    assert float(result.loss.detach()) / 2 == pytest.approx(0.5 * supervised + preferred)
    (read,) = read_logs([result.logs])
    logs = {name: amount / weight for name, (amount, weight) in read.items()}
    assert logs["supervised_loss"] == pytest.approx(supervised)
    assert logs["loss"] == pytest.approx(preferred)
    assert logs["pairs_per_image"] == 0.5
    (slope,) = torch.autograd.grad(result.loss / 2, logits)
    both = LOGITS.clone().requires_grad_()
    alone = PAIRED(batch(both))
    assert alone.loss is not None
    expected = alone.loss / alone.terms + 0.5 * SupervisedLoss(CLASSES)(both, LABELS)
    torch.testing.assert_close(slope, torch.autograd.grad(expected, both)[0])


def test_without_a_pair_the_labels_teach_alone() -> None:
    logits = LOGITS.clone().requires_grad_()
    result = AnchoredSignal(CLASSES, PAIRED, weight=2.0)(batch(logits, gap=0.1))
    assert result.terms == 2
    assert result.loss is not None
    torch.testing.assert_close(result.loss / 2, 2 * SupervisedLoss(CLASSES)(logits, LABELS))


def test_weight_0_is_the_preference_alone() -> None:
    logits = LOGITS.clone().requires_grad_()
    result = AnchoredSignal(CLASSES, PAIRED, weight=0.0)(batch(logits))
    alone = PAIRED(batch(LOGITS))
    assert result.loss is not None
    assert alone.loss is not None
    torch.testing.assert_close(result.loss.detach() / 2, alone.loss / alone.terms)


def test_an_image_without_a_label_teaches_its_pair_alone() -> None:
    unknown = LABELS.clone()
    unknown[1] = IGNORE
    result = AnchoredSignal(CLASSES, PAIRED)(batch(LOGITS, labels=unknown))
    alone = PAIRED(batch(LOGITS))
    assert result.loss is not None
    assert alone.loss is not None
    expected = alone.loss + 0.5 * SupervisedLoss(CLASSES)(LOGITS[:1], LABELS[:1])
    torch.testing.assert_close(result.loss / 2, expected)


def test_any_loss_can_anchor() -> None:
    signal = AnchoredSignal(CLASSES, PAIRED, 0.5, lambda z, y: (z * y).mean())
    result = signal(batch(LOGITS, gap=0.1))
    assert result.loss is not None
    torch.testing.assert_close(result.loss, (LOGITS * LABELS).mean())


def test_labels_are_asked_for_and_needed() -> None:
    assert AnchoredSignal.needs_label
    assert not getattr(PAIRED, "needs_label", False)
    made = batch(LOGITS)
    plain = replace(made, labels=None)
    for without in (plain, batch(LOGITS, labels=None)):
        with pytest.raises(SegprefError, match="needs labels, and the pool has none"):
            AnchoredSignal(CLASSES, PAIRED)(without)
    with pytest.raises(SegprefError, match="a number from 0"):
        AnchoredSignal(CLASSES, PAIRED, weight=-0.5)


def test_labels_alone_are_the_supervised_loss() -> None:
    result = SupervisedSignal(CLASSES)(batch(LOGITS))
    assert result.loss is not None
    torch.testing.assert_close(result.loss / result.terms, SupervisedLoss(CLASSES)(LOGITS, LABELS))
    dice = OneHotLoss(CLASSES, DiceLoss(softmax=True))
    other = SupervisedSignal(CLASSES, dice)(batch(LOGITS))
    assert other.loss is not None
    torch.testing.assert_close(other.loss / other.terms, dice(LOGITS, LABELS))
    with pytest.raises(SegprefError, match="needs labels"):
        SupervisedSignal(CLASSES)(batch(LOGITS, labels=None))
