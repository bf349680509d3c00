"""Which pairs are asked about: worked arithmetic, near-duplicates, shares, one structure at a time."""

from __future__ import annotations

import numpy as np
import pytest

from segpref.collect import (
    PairSelection,
    compared,
    differing_voxels,
    information,
    margin_doubt,
    one_structure_slate,
    preference_chance,
    score_scale,
    share_preferring,
)
from segpref.types import Candidate, LabelSpace, Region, Slate

ONE = LabelSpace("multi-class", ("background", "organ"))
TWO = LabelSpace("multi-class", ("background", "liver", "tumour"))
NESTED = LabelSpace(
    "multi-class", ("background", "oedema", "core"), (Region("whole", (1, 2)), Region("core", (2,)))
)
OVERLAPPING = LabelSpace("multi-label", ("left", "right"))


def squares(*sides: int, size: int = 20) -> np.ndarray:
    """Masks ``[K, 1, size, size]`` of squares in a corner."""
    masks = np.zeros((len(sides), 1, size, size), np.uint8)
    for mask, side in zip(masks, sides, strict=True):
        mask[0, :side, :side] = 1
    return masks


def test_voxels_that_differ_are_counted_with_and_without_weights() -> None:
    masks = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]], bool)
    assert differing_voxels(masks).tolist() == [[0, 2, 2], [2, 0, 2], [2, 2, 0]]
    weight = np.array([1.0, 0.5, 0.25, 0.0])
    assert differing_voxels(masks, weight).tolist() == [
        [0, 0.75, 1.5],
        [0.75, 0, 1.25],
        [1.5, 1.25, 0],
    ]


def test_the_judge_is_believed_as_far_as_its_scores_spread() -> None:
    scores = np.array([0.8, 0.7, np.nan])
    chance = preference_chance(scores, 0.1)
    assert chance[0, 1] == pytest.approx(1 / (1 + np.exp(-1)))
    assert chance[0, 1] + chance[1, 0] == pytest.approx(1)
    assert chance[0, 2] == chance[2, 1] == 0.5
    assert (preference_chance(scores, 0.0) == 0.5).all()
    assert score_scale(np.array([[0.0, 2.0], [4.0, 4.0], [np.nan, 1.0]])) == pytest.approx(
        np.sqrt((1 + 0) / 2)
    )


def test_members_of_an_ensemble_vote_and_never_make_it_certain() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.8, 0.2, np.nan], [0.3, 0.3, 0.2]])
    share = share_preferring(scores)
    assert share[0, 1] == pytest.approx((2.5 + 1) / (3 + 2))
    assert share[0, 2] == pytest.approx((2 + 1) / (2 + 2))
    assert np.allclose(share + share.T, 1)


def test_information_is_area_times_openness_times_doubt() -> None:
    area, chance, doubt = (np.full((1, 1), value) for value in (40.0, 0.25, 0.5))
    assert information(area, chance, doubt)[0, 0] == pytest.approx(40 * 0.25 * 0.75 * 1.5)


def test_doubt_is_how_far_passes_under_dropout_disagree_about_a_margin() -> None:
    masks = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 1]], np.uint8)[:, None]
    # Of the structure against the background, pixel by pixel, in two passes.
    passes = np.zeros((2, 2, 3))
    passes[:, 1] = [[3, 1, 0], [1, -1, 2]]
    (found,) = margin_doubt(masks, passes, ONE)
    # Margins of the second mask over the first: 3 and 1; of the third 1 and 1.
    spread = np.sqrt(2)
    assert found[1, 0] == found[0, 1] == pytest.approx(spread / (spread + 2))
    assert found[2, 0] == 0
    # Of the second over the third: 2 and 0.
    assert found[1, 2] == pytest.approx(spread / (spread + 1))
    assert (np.diag(found) == 0).all()
    # The same logits of a structure by itself, whose background is 0.
    single = LabelSpace("multi-label", ("organ",))
    assert margin_doubt(masks, passes[:, 1:], single)[0] == pytest.approx(found)
    # Passes that cancel leave nothing but doubt.
    passes[1] = -passes[0]
    assert margin_doubt(masks, passes, ONE)[0][0, 1] == pytest.approx(1)


def test_pairs_of_which_the_policy_is_unsure_come_first() -> None:
    masks = squares(0, 8, 9)
    select = PairSelection(1, random=0.0)
    doubt = np.zeros((1, 3, 3))
    assert select(masks, ONE, doubt=doubt)[0].places == (0, 2)
    doubt[0, 0, 1] = doubt[0, 1, 0] = 1.0
    (asked,) = select(masks, ONE, doubt=doubt)
    assert asked.places == (0, 1)
    assert asked.information == pytest.approx(64 * 0.25 * 2)


def test_what_is_known_of_two_masks() -> None:
    (known,) = compared(squares(2, 4, 4, 0), ONE)
    assert known.area[0, 1] == 12
    assert known.dice[0, 1] == pytest.approx(2 * 4 / (4 + 16))
    assert known.dice[1, 2] == 1
    assert known.dice[0, 3] == 0
    # Of four masks three hold the inner voxels and two the outer ones.
    assert known.doubt[0, 1] == pytest.approx(4 * 0.5 * 0.5)
    assert known.doubt[0, 3] == pytest.approx(4 * 0.75 * 0.25)
    assert known.alone.all()


