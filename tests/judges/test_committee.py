from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from small_cases import LABELS, dataset, noise_slate

from segpref.judges import Committee, OracleJudge, trust_weights
from segpref.types import Case, Judge, SegprefError, Slate

NAN = np.nan
CASE = replace(dataset([np.zeros((1, 2, 2))], LABELS)[0], label=np.zeros((2, 2, 2), np.uint8))
ANY = noise_slate(np.random.default_rng(0), LABELS, (2, 2), 4)


class Says:
    """These scores of one field; notes what it was shown."""

    needs_label = False

    def __init__(self, *scores: float) -> None:
        self.scores = np.array(scores, float)[:, None]
        self.seen: list[Case] = []
        self.prepared: list[Any] = []

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        self.seen.append(case)
        return self.scores

    def prepare(self, dataset: Any) -> None:
        self.prepared.append(dataset)


def asked(*judges: Any, **settings: Any) -> np.ndarray:
    return Committee(judges, **settings).score(CASE, ANY)[:, 0]


def test_means_by_hand() -> None:
    first, second = Says(0.1, 0.5, 0.3, 0.9), Says(10, 30, 30, 20)
    np.testing.assert_allclose(asked(first, second, by="score"), [5.05, 15.25, 15.15, 10.45])
    # Ranks 0 2 1 3 and 0 2.5 2.5 1, of 3.
    np.testing.assert_allclose(asked(first, second), np.array([0, 4.5, 3.5, 4]) / 2 / 3)
    weighted = asked(first, second, weights=[3, 1])
    np.testing.assert_allclose(weighted, np.array([0, 8.5, 5.5, 10]) / 4 / 3)


def test_one_judge_is_itself_and_none_is_nobody() -> None:
    scores = (0.1, 0.5, 0.3, 0.9)
    np.testing.assert_allclose(asked(Says(*scores), by="score"), scores)
    untrusted = Says(NAN, NAN, NAN, NAN)
    found = asked(Says(*scores), untrusted, by="score", weights=[2, 0])
    np.testing.assert_allclose(found, scores)
    assert not untrusted.seen


def test_who_abstains() -> None:
    full, partly = Says(0.1, 0.5, 0.3, 0.9), Says(0.2, NAN, 0.4, 0.6)
    # A candidate without a score from a member has none; the others are ranked among themselves.
    np.testing.assert_allclose(asked(full, partly), [0, NAN, 0.5, 1])
    np.testing.assert_allclose(asked(full, partly, by="score"), [0.15, NAN, 0.35, 0.75])
    # A member that says nothing of the field is not waited for.
    np.testing.assert_allclose(
        asked(full, Says(NAN, 0.4, NAN, NAN), by="score"), [0.1, 0.5, 0.3, 0.9]
    )
    assert np.isnan(asked(Says(NAN, NAN, NAN, NAN))).all()
    assert np.isnan(asked(Says(0.1, 0.2, NAN, NAN), Says(NAN, 0.2, 0.3, NAN))).all()


def test_fields_are_apart() -> None:
    class Two:
        needs_label = False

        def score(self, case: Case, slate: Slate) -> np.ndarray:
            return np.array([[0.1, NAN], [0.5, NAN], [0.3, NAN], [0.9, NAN]])

    found = Committee([Two()], by="score").score(CASE, ANY)
    np.testing.assert_array_equal(found, Two().score(CASE, ANY))


def test_contradiction_silences() -> None:
    up, down, mixed, flat = Says(1, 2, 3, 4), Says(4, 3, 2, 1), Says(1, 3, 2, 4), Says(1, 1, 1, 1)
    assert np.isnan(asked(up, down, min_agreement=0.0)).all()
    rho = spearmanr([1, 2, 3, 4], [1, 3, 2, 4]).statistic
    mean = (rho - 1 - rho) / 3
    for limit, silent in ((mean + 1e-6, True), (mean - 1e-6, False)):
        assert np.isnan(asked(up, down, mixed, min_agreement=limit)).all() == silent
    # Who does not rank contradicts nobody.
    assert not np.isnan(asked(up, flat, min_agreement=0.9)).any()


def test_labels_go_only_to_who_declares_them() -> None:
    blind = Says(1, 2, 3, 4)
    blind.scores = np.repeat(blind.scores, 2, axis=1)
    committee = Committee([OracleJudge(LABELS), blind])
    assert isinstance(committee, Judge)
    assert committee.needs_label
    committee.score(replace(CASE, raters=np.zeros((1, 2, 2, 2), np.uint8)), ANY)
    assert blind.seen[0].label is None
    assert blind.seen[0].raters is None
    assert not Committee([blind]).needs_label
    committee.prepare("data")  # type: ignore[arg-type]
    assert blind.prepared == ["data"]


def test_trust_is_log_odds() -> None:
    found = trust_weights([0.2, 0.5, 0.8, 0.0])
    np.testing.assert_allclose(found, [np.log(4), 0, 0, np.log(99)], atol=1e-12)
    with pytest.raises(SegprefError, match="more cases"):
        trust_weights([0.2, NAN])


def test_trusted_majorities_err_least() -> None:
    # Three independent voters on many questions: log-odds weights beat equal ones.
    rng = np.random.default_rng(0)
    rates = np.array([0.1, 0.4, 0.4])
    right = rng.random((3, 20000)) >= rates[:, None]
    votes = np.where(right, 1, -1)
    trusted = np.asarray(trust_weights(rates.tolist())) @ votes > 0
    equal = votes.sum(0) > 0
    assert trusted.mean() > equal.mean() + 0.02


def test_members_of_different_label_spaces() -> None:
    with pytest.raises(SegprefError, match="one label space"):
        asked(OracleJudge(LABELS), Says(1, 2, 3, 4))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"judges": []}, "at least one judge"),
        ({"judges": [Says(1)], "by": "vote"}, "by must be one of score, rank, not 'vote'"),
        ({"judges": [Says(1)], "weights": [1, 2]}, "as many weights"),
        ({"judges": [Says(1)], "weights": [-1]}, "weights from 0"),
        ({"judges": [Says(1)], "weights": [0]}, "not all of them 0"),
    ],
)
def test_committees_that_make_no_sense(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SegprefError, match=said):
        Committee(**settings)
