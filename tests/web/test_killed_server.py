"""Raters vote at once while the server is killed: no acknowledged vote is lost, none counts twice."""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path

import pytest
from tests.vote_studies import small_contents
from tests.web.served_studies import made_study
from tests.web.server_process import ServerProcess
from tests.web.voters import Crowd, Voter, biased, by_choice

from segpref.collect import VoteStore
from segpref.web import open_store
from waiting import until


def voted_through_kills(
    folder: Path, database: str, *, raters: int, votes: int, kills: int, seed: int = 0
) -> Crowd:
    """Raters answer every pair once each, while the server is killed at random moments."""
    contents = small_contents(votes, votes=raters)
    study = made_study(folder / "study", contents, settings={"repeats": 0.0, "gold": 0.0})
    with open_store(study, database) as store:
        sessions = [store.enter(store.add_rater(f"rater {i}")) for i in range(raters)]
    server = ServerProcess(study.path, database)
    rng = random.Random(seed)
    # One of the moments is half-way; none is so late that all may be done.
    total = raters * votes
    moments = sorted([total // 2, *(rng.randrange(total * 9 // 10) for _ in range(kills - 1))])
    try:
        server.start()
        crowd = Crowd(
            (Voter(server.address, one, biased(i, 0.7)) for i, one in enumerate(sessions)),
        )
        crowd.start()
        for moment in moments:

            def reached(moment: int = moment) -> bool:
                crowd.check_alive()
                return crowd.acknowledged >= moment

            until(reached)
            server.kill()
            server.start()
        crowd.join()
        assert server.starts == kills + 1
        assert "Traceback" not in server.log
        # A token or a session never gets into a log.
        assert not [one for one in sessions if one in server.log]
    finally:
        server.close()
    with VoteStore(database) as store:
        check_nothing_is_lost(store, crowd, raters, votes)
    return crowd


def check_nothing_is_lost(store: VoteStore, crowd: Crowd, raters: int, votes: int) -> None:
    rows = list(store.votes())
    stored = Counter(row.uuid for row in rows)
    told = {body["uuid"]: body for voter in crowd.voters for body in voter.acknowledged}
    # Who gets no answer asks again: everything that is stored was acknowledged in the end.
    assert stored == Counter(told.keys())
    assert Counter(row.choice for row in rows) == by_choice(crowd)
    for row in rows:
        assert (row.assignment, row.choice) == (
            told[row.uuid]["assignment"],
            told[row.uuid]["choice"],
        )
        assert row.counts
    once = Counter((row.rater, row.pair.id) for row in rows)
    assert set(once.values()) == {1}
    assert len(rows) == raters * votes
    assert all(voter.conflicts == 0 for voter in crowd.voters)


@pytest.mark.slow
def test_no_vote_is_lost_or_doubled_when_the_server_is_killed(
    tmp_path: Path, vote_database: str
) -> None:
    crowd = voted_through_kills(tmp_path, vote_database, raters=5, votes=12, kills=2)
    assert sum(voter.interrupted for voter in crowd.voters) > 0


@pytest.mark.long
def test_fifty_raters_and_eleven_kills(tmp_path: Path, vote_database: str) -> None:
    voted_through_kills(tmp_path, vote_database, raters=50, votes=100, kills=11)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_asked_to_stop_answers_first(tmp_path: Path, number: int) -> None:
    database = str(tmp_path / "votes.sqlite")
    study = made_study(tmp_path / "study", small_contents(30))
    with open_store(study, database) as store:
        session = store.enter(store.add_rater("anna"))
    server = ServerProcess(study.path, database)
    try:
        server.start()
        crowd = Crowd([Voter(server.address, session)])
        crowd.start()
        until(lambda: crowd.acknowledged >= 10)
        server.stop(number)
        if number == signal.SIGINT:  # the other one ends Python itself, unless a program takes it
            assert not (study.path / "served").exists()
        server.start()
        crowd.join()
    finally:
        server.close()
    with VoteStore(database) as store:
        assert len(list(store.votes())) == 30
