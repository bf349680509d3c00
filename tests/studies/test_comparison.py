"""Better, not shown, worse: what it takes, and how often chance passes."""

from __future__ import annotations

import json
import math
import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from segpref.report import Comparison, Difference, compared, doubt, gains_by_patient
from segpref.studies import control_beside
from segpref.training import RunFolder

pytestmark = pytest.mark.slow


def test_the_sign_flip_test_is_exact() -> None:
    gains = np.array([0.03, -0.01, 0.02, 0.05, 0.01, 0.0, 0.04])
    means = [np.mean(gains * signs) for signs in product((-1, 1), repeat=len(gains))]
    # Twice the smaller tail, as both are alike.
    tail = np.mean([mean >= gains.mean() - 1e-12 for mean in means])
    found = compared(gains)
    assert found.p_value == pytest.approx(2 * tail)
    assert (found.mean, found.patients) == (pytest.approx(gains.mean()), 7)
    assert compared(gains) == found, "with the same chance"


@pytest.mark.parametrize(
    ("count", "word"), [(1, "not shown"), (2, "not shown"), (5, "not shown"), (6, "better")]
)
def test_few_patients_show_nothing(count: int, word: str) -> None:
    gains = np.linspace(0.01, 0.02, count)
    assert compared(gains).word == word
    assert compared(-gains).word == ("worse" if word == "better" else word)


def test_no_patient_is_no_comparison() -> None:
    found = compared(np.zeros(0))
    assert (found.patients, found.word) == (0, "not shown")
    assert math.isnan(found.mean)


def test_equal_models_are_not_better() -> None:
    assert compared(np.zeros(12)).word == "not shown"


@pytest.mark.parametrize("count", [2, 4, 6, 8, 12])
def test_chance_is_seldom_better(count: int) -> None:
    """Of gains without effect at most 5 % are called better; the interval alone lets 24 % pass at 2."""
    rng = np.random.default_rng(0)
    found = [compared(rng.standard_t(3, count), resamples=400) for _ in range(200)]
    assert np.mean([one.word == "better" for one in found]) <= 0.04
    if count == 2:
        assert np.mean([one.low > 0 for one in found]) > 0.15


def test_gains_are_of_patients() -> None:
    def row(patient: str, volume: str, iou: float) -> dict[str, str | float]:
        return {"patient": patient, "volume": volume, "structure": "a", "iou": iou}

    ours = [
        row("p", "1", 0.8),
        row("p", "2", 0.6),
        row("q", "3", math.nan),
        row("r", "4", math.nan),
    ]
    base = [row("p", "1", 0.6), row("p", "2", 0.6), row("q", "3", 0.0), row("r", "4", math.nan)]
    # q has the structure in neither; the base drew it and we were right not to. r says nothing.
    assert gains_by_patient(ours, base, "iou") == {"p": pytest.approx(0.1), "q": 1.0}


def test_one_seed_is_not_better_in_1_of_1() -> None:
    claim = Difference("RN-DPO", "Base", "iou", 0.02, 0.01, 0.03, 1, 1, 0.01, 10)
    assert claim.told_seeds == "one seed"
    assert claim.better
    assert Difference("a", "b", "iou", 0.02, 0.01, 0.03, 1, 2, 0.01, 10).word == "not shown"
    assert Difference("a", "b", "iou", 0.02, 0.01, 0.03, 2, 2, 0.06, 10).word == "not shown"
    assert Difference("a", "b", "iou", 0.02, 0.01, 0.03, 2, 2, 0.01, 5).word == "not shown"
    assert Difference("a", "b", "iou", -0.02, -0.03, -0.01, 0, 2, 0.01, 8).word == "worse"
    assert Difference("a", "b", "assd", -0.02, -0.03, -0.01, 2, 2, 0.01, 8).word == "better"
    assert Difference("a", "b", "assd", 0.02, 0.01, 0.03, 0, 2, 0.01, 8).word == "worse"


def test_a_run_that_is_not_better_is_doubted_wherever_its_model_lies(tmp_path: Path) -> None:
    run = tmp_path / "tuned" / "fold_0"
    (run.parent / "tuned" / "model").mkdir(parents=True)
    run.mkdir()
    (tmp_path / "base").mkdir()

    def write(comparison: Comparison) -> None:
        (run / "verdict.json").write_text(json.dumps(comparison.as_dict()))

    write(compared(np.array([0.1, 0.2])))
    places = (run, run / "best.safetensors", run.parent / "tuned" / "model")
    for place in places:
        assert "is not shown to be better" in str(doubt(place))
    assert doubt(run / "base.safetensors") is None
    assert doubt(tmp_path / "base") is None
    write(compared(np.linspace(-0.2, -0.1, 8)))
    assert all("is worse than its base" in str(doubt(place)) for place in places)
    write(compared(np.linspace(0.1, 0.2, 8)))
    assert not any(doubt(place) for place in places)


def run_beside(folder: Path, verdict: str | None = None, **settings: object) -> RunFolder:
    folder.mkdir()
    about = {"settings": {"model": "base", "method": "preference", **settings}}
    (folder / "run.json").write_text(json.dumps(about))
    if verdict is not None:
        (folder / "verdict.json").write_text(verdict)
    return RunFolder(folder)


def test_what_lies_beside_a_run_and_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    run = run_beside(tmp_path / "run")
    for name in ("a pipe", "b damaged", "c list"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "a pipe" / "run.json")  # to read it would be to wait for ever
    (tmp_path / "b damaged" / "run.json").write_bytes(b"\xff{")
    (tmp_path / "c list" / "run.json").write_text("[1]")
    run_beside(tmp_path / "d control", "{", control=True)
    assert control_beside(run) is None
    words = json.dumps(compared(np.linspace(0.01, 0.02, 6)).as_dict())
    run_beside(tmp_path / "e control", words, control=True)
    run_beside(tmp_path / "f another method", words, control=True, method="calibrated")
    found = control_beside(run)
    assert found is not None
    assert (found.name, found.comparison.patients) == ("e control", 6)