def test_the_voxels_that_all_share_count_in_dice() -> None:
    masks = squares(10, 10)
    masks[1, 0, 10, 0] = 1
    (known,) = compared(masks, ONE)
    assert known.dice[0, 1] == pytest.approx(2 * 100 / 201)


def test_the_most_informative_pair_is_asked_and_no_near_duplicates() -> None:
    masks = squares(10, 10, 12, 18, 18)
    masks[4, 0, 18, :2] = 1  # 2 of 326 voxels more than its neighbour
    (first, second) = PairSelection(4, random=0.0)(masks, ONE)
    assert sorted((first.places, second.places)) == [(0, 4), (1, 3)] or first.places == (0, 4)
    shown = {first.places, second.places}
    assert not shown & {(0, 1), (3, 4)}
    assert first.information >= second.information > 0
    assert not PairSelection(4)(squares(10, 10, 10), ONE)
    # In a small structure ten voxels are the least.
    assert not PairSelection(4)(squares(1, 3), ONE)
    assert PairSelection(4, least_voxels=8)(squares(1, 3), ONE)


def test_an_open_question_is_preferred_to_a_larger_one() -> None:
    masks = squares(4, 8, 12, 16)
    chance = np.full((1, 4, 4), 0.999)
    chance[0, 1, 2] = 0.5
    (first, *_) = PairSelection(1, random=0.0)(masks, ONE, chance)
    assert first.places == (1, 2)


def test_a_share_is_drawn_at_random_over_all_images() -> None:
    selection = PairSelection(3, random=0.2, seed=1)
    found = [one for _ in range(50) for one in selection(squares(2, 5, 8, 11, 14, 17), ONE)]
    drawn = [one for one in found if one.chosen_by == "random"]
    assert len(found) == 150
    assert len(drawn) == 30
    assert len({one.places for one in drawn}) > 5
    again = PairSelection(3, random=0.2, seed=1)
    assert found == [one for _ in range(50) for one in again(squares(2, 5, 8, 11, 14, 17), ONE)]


def test_structures_take_turns_and_a_pair_differs_in_one_alone() -> None:
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (9, 1, 12, 12)).astype(np.uint8)
    assert not PairSelection(4)(masks, TWO)
    slate = one_structure_slate(Slate(masks, tuple(Candidate(f"{n}") for n in range(9))), TWO)
    found = PairSelection(4, random=0.5)(slate.masks, TWO)
    assert [one.structure for one in found] == [0, 1, 0, 1]
    for one in found:
        first, second = (slate.masks[place, 0] for place in one.places)
        differs = [n for n in (1, 2) if ((first == n) != (second == n)).any()]
        assert differs == [one.structure + 1]
    second = PairSelection(1)
    second(slate.masks, TWO)
    assert second(slate.masks, TWO)[0].structure == 1


def test_structures_that_may_overlap_are_asked_about_as_they_are() -> None:
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (6, 2, 12, 12)).astype(np.uint8)
    assert {one.structure for one in PairSelection(4)(masks, OVERLAPPING)} == {0, 1}


def test_four_masks_are_far_apart() -> None:
    masks = squares(2, 3, 8, 12, 16, 17)
    (found,) = PairSelection(1, 4, random=0.0)(masks, ONE)
    assert len(set(found.places)) == 4
    assert {2, 5} <= set(found.places)
    assert not {4, 5} <= set(found.places) or not {0, 1} <= set(found.places)
    assert not PairSelection(1, 4)(squares(2, 8, 12), ONE)


def test_one_mask_is_the_anchor_first_and_then_candidates_unlike_it() -> None:
    found = PairSelection(3, 1, random=0.0)(squares(8, 8, 12, 18), ONE)
    assert [one.places for one in found] == [(0,), (3,), (2,)]


@pytest.mark.parametrize("space", [TWO, NESTED])
def test_candidates_are_cut_into_one_structure_each(space: LabelSpace) -> None:
    rng = np.random.default_rng(3)
    masks = rng.integers(0, 3, (12, 1, 6, 7)).astype(np.uint8)
    given = Slate(masks, tuple(Candidate("x", {"n": n}) for n in range(12)))
    slate = one_structure_slate(given, space)
    assert slate.masks.shape == masks.shape
    assert np.array_equal(slate.masks[0], masks[0])
    anchor = space.structure_masks(masks[0])
    assert len({mask.tobytes() for mask in slate.masks}) == 12
    for mask, candidate in zip(slate.masks[1:], slate.candidates[1:], strict=True):
        own = space.structure_masks(mask)
        name = candidate.settings["structure"]
        changed = [
            n for n, (one, two) in enumerate(zip(own, anchor, strict=True)) if (one != two).any()
        ]
        assert changed == [space.structures.index(name)]
        # Wherever the candidate wanted to change this structure and no other, it is changed.
        wanted = space.structure_masks(masks[candidate.settings["n"]])
        differs = wanted != anchor
        alone = differs[changed[0]] & (differs.sum(axis=0) == 1)
        assert np.array_equal(own[changed[0]] != anchor[changed[0]], alone)


def test_masks_of_one_structure_or_of_overlapping_ones_stay() -> None:
    for space, fields in ((ONE, 1), (OVERLAPPING, 2)):
        masks = np.random.default_rng(0).integers(0, 2, (5, fields, 4, 4)).astype(np.uint8)
        slate = Slate(masks, tuple(Candidate(str(n)) for n in range(5)))
        assert one_structure_slate(slate, space) is slate
