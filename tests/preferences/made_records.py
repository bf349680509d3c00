"""Preferences by hand and by chance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from segpref.preferences import Preference

A, B, C = ("a" * 32, "b" * 32, "c" * 32)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def said(choice: str = "first", candidates: tuple[str, ...] = (A, B), **more: Any) -> Preference:
    settings = {"case": "p1/s000", "source": "votes", **more}
    return Preference(candidates=candidates, choice=choice, **settings)


_IDS = st.text("0123456789abcdef", min_size=32, max_size=32)
_TEXT = st.text(min_size=1, max_size=8)
_ZONES = st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
_TIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=_ZONES)
_ABOVE = st.floats(0, exclude_min=True, allow_infinity=False)
_SHARED = {
    "case": _TEXT,
    "source": _TEXT,
    "field": st.none() | st.integers(0, 9),
    "structure": st.none() | _TEXT,
    "confidence": st.none() | st.floats(0, 1, exclude_min=True),
    "rater": st.none() | _TEXT,
    "time": st.none() | _TIMES,
}
_TWO = st.lists(_IDS, min_size=2, max_size=2, unique=True).map(tuple)
_ORDER = st.builds(
    Preference, candidates=_TWO, choice=st.sampled_from(["first", "second"]),
    strength=st.none() | _ABOVE, **_SHARED,
)  # fmt: skip
_NEITHER = st.builds(
    Preference, candidates=_TWO, choice=st.sampled_from(["tie", "both-bad", "cant-tell"]), **_SHARED
)
_SINGLE = st.builds(
    Preference, candidates=st.tuples(_IDS), choice=st.sampled_from(["accept", "reject"]), **_SHARED
)
RECORDS = st.one_of(_ORDER, _NEITHER, _SINGLE)
