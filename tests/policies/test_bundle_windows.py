"""The windows that a bundle's inferer slides become the patch of the preparation, or are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_bundle import CONFIG, write

from segpref.data import Preparation
from segpref.policies import open_model
from segpref.types import SegprefError

SLICES = Preparation(dims=2, normalise="z-score")
SLIDING = {"_target_": "SlidingWindowInferer", "overlap": 0.25}
CODE = "$[8 * 2, 16]"


def bundle(root: Path, roi: Any, **parts: Any) -> Path:
    return write(root, {**CONFIG, "inferer": {**SLIDING, "roi_size": roi}, **parts})


def patch(root: Path, trust: bool = False, **changes: Any) -> tuple[int, ...] | None:
    preparation = Preparation(**{"dims": 2, **changes})
    return open_model(
        root, trust=trust, labelled=[], preparation=preparation
    ).card.preparation.patch


@pytest.mark.parametrize(
    ("roi", "expected"),
    [
        ([16, 16], (16, 16)),
        (16, (16, 16)),
        (["@side", 16], (16, 16)),
        ("@side", (16, 16)),
        (-1, None),
        ([-1, -1], None),
        ([None, 0], None),
        (None, None),
    ],
)
def test_windows_that_are_written_down(tmp_path: Path, roi: Any, expected: Any) -> None:
    assert patch(bundle(tmp_path / "b", roi, side=16)) == expected


@pytest.mark.parametrize("inferer", [None, {"_target_": "SimpleInferer"}])
def test_no_windows_are_whole_images(tmp_path: Path, inferer: Any) -> None:
    assert patch(write(tmp_path / "b", {**CONFIG, "inferer": inferer})) is None


def test_an_inferer_by_reference(tmp_path: Path) -> None:
    config = {**CONFIG, "inferer": "@other", "other": {**SLIDING, "roi_size": 16}}
    assert patch(write(tmp_path / "b", config)) == (16, 16)


@pytest.mark.parametrize("roi", [[16, -1], CODE, ["$16", 16], [16, 16, 16], "@missing", [1.5, 2]])
def test_windows_that_can_not_be_told_are_asked_for(tmp_path: Path, roi: Any) -> None:
    root = bundle(tmp_path / "b", roi)
    with pytest.raises(SegprefError, match=r"b slides windows of .*: give --preparation\.patch"):
        patch(root)
    assert patch(root, patch=(8, 8)) == (8, 8)
    assert patch(root, size=(32, 32)) is None


def test_code_tells_where_it_is_trusted(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"$__import__('pathlib').Path({str(mark)!r}).write_text('run') and [16, 8]"
    root = bundle(tmp_path / "b", code)
    with pytest.raises(SegprefError, match="--trust runs it"):
        patch(root)
    assert not mark.exists()
    assert patch(root, trust=True) == (16, 8)
    assert mark.exists()
    made = "$__import__('monai').inferers.SlidingWindowInferer(roi_size=(16, 24))"
    assert patch(write(tmp_path / "c", {**CONFIG, "inferer": made}), trust=True) == (16, 24)
    broken = bundle(tmp_path / "d", "$nothing_of_this_name")
    with pytest.raises(SegprefError, match=r"give --preparation\.patch"):
        patch(broken, trust=True)
