"""The store of preferences: nothing that was acknowledged is lost, whatever happens to writers."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import example, given
from hypothesis import strategies as st
from made_records import NOON, RECORDS, A, B, C, said

from segpref.preferences import (
    Preference,
    PreferenceFile,
    PreferenceStore,
    Where,
    distinct,
    latest,
)
from segpref.types import SegprefError


def test_records_come_back_in_their_order(tmp_path: Path) -> None:
    store = PreferenceFile(tmp_path / "new" / "votes.jsonl")
    assert isinstance(store, PreferenceStore)
    assert list(store.read()) == []
    records = [said(), said("tie"), said("accept", (C,), rater="Dr. Ω\u2028", time=NOON)]
    store.append(records[:1])
    store.append([])
    store.append(records[1:])
    assert list(store.read()) == list(PreferenceFile(store.path).read()) == records
    lines = store.path.read_text().splitlines()
    assert [json.loads(line)["choice"] for line in lines] == ["first", "tie", "accept"]


@given(st.lists(RECORDS, min_size=1, max_size=3), RECORDS, st.data())
@example([said()], said("tie"), None)
def test_a_file_that_is_cut_at_any_byte_is_recovered(
    before: Sequence[Preference], after: Preference, data: st.DataObject | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = PreferenceFile(Path(folder) / "votes.jsonl")
        for record in before:
            store.append([record])
        whole = store.path.read_bytes()
        cut = data.draw(st.integers(0, len(whole))) if data else len(whole) - 5
        os.truncate(store.path, cut)
        # A record without the end of its line is whole all the same.
        ends = [n for n in range(1, len(whole) + 1) if whole[n - 1 : n] == b"\n"]
        left = [record for record, end in zip(before, ends, strict=True) if end - 1 <= cut]
        assert list(store.read()) == left
        store.append([after])
        assert list(store.read()) == [*left, after]
        lost = whole[:cut].rpartition(b"\n")[2]
        aside = Path(folder) / "votes.jsonl.half-written"
        if lost and cut + 1 not in ends:
            assert aside.read_bytes() == lost + b"\n"
        else:
            assert not aside.exists()


def test_a_half_written_line_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = PreferenceFile(tmp_path / "votes.jsonl")
    store.append([said()])
    with store.path.open("ab") as file:
        file.write(b'{"case": "p' + b"\0" * 100_000)
    with caplog.at_level(logging.WARNING):
        assert list(store.read()) == [said()]
        assert "incomplete and is left out" in caplog.text
        store.append([said("tie")])
    assert "is now in votes.jsonl.half-written" in caplog.text
    assert list(store.read()) == [said(), said("tie")]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"case": "p\n', "line 2 is not valid JSON"),
        (b"\xff\n", "line 2 is not UTF-8 text"),
        (b"[" * 100_000 + b"\n", "line 2 is not valid JSON"),
        (b'{"case": "p1"}\n', "line 2 can't be used"),
    ],
)
def test_a_line_that_is_no_preference_is_named(tmp_path: Path, line: bytes, sentence: str) -> None:
    store = PreferenceFile(tmp_path / "votes.jsonl")
    store.append([said()])
    with store.path.open("ab") as file:
        file.write(line)
    store.append([said()])
    with pytest.raises(SegprefError, match=sentence) as caught:
        list(store.read())
    assert str(store.path) in str(caught.value)
    assert "correct" in str(caught.value)


def _vote(path: Path, rater: str, count: int) -> None:
    store = PreferenceFile(path)
    for number in range(count):
        store.append([said(rater=rater, case=f"p{number}"), said("tie", rater=rater)])


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_vote, args=(path, f"r{n}", 20)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    records = list(PreferenceFile(path).read())
    assert len(records) == 3 * 40
    for number in range(3):
        own = [r for r in records if r.rater == f"r{number}" and r.choice == "first"]
        assert [r.case for r in own] == [f"p{n}" for n in range(20)]


def test_a_writer_that_does_not_end_is_named(tmp_path: Path) -> None:
    store = PreferenceFile(tmp_path / "votes.jsonl", patience_s=0.0)
    with FileLock(tmp_path / ".votes.jsonl.lock"), pytest.raises(SegprefError) as caught:
        store.append([said()])
    assert "another process has been writing" in str(caught.value)
    assert not store.path.exists()


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    store = PreferenceFile(tmp_path / "votes.jsonl")
    store.append([said()])
    before = store.path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if failing == "fsync":
        monkeypatch.setattr("segpref.preferences.store.os.fsync", full)
    else:
        monkeypatch.setattr("segpref.preferences.store._opened", full)
    with pytest.raises(SegprefError, match="free some space on that disk"):
        store.append([said("tie")])
    assert store.path.read_bytes() == before
    monkeypatch.undo()
    store.append([said("tie")])
    assert list(store.read()) == [said(), said("tie")]


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    for action in (lambda s: s.append([said()]), lambda s: list(s.read())):
        with pytest.raises(SegprefError, match="is a folder, not a file"):
            action(PreferenceFile(tmp_path))


def test_what_is_asked_for(tmp_path: Path) -> None:
    store = PreferenceFile(tmp_path / "votes.jsonl")
    old, new = said(rater="a", time=NOON), said(rater="b", time=NOON + timedelta(days=1), case="p2")
    judged = said(source="oracle")
    store.append([old, new, judged])
    for where, found in (
        (Where(cases=["p2"]), [new]),
        (Where(sources=["votes"]), [old, new]),
        (Where(raters=["a", "b"], since=NOON + timedelta(hours=1)), [new]),
        (Where(raters=[]), []),
        (Where(), [old, new, judged]),
    ):
        assert list(store.read(where)) == found


def test_duplicates_and_changed_minds() -> None:
    first, changed = said("first", rater="a"), said("first", (B, A), rater="a")
    other = said("tie", rater="b")
    assert list(distinct([first, other, first, changed, other])) == [first, other, changed]
    assert latest([first, other, changed]) == [other, changed]
    assert latest([first, replace(changed, structure="LV")]) == [
        first, replace(changed, structure="LV"),
    ]  # fmt: skip
