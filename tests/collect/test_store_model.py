"""The vote store against a model of it: whatever comes in whatever order, both hold the same votes."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.vote_studies import Clock, made_store, small_contents, welcome

from segpref.collect import Conflict, NotYours, Rater, Refused, Rules, VoteIn, VoteStore
from segpref.types import SegprefError

LEASE = timedelta(minutes=10)
RULES = Rules(repeats=0.4, gold=0, sitting=2, lease_min=10, pause_min=30)
NAMES = ("anna", "ben", "cleo")
PATIENTS = ("patient-0", "patient-1")
ANY = st.integers(0, 99)


@dataclass
class Given:
    """What the model knows of an assignment."""

    id: str
    rater: int
    pair: str
    patient: str
    repeat_of: str | None
    expires: datetime
    opened: bool = False
    answered: bool = False


@dataclass(frozen=True)
class Row:
    """What the model knows of a stored vote; ``told`` is what was sent, None of an undo."""

    uuid: str
    assignment: str
    rater: int
    choice: str
    supersedes: str | None
    told: VoteIn | None


class StoreAndModel(RuleBasedStateMachine):
    """Two connections to one file, as of a server and a command, and what should be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="votes-"))
        self.clock = Clock()
        self.raters: list[Rater] = []
        self.revoked: set[int] = set()
        self.given: dict[str, Given] = {}
        self.rows: list[Row] = []
        self.files = 0

    @initialize()
    def make(self) -> None:
        self.contents = small_contents(3, patients=2)
        place = str(self.folder / "0.sqlite")
        made_store(place, self.contents, rules=RULES).close()
        self.open(place)

    def open(self, place: str) -> None:
        self.place = place
        self.stores = [VoteStore(place, clock=self.clock) for _ in range(2)]

    def store(self, which: int) -> VoteStore:
        return self.stores[which % 2]

    def teardown(self) -> None:
        for store in getattr(self, "stores", ()):
            store.close()
        shutil.rmtree(self.folder)

    # -- the model -------------------------------------------------------------------------------------

    def held(self, one: Given) -> bool:
        return one.answered or one.expires > self.clock.now

    def last_row(self, assignment: str) -> Row | None:
        return next((row for row in reversed(self.rows) if row.assignment == assignment), None)

    def counting(self) -> list[Row]:
        gone = {row.supersedes for row in self.rows}
        return [row for row in self.rows if row.choice != "undo" and row.uuid not in gone]

    def fresh(self, rater: int) -> set[str]:
        """Pairs that need raters and that this one does not have."""
        held = [one for one in self.given.values() if self.held(one)]
        mine = {one.pair for one in held if one.rater == rater}
        raters = [one.pair for one in held if one.repeat_of is None]
        return {
            pair.id
            for pair in self.contents.pairs
            if pair.id not in mine and raters.count(pair.id) < pair.votes
        }

    def went_to_others(self, one: Given) -> bool:
        if one.expires > self.clock.now:
            return False
        others = {
            other.rater
            for other in self.given.values()
            if (other.pair, other.repeat_of) == (one.pair, one.repeat_of)
            and other.id != one.id
            and self.held(other)
        }
        return one.rater in others or (one.repeat_of is None and len(others) >= 1)

    def refusal(self, rater: int, one: Given) -> type[SegprefError] | None:
        """Why a vote of the rater on an assignment is not stored."""
        if rater in self.revoked:
            return Refused
        if one.rater != rater:
            return NotYours
        if one.answered or not one.opened or self.went_to_others(one):
            return Conflict
        return None

    # -- what happens ----------------------------------------------------------------------------------

    @precondition(lambda self: len(self.raters) < len(NAMES))
    @rule(which=ANY)
    def come_in(self, which: int) -> None:
        self.raters.append(welcome(self.store(which), NAMES[len(self.raters)]))

    @precondition(lambda self: self.raters)
    @rule(who=ANY, which=ANY, looks=st.booleans())
    def ask(self, who: int, which: int, looks: bool) -> None:
        rater, store = self.raters[who % len(self.raters)], self.store(which)
        if rater.id in self.revoked:
            with pytest.raises(Refused):
                store.next_assignment(rater)
            return
        mine = [one for one in self.given.values() if one.rater == rater.id]
        open = [one for one in mine if not one.answered and one.expires > self.clock.now]
        fresh = self.fresh(rater.id)
        asked = store.next_assignment(rater)
        if open:
            assert asked is not None
            assert asked.id == open[0].id
        elif asked is None:
            assert not fresh
        else:
            assert asked.id not in self.given
            if asked.repeat_of is None:
                assert asked.pair.id in fresh
            else:
                first = self.given[asked.repeat_of]
                assert (first.rater, first.pair, first.answered) == (rater.id, asked.pair.id, True)
                assert not [one for one in mine if one.repeat_of == first.id and self.held(one)]
            self.given[asked.id] = Given(
                asked.id,
                rater.id,
                asked.pair.id,
                asked.item.patient,
                asked.repeat_of,
                self.clock.now,
            )
        if asked is not None:
            one = self.given[asked.id]
            one.expires = self.clock.now + LEASE
            if looks:
                store.mark_opened(rater, one.id, "image")
                store.mark_opened(rater, one.id, "masks")
                one.opened = True

    @precondition(lambda self: self.given)
    @rule(who=ANY, what=ANY, which=ANY, choice=st.sampled_from(["left", "right", "tie"]))
    def vote(self, who: int, what: int, which: int, choice: str) -> None:
        one = list(self.given.values())[what % len(self.given)]
        # Mostly the rater whom it was given to.
        id = one.rater if who % 4 else self.raters[who % len(self.raters)].id
        rater = next(rater for rater in self.raters if rater.id == id)
        told = VoteIn(uuid=str(uuid.uuid4()), assignment=one.id, choice=choice)  # type: ignore[arg-type]
        if refused := self.refusal(id, one):
            with pytest.raises(refused):
                self.store(which).vote(rater, told)
            return
        assert not self.store(which).vote(rater, told).duplicate
        last = self.last_row(one.id)
        self.rows.append(
            Row(told.uuid, one.id, id, choice, None if last is None else last.uuid, told)
        )
        one.answered, one.expires = True, self.clock.now + LEASE

    @precondition(lambda self: any(row.told for row in self.rows))
    @rule(what=ANY, which=ANY, changed=st.booleans())
    def send_again(self, what: int, which: int, changed: bool) -> None:
        sent = [row for row in self.rows if row.told is not None]
        row = sent[what % len(sent)]
        rater = next(rater for rater in self.raters if rater.id == row.rater)
        assert row.told is not None
        if rater.id in self.revoked:
            with pytest.raises(Refused):
                self.store(which).vote(rater, row.told)
        elif changed:
            with pytest.raises(Conflict):
                self.store(which).vote(rater, replace(row.told, choice="both-bad"))
        else:
            assert self.store(which).vote(rater, row.told).duplicate

    @precondition(lambda self: self.raters)
    @rule(who=ANY, which=ANY, times=st.integers(1, 2))
    def undo(self, who: int, which: int, times: int) -> None:
        rater, store = self.raters[who % len(self.raters)], self.store(which)
        mine = [row for row in self.counting() if row.rater == rater.id]
        own = str(uuid.uuid4())
        if rater.id in self.revoked or not mine:
            with pytest.raises(Refused if rater.id in self.revoked else NotYours):
                store.undo(rater, own)
            return
        one = self.given[mine[-1].assignment]
        for _ in range(times):  # sent twice it is the same as once
            assert store.undo(rater, own).id == one.id
        self.rows.append(Row(own, one.id, rater.id, "undo", mine[-1].uuid, None))
        one.answered, one.expires = False, self.clock.now + LEASE

    @rule(minutes=st.sampled_from([1, 9, 11, 31]))
    def time_passes(self, minutes: int) -> None:
        self.clock.pass_minutes(minutes)

    @precondition(lambda self: len(self.raters) - len(self.revoked) > 1)
    @rule(who=ANY, which=ANY)
    def revoke(self, who: int, which: int) -> None:
        rater = self.raters[who % len(self.raters)]
        self.store(which).revoke(rater.pseudonym)
        self.revoked.add(rater.id)
        for one in self.given.values():
            if one.rater == rater.id and not one.answered:
                one.expires = min(one.expires, self.clock.now)

    @rule(patient=st.sampled_from(PATIENTS), which=ANY, now=ANY)
    def erase(self, patient: str, which: int, now: int) -> None:
        if now % 8:  # seldom
            return
        if patient not in {one.patient for one in self.contents.items}:
            with pytest.raises(SegprefError, match="there is no patient"):
                self.store(which).erase(patient, "asked to")
            return
        gone = {id for id, one in self.given.items() if one.patient == patient}
        found = self.store(which).erase(patient, "asked to")
        assert found.votes == sum(row.assignment in gone for row in self.rows)
        self.rows = [row for row in self.rows if row.assignment not in gone]
        self.given = {id: one for id, one in self.given.items() if id not in gone}
        self.contents = self.store(which).contents()
        assert patient not in {one.patient for one in self.contents.items}

    @rule(which=ANY, now=ANY)
    def back_up_and_go_on_with_the_backup(self, which: int, now: int) -> None:
        if now % 4:  # seldom
            return
        self.files += 1
        backup, place = (
            self.folder / f"{self.files}.backup",
            str(self.folder / f"{self.files}.sqlite"),
        )
        self.store(which).backup(backup)
        VoteStore.restore(backup, place).close()
        for store in self.stores:
            store.close()
        self.open(place)

    # -- what always holds -----------------------------------------------------------------------------

    @invariant()
    def both_hold_the_same_votes(self) -> None:
        if not hasattr(self, "stores"):
            return
        counting = {row.uuid for row in self.counting()}
        names: dict[int, Any] = {rater.id: rater.pseudonym for rater in self.raters}
        expected = [
            (row.uuid, row.assignment, names[row.rater], row.choice, row.uuid in counting)
            for row in self.rows
        ]
        found = list(self.store(0).votes())
        assert [(v.uuid, v.assignment, v.rater, v.choice, v.counts) for v in found] == expected
        assert [v.id for v in found] == sorted({v.id for v in found})

    @invariant()
    def nothing_counts_twice(self) -> None:
        counting = [self.given[row.assignment] for row in self.counting()]
        assert len({one.id for one in counting}) == len(counting)
        firsts = [(one.pair, one.rater) for one in counting if one.repeat_of is None]
        assert len(set(firsts)) == len(firsts)
        pairs = [pair for pair, _ in firsts]
        assert all(pairs.count(pair) == 1 for pair in pairs)

    @invariant()
    def progress_counts_what_counts(self) -> None:
        done = [self.given[row.assignment].rater for row in self.counting()]
        for rater in self.raters:
            assert self.store(1).progress(rater).done == done.count(rater.id)


@pytest.mark.slow
class TestStoreAndModel(StoreAndModel.TestCase):
    settings = settings(max_examples=20, stateful_step_count=30)


def test_the_model_refuses_what_the_store_should(tmp_path: Path) -> None:
    """Votes that a trigger is not there to keep are missed."""
    machine = StoreAndModel()
    try:
        machine.make()
        machine.come_in(0)
        machine.ask(0, 0, looks=True)
        machine.vote(1, 0, 0, "left")
        machine.both_hold_the_same_votes()
        with machine.store(1).writing() as connection:
            connection.exec_driver_sql("DROP TRIGGER vote_is_kept")
            connection.exec_driver_sql("DELETE FROM vote")
        with pytest.raises(AssertionError):
            machine.both_hold_the_same_votes()
    finally:
        machine.teardown()
