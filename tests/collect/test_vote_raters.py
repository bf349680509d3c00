"""Raters: links that work once, sessions, and their end."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress

import pytest
from tests.collect.test_assigning import at_once

from segpref.collect import Refused, Rules, VoteStore
from segpref.types import SegprefError
from vote_studies import Clock, made_store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def votes(vote_database: str, clock: Clock) -> Iterator[VoteStore]:
    rules = Rules(link_days=2, session_days=10)
    with made_store(vote_database, clock=clock, rules=rules) as store:
        yield store


def everything(store: VoteStore) -> str:
    """All that the database holds of links and sessions."""
    with store.reading() as connection:
        return repr(
            [
                connection.exec_driver_sql(f"SELECT * FROM {one}").all()
                for one in ("link", "session")
            ]
        )


def test_a_link_lets_in_once(votes: VoteStore) -> None:
    token = votes.add_rater("anna")
    assert len(base64.urlsafe_b64decode(token + "=")) == 32  # 256 bits
    secret = votes.enter(token)
    anna = votes.rater_of(secret)
    assert anna is not None
    assert (anna.pseudonym, anna.role, anna.revoked) == ("anna", "rater", False)
    with pytest.raises(Refused, match="was used already"):
        votes.enter(token)
    assert token not in everything(votes)
    assert secret not in everything(votes)
    for other in ("", "x", token[:-1], "é" * 10_000):
        with pytest.raises(Refused, match="does not count"):
            votes.enter(other)
        assert votes.rater_of(other) is None


def test_links_and_sessions_expire(votes: VoteStore, clock: Clock) -> None:
    early, late = votes.add_rater("anna"), votes.add_rater("ben")
    clock.pass_minutes(2 * 24 * 60 - 1)
    secret = votes.enter(early)
    clock.pass_minutes(1)
    with pytest.raises(Refused, match="too old"):
        votes.enter(late)
    clock.pass_minutes(10 * 24 * 60 - 2)
    assert votes.rater_of(secret) is not None
    clock.pass_minutes(1)
    assert votes.rater_of(secret) is None


def test_another_link_voids_the_earlier_one(votes: VoteStore) -> None:
    first = votes.add_rater("anna")
    secret = votes.enter(votes.new_link("anna"))
    with pytest.raises(Refused):
        votes.enter(first)
    assert votes.enter(votes.new_link("anna")) != secret
    assert votes.rater_of(secret) is not None  # the first device stays signed in


def test_whoever_is_revoked_is_out(votes: VoteStore) -> None:
    secret = votes.enter(votes.add_rater("anna"))
    link = votes.new_link("anna")
    votes.revoke("anna")
    assert votes.rater_of(secret) is None
    with pytest.raises(Refused):
        votes.enter(link)
    with pytest.raises(SegprefError, match="anna was revoked and gets no link"):
        votes.new_link("anna")
    assert [one.revoked for one in votes.raters()] == [True]


def test_signing_out_ends_one_session(votes: VoteStore) -> None:
    first, second = votes.enter(votes.add_rater("anna")), votes.enter(votes.new_link("anna"))
    votes.leave(first)
    assert votes.rater_of(first) is None
    assert votes.rater_of(second) is not None


def test_a_link_that_comes_twice_at_once_lets_in_once(votes: VoteStore) -> None:
    token, found = votes.add_rater("anna"), list[str]()

    def come() -> None:
        with suppress(Refused):
            found.append(votes.enter(token))

    at_once([come] * 6)
    assert len(found) == 1


@pytest.mark.parametrize(
    "name", ["", " anna", "a" * 65, "a\nb", "<b>", "a/b", "\u202eanna", "-", "anna "]
)
def test_names_that_are_none_are_refused(votes: VoteStore, name: str) -> None:
    with pytest.raises(SegprefError, match="is no pseudonym"):
        votes.add_rater(name)
    assert votes.raters() == []


def test_a_name_is_given_once(votes: VoteStore) -> None:
    votes.add_rater("Dr. Åsa-2")
    with pytest.raises(SegprefError, match=r"there is a rater 'Dr\. Åsa-2' already"):
        votes.add_rater("Dr. Åsa-2")
    for used in (votes.new_link, votes.revoke):
        with pytest.raises(SegprefError, match="there is no rater 'ben'"):
            used("ben")
