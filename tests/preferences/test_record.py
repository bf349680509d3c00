"""Preferences as records: what they may say, and that JSON gives back what was said."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from made_records import NOON, RECORDS, A, B, said

from segpref.preferences import Preference
from segpref.types import SegprefError


@given(RECORDS)
def test_json_gives_back_every_record(record: Preference) -> None:
    text = json.dumps(record.to_json(), allow_nan=False)
    again = Preference.from_json(json.loads(text))
    assert again == record
    assert again.question == record.question


def test_the_better_one_whichever_side_it_was_shown_on() -> None:
    first, second = said("first"), said("second", (B, A))
    assert (first.winner, first.loser) == (second.winner, second.loser) == (A, B)
    assert first.question == second.question
    for choice in ("tie", "both-bad", "cant-tell"):
        assert said(choice).winner is said(choice).loser is None
    assert said("accept", (A,)).winner is None


def test_what_was_not_said_is_not_written() -> None:
    assert said("tie").to_json() == {
        "case": "p1/s000", "candidates": [A, B], "choice": "tie", "source": "votes",
    }  # fmt: skip
    assert said(time=NOON).to_json()["time"] == "2026-01-31T12:00:00+00:00"
    assert said(strength=np.float32(0.5)).to_json()["strength"] == 0.5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"case": ""}, "case is a text"),
        ({"source": 3}, "source is a text"),
        ({"rater": ""}, "rater is a text"),
        ({"choice": "better"}, "choice is one of first, second"),
        ({"choice": "accept"}, "about 1 candidate, and 2"),
        ({"candidates": (A,)}, "about 2 candidates, and 1"),
        ({"candidates": (A, A)}, "one and the same mask"),
        ({"candidates": (A, "../b")}, "32 hexadecimal digits"),
        ({"candidates": [A, B]}, "content ids"),
        ({"field": -1}, "field is a whole number"),
        ({"field": True}, "field is a whole number"),
        ({"strength": 0.0}, "strength is a number above 0"),
        ({"strength": float("nan")}, "strength is a number above 0"),
        ({"strength": float("inf")}, "strength is a number above 0"),
        ({"strength": 10**400}, "strength is a number above 0"),
        ({"strength": True}, "strength is a number above 0"),
        ({"strength": 0.5, "choice": "tie"}, "leave it out, or give confidence"),
        ({"confidence": 1.5}, "at most 1"),
        ({"time": datetime(2026, 1, 31)}, "needs a time zone"),
        ({"time": "2026-01-31"}, "needs a time zone"),
    ],
)
def test_what_means_nothing_is_refused(changes: dict[str, Any], sentence: str) -> None:
    whole = {"case": "p1", "candidates": (A, B), "choice": "first", "source": "votes"}
    with pytest.raises(SegprefError, match=sentence):
        Preference(**{**whole, **changes})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1], "is a JSON object"),
        ({"case": "p1"}, "lacks candidates"),
        ({**said().to_json(), "vote": 1}, "has no 'vote'"),
        ({**said().to_json(), "time": "noon"}, "time has the form"),
        ({**said().to_json(), "time": "2026-01-31T12:00:00"}, "needs a time zone"),
        ({**said().to_json(), "candidates": A}, "content ids"),
        ({**said().to_json(), "case": ["p1"] * 1000}, "case is a text"),
    ],
)
def test_what_is_read_and_means_nothing_names_its_place(content: Any, sentence: str) -> None:
    with pytest.raises(SegprefError, match=sentence) as caught:
        Preference.from_json(content, "votes.jsonl, line 3")
    assert str(caught.value).startswith("votes.jsonl, line 3 can't be used")
    assert len(str(caught.value)) < 200
