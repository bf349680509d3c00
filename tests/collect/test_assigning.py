"""Which pairs raters are given: practice, gold, repeats, sides, and never more raters than wanted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from segpref.collect import Assignment, Conflict, Rules, VoteStore
from vote_studies import Clock, ballot, made_store, opened, small_contents, vote_all, welcome

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "votes.sqlite")


def seeded(place: str, contents: object, clock: Clock, **rules: float) -> VoteStore:
    return made_store(place, contents, clock=clock, random=Random(1), rules=Rules(**rules))  # type: ignore[arg-type]


def test_practice_comes_first_and_in_order(place: str) -> None:
    with seeded(place, small_contents(3, practice=2), Clock()) as store:
        anna = welcome(store)
        assert store.progress(anna).practice_left == 2
        assert store.progress(anna).total == 3
        given = vote_all(store, anna)
        assert [one.pair.use for one in given] == ["practice"] * 2 + ["normal"] * 3
        assert [one.pair.id for one in given[:2]] == ["pair-practice0", "pair-practice1"]
        assert (store.progress(anna).done, store.progress(anna).practice_left) == (3, 0)
        ben = welcome(store, "ben")  # everybody practises; the pairs are taken
        assert [one.pair.use for one in vote_all(store, ben)] == ["practice"] * 2


def test_each_side_is_as_likely(place: str) -> None:
    with seeded(place, small_contents(60), Clock(), repeats=0, gold=0) as store:
        given = vote_all(store, welcome(store))
    left = sum(one.sides == (0, 1) for one in given)
    assert 15 < left < 45  # binomial of 60: below 1 in 10,000 outside
    assert {one.sides for one in given} == {(0, 1), (1, 0)}
    order = [int(one.pair.id.removeprefix("pair-normal")) for one in given]
    assert sorted(order) == list(range(60))
    assert order != sorted(order)


def test_repeats_come_in_a_later_sitting_with_sides_exchanged(place: str) -> None:
    clock = Clock()
    with seeded(place, small_contents(40), clock, sitting=10, gold=0) as store:
        anna = welcome(store)
        given: list[Assignment] = []
        while some := vote_all(store, anna, most=7):
            given += some
            clock.pass_minutes(1)
        by_id = {one.id: (number, one) for number, one in enumerate(given)}
        repeats = [(n, one) for n, one in enumerate(given) if one.repeat_of]
        assert 4 <= len(repeats) <= 5  # a tenth of all
        assert {one.repeat_of for _, one in repeats} <= set(by_id)
        assert len({one.repeat_of for _, one in repeats}) == len(repeats)
        sittings = {row.assignment: row.sitting for row in store.votes()}
        for number, one in repeats:
            before, first = by_id[one.repeat_of or ""]
            assert before // 10 < number // 10
            assert sittings[first.id] < sittings[one.id]
            assert one.sides == first.sides[::-1]
            assert one.pair == first.pair
            assert first.repeat_of is None
        assert store.progress(anna).done == store.progress(anna).total == len(given)


def test_of_four_every_mask_moves_when_repeated(place: str) -> None:
    clock = Clock()
    contents = small_contents(20, mode="best-of-four")
    with seeded(place, contents, clock, sitting=5, repeats=0.4, gold=0) as store:
        given = {one.id: one for one in vote_all(store, welcome(store))}
    repeats = [one for one in given.values() if one.repeat_of]
    assert len(repeats) >= 5
    for one in repeats:
        before = given[one.repeat_of or ""].sides
        assert all(a != b for a, b in zip(one.sides, before, strict=True))


def test_a_pause_begins_a_sitting(place: str) -> None:
    clock = Clock()
    with seeded(place, small_contents(10), clock, pause_min=30, repeats=0.3, gold=0) as store:
        anna = welcome(store)
        assert [one.repeat_of for one in vote_all(store, anna)] == [None] * 10
        assert store.next_assignment(anna) is None
        clock.pass_minutes(29.9)
        assert store.next_assignment(anna) is None
        clock.pass_minutes(0.2)
        later = vote_all(store, anna)
        assert len(later) == 4  # of 14 answers 0.3
        assert all(one.repeat_of for one in later)


def test_every_rater_gets_gold_pairs_by_their_share(place: str) -> None:
    contents = small_contents(40, gold=30, votes=2)
    with seeded(place, contents, Clock(), gold=0.2, repeats=0) as store:
        for name in ("anna", "ben"):
            given = vote_all(store, welcome(store, name))
            gold = [one.pair.id for one in given if one.pair.use == "gold"]
            assert len(set(gold)) == len(gold)
            assert len(given) == 40 + len(gold)
            assert 9 <= len(gold) <= 11
            assert len([one for one in given[:25] if one.pair.use == "gold"]) >= 3


def test_the_count_on_the_page_tells_no_kind_of_pair(place: str) -> None:
    """What is to come stays the same whatever is shown; it grows with a sitting."""
    kinds = Counter[str]()
    with seeded(place, small_contents(60, gold=20, practice=1), Clock(), sitting=25) as store:
        anna = welcome(store)
        before, earlier = store.progress(anna), 1
        while given := opened(store, anna):
            sitting = 1 + kinds.total() // 25
            assert store.progress(anna).done == before.done
            assert sitting > earlier or store.progress(anna).total == before.total
            total, earlier = store.progress(anna).total, sitting
            before = store.vote(anna, ballot(given)).progress
            assert before.total == total or (kinds.total() + 1) % 25 == 0
            kinds["repeat" if given.repeat_of else given.pair.use] += 1
        assert before.done == before.total == kinds.total() - kinds["practice"]
    assert kinds["normal"] == 60
    assert min(kinds["gold"], kinds["repeat"]) >= 3


def test_no_pair_has_more_raters_than_wanted(place: str) -> None:
    with seeded(place, small_contents(10, votes=2), Clock(), gold=0, repeats=0) as store:
        people = [welcome(store, name) for name in ("anna", "ben", "cleo")]
        had = Counter[str]()
        while given := [one for one in (opened(store, who) for who in people) if one]:
            for one in given:
                had[one.pair.id] += 1
                store.vote(people[one.rater - 1], ballot(one))
        assert set(had.values()) == {2}
        assert len(had) == 10


def test_pairs_with_the_fewest_raters_come_first(place: str) -> None:
    with seeded(place, small_contents(12, votes=2), Clock(), gold=0, repeats=0) as store:
        anna, ben = welcome(store), welcome(store, "ben")
        first = {one.pair.id for one in vote_all(store, anna, most=6)}
        assert not first & {one.pair.id for one in vote_all(store, ben, most=6)}


def test_an_expired_pair_is_given_to_others(place: str) -> None:
    clock = Clock()
    with seeded(place, small_contents(1), clock, lease_min=60) as store:
        anna, ben = welcome(store), welcome(store, "ben")
        late = opened(store, anna)
        assert late is not None
        assert store.next_assignment(ben) is None
        assert store.progress(ben).total == 0
        clock.pass_minutes(40)
        assert opened(store, anna) == store.assignment(anna, late.id)  # and it is kept again
        clock.pass_minutes(40)
        assert store.next_assignment(ben) is None
        clock.pass_minutes(21)
        given = opened(store, ben)
        assert given is not None
        with pytest.raises(Conflict, match="given to somebody else"):
            store.vote(anna, ballot(late))
        store.vote(ben, ballot(given))
        assert store.next_assignment(anna) is None
        assert [row.rater for row in store.votes()] == ["ben"]


def test_a_late_vote_counts_where_nobody_else_had_the_pair(place: str) -> None:
    clock = Clock()
    with seeded(place, small_contents(1), clock, lease_min=60) as store:
        anna, ben = welcome(store), welcome(store, "ben")
        late = opened(store, anna)
        assert late is not None
        clock.pass_minutes(600)
        store.vote(anna, ballot(late))
        assert store.next_assignment(ben) is None


def test_a_late_vote_does_not_count_where_the_rater_has_the_pair_anew(place: str) -> None:
    clock = Clock()
    with seeded(place, small_contents(1, practice=1), clock, lease_min=60) as store:
        anna = welcome(store)
        late = opened(store, anna)
        clock.pass_minutes(61)
        again = opened(store, anna)
        assert late is not None
        assert again is not None
        assert (again.pair, again.id == late.id) == (late.pair, False)
        with pytest.raises(Conflict):
            store.vote(anna, ballot(late))
        store.vote(anna, ballot(again))


def test_an_undone_pair_stays_with_its_rater_for_a_while(place: str) -> None:
    clock = Clock()
    with seeded(place, small_contents(1), clock, lease_min=60) as store:
        anna, ben = welcome(store), welcome(store, "ben")
        (given,) = vote_all(store, anna)
        store.undo(anna, store.last_vote(anna) or "")
        assert store.next_assignment(ben) is None
        clock.pass_minutes(61)
        assert len(vote_all(store, ben)) == 1
        with pytest.raises(Conflict):
            store.vote(anna, ballot(given))


def at_once(tasks: list[Callable[[], object]]) -> None:
    """Run all, and fail where one failed."""
    barrier = threading.Barrier(len(tasks))

    def one(task: Callable[[], object]) -> None:
        barrier.wait()
        task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        for done in [pool.submit(one, task) for task in tasks]:
            done.result()


def test_many_raters_at_once(vote_database: str) -> None:
    contents = small_contents(40, votes=2, practice=1)
    with made_store(vote_database, contents, rules=Rules(gold=0, repeats=0)) as store:
        people = [welcome(store, f"rater-{i}") for i in range(12)]
        at_once([lambda who=who: vote_all(store, who) for who in people])  # type: ignore[misc]
        rows = list(store.votes())
        assert all(row.counts for row in rows)
        normal = Counter(row.pair.id for row in rows if row.pair.use == "normal")
        assert normal == {f"pair-normal{i}": 2 for i in range(40)}
        assert len({(row.pair.id, row.rater) for row in rows}) == len(rows) == 80 + 12


def test_one_vote_that_comes_many_times_at_once(vote_database: str) -> None:
    with made_store(vote_database, small_contents(1)) as store:
        anna = welcome(store)
        given = opened(store, anna)
        assert given is not None
        told, other = ballot(given), ballot(given, "tie")
        stored: list[bool] = []
        refused: list[str] = []

        def send(vote: object) -> None:
            try:
                stored.append(store.vote(anna, vote).duplicate)  # type: ignore[arg-type]
            except Conflict as error:
                refused.append(str(error))

        at_once([lambda: send(told)] * 6 + [lambda: send(other)] * 3)
        assert sorted(stored)[0] is False
        assert sorted(stored)[1:] == [True] * (len(stored) - 1)
        assert len(stored) + len(refused) == 9
        assert len(list(store.votes())) == 1


def test_one_rater_in_two_windows_has_one_pair(vote_database: str) -> None:
    with made_store(vote_database, small_contents(20)) as store:
        anna, found = welcome(store), set[str]()
        at_once([lambda: found.add(store.next_assignment(anna).id)] * 6)  # type: ignore[union-attr]
        assert len(found) == 1
