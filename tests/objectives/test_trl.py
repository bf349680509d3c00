"""Against TRL, an independent implementation: values that ``record_trl_losses.py`` took from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import segpref.contrib.objectives
import segpref.objectives
from segpref.objectives import KTO, disagreement, margins, winner_log_likelihood
from segpref.types import IGNORE, Candidate, LabelSpace, Margins, Objective, Pairs, Slate

RECORD = json.loads(Path(__file__).with_name("trl_losses.json").read_text())
SPACE = LabelSpace("multi-class", ("background", "a", "b"))
# TRL's odds ratio is taken in single precision.
PRECISION = {"ORPO": 1e-5}


def named(case: dict) -> str:
    settings = " ".join(f"{key}={value}" for key, value in case["settings"].items())
    return f"{case['objective']} {settings}"


def objective_of(case: dict) -> Objective:
    name = case["objective"]
    core = name in segpref.objectives.__all__
    package = segpref.objectives if core else segpref.contrib.objectives
    return getattr(package, name)(**case["settings"])


@pytest.mark.parametrize("case", RECORD["cases"], ids=named)
def test_losses_of_log_probabilities(case):
    chosen, rejected, old_chosen, old_rejected = torch.tensor(
        RECORD["pairs"], dtype=torch.float64
    ).unbind(1)
    objective = objective_of(case)
    losses = objective(
        Margins(
            policy=chosen - rejected,
            reference=old_chosen - old_rejected,
            gap=torch.ones(len(chosen)),
            winner=chosen,
        )
    )
    bound = PRECISION.get(case["objective"], 1e-12)
    np.testing.assert_allclose(losses.numpy(), case["losses"], rtol=bound, atol=bound)


def from_masks() -> Margins:
    """The recorded masks through segpref: regions, reductions, likelihoods."""
    masks = RECORD["masks"]
    logits, reference = (
        torch.tensor(masks[name], dtype=torch.float64).reshape(3, 3, 2, 4)
        for name in ("logits", "reference_logits")
    )
    winner, loser = (np.array(masks[name]) for name in ("winner", "loser"))
    told = np.stack((winner, loser), axis=1)
    told = np.where(told == masks["padded"], IGNORE, told).astype(np.uint8)
    slates = [Slate(each.reshape(2, 1, 2, 4), (Candidate("recorded"),) * 2) for each in told]
    zeros, ones = np.zeros(3, np.int64), np.ones(3, np.int64)
    pairs = Pairs(np.arange(3), zeros, zeros, ones, np.ones(3))
    region = disagreement(slates, pairs, SPACE)
    found = margins(logits, reference, region, "image")
    whole = winner_log_likelihood(logits, slates, region, SPACE, "image")
    return Margins(found.policy, found.reference, found.gap, whole)


def test_likelihood_of_masks_is_that_of_answers():
    expected = RECORD["masks"]["winner_mean_log_likelihood"]
    np.testing.assert_allclose(from_masks().winner.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("case", RECORD["masks"]["cases"], ids=named)
def test_losses_of_masks(case):
    objective = objective_of(case)
    losses = objective(from_masks())
    bound = PRECISION.get(case["objective"], 1e-12)
    np.testing.assert_allclose(losses.numpy(), case["losses"], rtol=bound)


@pytest.mark.parametrize("case", RECORD["single"], ids=lambda case: str(case["settings"]))
def test_losses_of_single_answers(case):
    policy, reference = (
        torch.tensor(case[name], dtype=torch.float64) for name in ("policy", "reference")
    )
    losses = KTO(**case["settings"])(
        Margins(
            policy, reference, torch.ones(len(policy)),
            target=torch.tensor(case["accepted"], dtype=torch.float64),
        )
    )  # fmt: skip
    np.testing.assert_allclose(losses.numpy(), case["losses"], rtol=1e-12)


def test_recorded_batches_are_on_both_sides_of_the_clamp():
    means = {np.mean(np.subtract(c["policy"], c["reference"])) > 0 for c in RECORD["single"]}
    assert means == {True, False}
