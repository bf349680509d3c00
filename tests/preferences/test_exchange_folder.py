"""Preferences in files that ``datasets`` reads, and what comes back from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import NOON, RECORDS, said

from segpref.preferences import PreferenceFolder, content_id, save_mask, write_preferences
from segpref.types import SegprefError

FORMS = pytest.mark.parametrize("form", ["jsonl", "parquet"])
MASKS = [np.full((1, 2, 3), value, np.uint8) for value in range(3)]
A, B, C = map(content_id, MASKS)
TOLD = [
    said("second", (A, B), case="p1/s000", strength=0.25, field=0, structure="LV", confidence=0.5),
    said("accept", (C,), case="p2", rater="anna", time=NOON),
    said("tie", (B, C), case="p2", rater="anna", time=NOON),
    said("first", (A, B), case="p2", rater="anna", time=NOON),
    said("cant-tell", (A, C), case="p2"),
    said("reject", (A,), case="p2"),
]


def written(folder: Path, form: Any = "jsonl", records: Any = TOLD) -> Path:
    for name, mask in zip((A, B, C), MASKS, strict=True):
        save_mask(folder, mask, name)
    about = {"model_digest": "abc", "cases": ["p2", "p1/s000"], "anchors": {"p2": C}}
    write_preferences(folder, records, form=form, model="base", **about)
    return folder


@FORMS
def test_what_was_written_comes_back(tmp_path: Path, form: str) -> None:
    folder = PreferenceFolder.open(written(tmp_path, form))
    assert folder.records == TOLD
    assert (folder.cases, folder.model_digest) == (("p2", "p1/s000"), "abc")
    slate = folder.slates()
    assert [content_id(mask) for mask in slate("p2").masks] == [C, B, A]
    # The anchor of this case is not known: an empty mask stands for it.
    assert [content_id(mask) for mask in slate("p1/s000").masks] == [A, A, B]


@given(records=st.lists(RECORDS, max_size=8))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@FORMS
def test_any_records_come_back(tmp_path_factory: Any, form: str, records: Any) -> None:
    folder = tmp_path_factory.mktemp("any")
    write_preferences(folder, records, model_digest="", cases=[], anchors={}, form=form)
    assert PreferenceFolder.open(folder).records == records


@FORMS
def test_datasets_reads_them_with_the_columns_of_trl(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    folder = written(tmp_path / "votes", form)
    loaded = {}
    for name in ("preferences", "ratings", "undecided"):
        file, kind = folder / f"{name}.{form}", "json" if form == "jsonl" else "parquet"
        loaded[name] = datasets.load_dataset(
            kind, data_files=str(file), split="train", cache_dir=str(tmp_path / "cache")
        )
    assert {"prompt", "chosen", "rejected", "margin"} <= set(loaded["preferences"].column_names)
    assert {"prompt", "completion", "label"} <= set(loaded["ratings"].column_names)
    first = loaded["preferences"][0]
    assert (first["prompt"], first["margin"]) == ("p1/s000", 0.25)
    np.testing.assert_array_equal(np.load(folder / first["chosen"]), MASKS[1])
    np.testing.assert_array_equal(np.load(folder / first["rejected"]), MASKS[0])
    assert [row["label"] for row in loaded["ratings"]] == [True, False]
    # And back: the rows as datasets writes them.
    again = written(tmp_path / "again", form)
    for name, rows in loaded.items():
        target = str(again / f"{name}.{form}")
        rows.to_json(target) if form == "jsonl" else rows.to_parquet(target)
    assert PreferenceFolder.open(again).records == TOLD


def test_rows_of_trl_alone_are_enough(tmp_path: Path) -> None:
    folder = written(tmp_path)
    row = {"prompt": "p2", "chosen": f"masks/{A}.npy", "rejected": f"masks/{B}.npy"}
    (folder / "preferences.jsonl").write_text(json.dumps(row))
    for name in ("ratings", "undecided"):
        (folder / f"{name}.jsonl").unlink()
    assert PreferenceFolder.open(folder).records == [said("first", (A, B), case="p2")]


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    def refused(name: str, content: str, reason: str) -> None:
        folder = written(tmp_path / str(len(list(tmp_path.iterdir()))))
        (folder / name).write_text(content)
        with pytest.raises(SegprefError, match=reason):
            PreferenceFolder.open(folder).slates()("p2")

    refused("about.json", "{}", "about.json is not what was written")
    refused("preferences.jsonl", "{", "line 1")
    refused("preferences.jsonl", "{}", "line 1 has no prompt")
    refused("preferences.jsonl", '{"prompt": "p", "chosen": 1, "rejected": 2}', "named by its path")
    refused("preferences.jsonl", '{"prompt": "p", "picked": "x"}', "lacks TRL's columns")
    refused(
        "preferences.jsonl", '{"prompt": "p", "chosen": "x", "rejected": "y"}', "32 hexadecimal"
    )
    refused("preferences.parquet", "x", "remove the one that is not meant")
    refused(f"masks/{A}.npy", "x", "can't be read")
    with pytest.raises(SegprefError, match=r"about\.json"):
        PreferenceFolder.open(tmp_path / "nowhere")
