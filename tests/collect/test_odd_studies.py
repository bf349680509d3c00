"""One odd value anywhere in the files of a study is a sentence, never a traceback."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tests.vote_studies import small_contents

from odd_values import ODD, changed, places
from segpref.collect import StudyFolder, StudyNote, contents_from_json, contents_to_json
from segpref.disk import Damaged, to_checked_json
from segpref.types import LabelSpace, SegprefError


def test_contents() -> None:
    whole = {"format_version": 1, **json.loads(json.dumps(asdict(small_contents(1))))}
    assert contents_from_json(to_checked_json(whole)) == contents_from_json(
        contents_to_json(small_contents(1))
    )
    refused = 0
    for place in places(whole):
        for odd in ODD:
            content = changed(whole, place, odd)
            if not isinstance(content, dict):
                continue
            try:
                contents_from_json(to_checked_json(content))
            except Damaged:
                refused += 1
    assert refused > 500


def test_notes(tmp_path: Path) -> None:
    space = LabelSpace("multi-class", ("background", "LV"))
    note = StudyNote(
        mode="pair", title="title", question="question", instructions="how", label_space=space,
        model="base", model_digest="abc", made_at="today",
    )  # fmt: skip
    whole = json.loads(json.dumps(note.to_json()))
    refused = 0
    for place in places(whole):
        for odd in ODD:
            content = changed(whole, place, odd)
            if not isinstance(content, dict):
                continue
            (tmp_path / "study.json").write_bytes(to_checked_json(content))
            try:
                StudyFolder(tmp_path)
            except SegprefError:
                refused += 1
    assert refused > 100
