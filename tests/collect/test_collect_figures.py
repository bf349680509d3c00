"""Figures of votes: simulated raters are found out, and what does not count does not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from simulated_votes import Habits, mask, row, simulated_votes

from segpref.collect import VoteRow, comparisons_of, ratings_of
from segpref.preferences import Compared
from segpref.report import (
    collect_figures,
    more_votes,
    precision_of_models,
    precision_of_raters,
    votes_page,
)


@pytest.mark.slow
def test_a_rater_with_a_bias_to_the_left_and_flips_is_found_out() -> None:
    """20 % flips, and the left side without a look in 30 %: each shows where it should."""
    raters = {"heron": Habits(flips=0.2, left=0.3), "wren": Habits(flips=0.2)}
    found = collect_figures(simulated_votes(raters, images=120, seed=1), resamples=200)
    heron, wren = found.raters["heron"], found.raters["wren"]
    # Left without a look, or by chance: .3 + .7 / 2.
    assert heron.side.low < 0.65 < heron.side.high
    assert wren.side.low < 0.5 < wren.side.high
    assert not heron.side.low < 0.5
    # Wrong without a look in half of 30 %, and in 20 % of the rest.
    assert heron.reliability is not None
    assert wren.reliability is not None
    assert heron.reliability.flip_rate.low < 0.29 < heron.reliability.flip_rate.high
    assert wren.reliability.flip_rate.low < 0.2 < wren.reliability.flip_rate.high
    assert heron.gold.low < 0.71 < heron.gold.high
    # The same twice: .8 ** 2 + .2 ** 2, for those who look.
    assert wren.repeats.same.low < 0.68 < wren.repeats.same.high
    text = " ".join(votes_page(found).warnings)
    assert "heron chooses the left side too often" in text
    assert "wren chooses" not in text


@pytest.mark.slow
def test_families_and_the_judge_are_found() -> None:
    """The judge orders 90 % of pairs rightly, the rater 80 %: they agree in 74 %."""
    found = collect_figures(
        simulated_votes({"a": Habits(flips=0.2)}, images=200, seed=3), resamples=200
    )
    assert found.families is not None
    strengths = found.families.strength
    assert strengths["anchor"].value > strengths["dropout"].value > strengths["edited"].value
    judge = found.judges[0]
    assert judge.structure == "all structures"
    assert judge.agreement.low < 0.9 * 0.8 + 0.1 * 0.2 < judge.agreement.high
    assert judge.right.low < 0.9 < judge.right.high
    assert {one.structure for one in found.judges} == {"all structures", "LV", "RV"}
    assert found.models is None


@pytest.mark.slow
def test_a_better_tuned_model_is_preferred() -> None:
    strengths = {"base": 0.0, "tuned": 1.0}
    votes = simulated_votes(
        {"a": Habits(ties=0.1)}, images=80, pairs_per_image=2, gold=0, mode="base-or-tuned",
        families=strengths, seed=5,
    )  # fmt: skip
    found = collect_figures(votes, resamples=200)
    assert found.preferred is not None
    assert found.preferred.word == "better"
    share = 1 / (1 + math.exp(-1))
    assert found.preferred.share.low < share < found.preferred.share.high
    first = [one for one in votes if one.repeat_of is None]
    assert found.preferred.ties == sum(one.choice == "tie" for one in first)
    assert found.preferred.share.count == len(first) - found.preferred.ties
    page = votes_page(found)
    assert page.good
    assert page.verdict.startswith("Raters prefer the tuned model")
    few = collect_figures([one for one in votes if one.item.patient in ("p0", "p1")], resamples=50)
    assert few.preferred is not None
    assert few.preferred.word == "not shown"


@pytest.mark.slow
def test_intervals_shrink_with_the_root_of_the_votes() -> None:
    votes = simulated_votes({"a": Habits(0.2), "b": Habits(0.1)}, images=80, seed=2)
    raters = precision_of_raters(ratings_of(votes), draws=2, resamples=30)
    assert raters.votes[-1] == len(votes)
    # A quarter of the votes is twice as wide, give or take the draws.
    assert 1.4 < raters.half_widths[0] / raters.half_widths[-1] < 3
    assert raters.with_votes(400) == pytest.approx(2 * raters.with_votes(1600))
    assert raters.needed is not None
    assert raters.with_votes(raters.needed) == pytest.approx(raters.wanted, rel=0.01)
    compared = comparisons_of(votes, lambda one: one.family)
    models = precision_of_models(compared, "anchor", "edited", draws=2, resamples=30)
    assert models.value == pytest.approx(1 / (1 + math.exp(-1)), abs=0.15)
    text = more_votes([raters, models])
    assert "Raters' flip rate" in text
    assert "preferring anchor to edited" in text


def test_of_nothing_nothing_is_said() -> None:
    found = collect_figures([])
    assert (found.votes, dict(found.raters), found.families, found.preferred) == (0, {}, None, None)
    page = votes_page(found)
    assert page.verdict == "Nobody has voted yet."
    assert page.warnings == []
    assert not math.isfinite(precision_of_raters([]).scale)
    assert more_votes([precision_of_raters([])]) == ""


def test_a_family_that_always_wins_has_no_width() -> None:
    always = [Compared("a", "b", "first", f"p{n}") for n in range(20)]
    found = precision_of_models(always, "a", "b", draws=1, resamples=4)
    assert found.needed is None
    assert more_votes([found]) == ""


def _changed(votes: list[VoteRow], **pair: object) -> list[VoteRow]:
    return [replace(one, pair=replace(one.pair, **pair)) for one in votes]  # type: ignore[arg-type]


def test_practice_and_votes_that_were_taken_back_do_not_count() -> None:
    votes = simulated_votes({"a": Habits()}, images=10, gold=0, repeats=0)
    undone = [replace(one, counts=False) for one in votes[:20]]
    undo = row(900, "a", votes[0].pair, votes[0].item, votes[0].masks, (0, 1), "undo")
    found = collect_figures([*undone, undo, *votes[20:]], resamples=20)
    assert found.votes == len(votes) - 20
    assert found.raters["a"].taken_back == 1
    assert found.families is not None
    assert found.families.comparisons == len(votes) - 20
    assert ratings_of(_changed(votes, use="practice")) == []
    assert len(ratings_of(_changed(votes, use="practice"), practice=True)) == len(votes)
    assert comparisons_of(_changed(votes, use="gold"), lambda one: one.family) == []


def test_the_best_of_four_is_better_than_each_other() -> None:
    votes = simulated_votes({"a": Habits()}, images=1, pairs_per_image=1, gold=0, repeats=0)
    item = votes[0].item
    masks = tuple(mask(f"m{n}", item.id, f"f{n}") for n in range(4))
    pair = replace(votes[0].pair, masks=("m0", "m1", "m2", "m3"), mode="best-of-four")
    best = row(0, "a", pair, item, masks, (3, 2, 1, 0), "best-1")
    found = comparisons_of([best], lambda one: one.family)
    assert {(one.first, one.second, one.sided) for one in found} == {
        ("f2", other, False) for other in ("f0", "f1", "f3")
    }
    rating = ratings_of([best])[0]
    assert (rating.answer, rating.options, rating.place) == (2, 4, 1)
    none = row(1, "a", pair, item, masks, (3, 2, 1, 0), "none-good")
    assert comparisons_of([none], lambda one: one.family) == []
    assert ratings_of([none])[0].answer == "none-good"


def test_accept_and_reject() -> None:
    votes = simulated_votes({"a": Habits()}, images=8, pairs_per_image=1, gold=0, repeats=0)
    asked = [
        replace(
            one, pair=replace(one.pair, mode="accept-reject", masks=one.pair.masks[:1]),
            masks=one.masks[:1], sides=(0,), chosen=None, choice="accept" if n < 6 else "reject",
        )
        for n, one in enumerate(votes)
    ]  # fmt: skip
    found = collect_figures(asked, resamples=20)
    assert found.accepted is not None
    assert (found.accepted.value, found.accepted.count) == (0.75, 8)
    assert found.raters["a"].answers == {"accept": 6, "reject": 2}
    assert found.raters["a"].side.count == 0
    assert found.families is None


@pytest.mark.slow
def test_warnings_name_what_is_amiss() -> None:
    rng = np.random.default_rng(0)
    raters = {
        "blind": Habits(flips=0.5),
        "turned": Habits(flips=0.95),
        "hasty": Habits(seconds=0.4),
        "good": Habits(),
    }
    votes = simulated_votes(raters, images=30, gold=0.3, seed=int(rng.integers(9)))
    text = " ".join(votes_page(collect_figures(votes, resamples=100)).warnings)
    assert "blind is not shown to be better than chance on known questions" in text
    assert "turned answers known questions worse than chance" in text
    assert "hasty took less than a second" in text
    assert "good" not in text
    alone = collect_figures([one for one in votes if one.rater == "good"], resamples=20)
    assert "One rater voted" in " ".join(votes_page(alone).warnings)
