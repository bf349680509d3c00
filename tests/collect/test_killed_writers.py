"""Processes that vote and are killed at any moment: no acknowledged vote is lost, none counts twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from tests.vote_studies import made_store, small_contents, welcome

WRITER = """
import sys
from segpref.collect import VoteStore
from tests.vote_studies import ballot, opened

place, secret, acknowledged = sys.argv[1:]
with VoteStore(place) as store, open(acknowledged, "a", buffering=1) as told:
    rater = store.rater_of(secret)
    print("ready", flush=True)
    input()
    while given := opened(store, rater):
        vote = ballot(given)
        told.write(f"sent {vote.uuid}\\n")
        store.vote(rater, vote)
        told.write(f"stored {vote.uuid}\\n")
        print(".", end="", flush=True)
"""
RATERS = 3
PAIRS = 60
TIMES = 4


@pytest.mark.slow
def test_no_acknowledged_vote_is_lost(vote_database: str, tmp_path: Path) -> None:
    random = Random(0)
    acknowledged = tmp_path / "acknowledged"
    acknowledged.touch()
    with made_store(vote_database, small_contents(PAIRS, votes=2)) as store:
        secrets = [store.enter(store.add_rater(f"rater-{i}")) for i in range(RATERS)]
        for _ in range(TIMES):
            running = all_go([started(vote_database, one, acknowledged) for one in secrets])
            seen = random.choice(running)
            assert seen.stdout is not None
            # Some votes later all are killed, wherever they are.
            if not seen.stdout.read(random.randrange(1, 6)):
                # The others were faster, and answered all.
                assert seen.wait() == 0, seen.communicate()[1]
            for process in running:
                process.send_signal(signal.SIGKILL)
            for process in running:
                process.communicate()
        for process in all_go([started(vote_database, one, acknowledged) for one in secrets]):
            _, problems = process.communicate()
            assert process.returncode == 0, problems
        lines = [line.split() for line in acknowledged.read_text().splitlines()]
        rows = list(store.votes())
    sent = {uuid for word, uuid in lines if word == "sent"}
    stored = [uuid for word, uuid in lines if word == "stored"]
    found = Counter(row.uuid for row in rows)
    assert set(stored) <= set(found) <= sent
    assert set(found.values()) == {1}
    assert all(row.counts for row in rows)
    # Each pair has as many raters as it needs, each of whom answered once, whoever was killed.
    answers = Counter((row.pair.id, row.rater) for row in rows if row.repeat_of is None)
    assert set(answers.values()) == {1}
    raters = Counter(pair for pair, _ in answers)
    assert set(raters.values()) == {2}
    assert len(raters) == PAIRS


def started(place: str, secret: str, acknowledged: Path) -> subprocess.Popen[str]:
    """A process that is about to vote."""
    here = Path(__file__).parents[2]
    paths = [str(here / "src"), str(here), str(here / "tests"), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, place, secret, str(acknowledged)], text=True, cwd=here,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip


def all_go(processes: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """Let processes begin once all of them are ready."""
    for one in processes:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    return processes


def test_a_writer_that_was_killed_leaves_its_pair(tmp_path: Path) -> None:
    with made_store(str(tmp_path / "votes.sqlite"), small_contents(2)) as store:
        anna = welcome(store)
        given = store.next_assignment(anna)
        assert given is not None
        assert store.next_assignment(anna) == given
