"""One odd value anywhere in a folder of preferences is a sentence, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_exchange_folder import written

from odd_values import ODD, changed, places
from segpref.disk import to_checked_json
from segpref.preferences import (
    Preference,
    PreferenceFolder,
    content_id,
    save_mask,
    write_preferences,
)
from segpref.types import SegprefError


@pytest.mark.slow
def test_folders_of_preferences(tmp_path: Path) -> None:
    folder = written(tmp_path)
    about = json.loads((folder / "about.json").read_text())
    del about["digest"]
    files = {"about.json": about}
    for name in ("preferences", "ratings", "undecided"):
        file = folder / f"{name}.jsonl"
        files[file.name] = [json.loads(line) for line in file.read_text().splitlines()]
    refused = 0
    for name, whole in files.items():
        before = (folder / name).read_bytes()
        for place in places(whole):
            for odd in ODD:
                content = changed(whole, place, odd)
                if isinstance(content, dict) and name == "about.json":
                    data = to_checked_json(content)
                elif isinstance(content, list) and name != "about.json":
                    data = "".join(json.dumps(row) + "\n" for row in content).encode()
                else:
                    continue
                (folder / name).write_bytes(data)
                refused += _is_refused(folder)
        (folder / name).write_bytes(before)
    assert refused > 300


def _is_refused(folder: Path) -> bool:
    try:
        found = PreferenceFolder.open(folder)
        slate = found.slates()
        for case in found.cases:
            slate(case)
    except SegprefError:
        return True
    return False


@pytest.mark.parametrize("name", ["../../secret", "/etc/secret", "0" * 31])
def test_an_anchor_leads_to_no_other_folder(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path / "in" / "votes")
    np.save(tmp_path / "secret.npy", np.zeros((1, 2, 3), np.uint8))
    about: dict[str, Any] = json.loads((folder / "about.json").read_text())
    del about["digest"]
    about["anchors"] = {"p2": name}
    (folder / "about.json").write_bytes(to_checked_json(about))
    with pytest.raises(SegprefError, match="which is no content id"):
        PreferenceFolder.open(folder)


def test_masks_of_different_sizes(tmp_path: Path) -> None:
    masks = [np.zeros((1, 2, 3), np.uint8), np.ones((1, 4, 4), np.uint8)]
    names = tuple(map(content_id, masks))
    for name, mask in zip(names, masks, strict=True):
        save_mask(tmp_path, mask, name)
    record = Preference(case="p1", candidates=names, choice="first", source="votes")
    write_preferences(tmp_path, [record], model_digest="abc", cases=["p1"], anchors={})
    with pytest.raises(SegprefError, match="masks of different sizes"):
        PreferenceFolder.open(tmp_path).slates()("p1")
