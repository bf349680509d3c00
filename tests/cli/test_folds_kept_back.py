"""Of several folds those that are not better keep the base's weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segpref.training import RunFolder
from segpref.workflows import align  # noqa: F401 (so that the module is there)


@pytest.mark.parametrize(
    ("kept_back", "expected"),
    [
        (set(), {"fold_0": "fold_0/best", "fold_1": "fold_1/best"}),
        ({"fold_1"}, {"fold_0": "fold_0/best", "fold_1": "fold_1/base"}),
        ({"fold_0", "fold_1"}, None),
    ],
)
def test_folds_that_are_not_better_keep_the_bases_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_back: set[str], expected: Any
) -> None:
    import sys

    module = sys.modules["segpref.workflows.align"]

    def loaded(path: Path) -> tuple[Any, None]:
        return SimpleNamespace(network=f"{path.parent.name}/{path.stem}"), None

    def write(networks: Any, place: Path) -> Path:
        written.update(networks)
        return place

    written: dict[str, str] = {}
    monkeypatch.setattr(module, "load_model", loaded)
    runs = {name: RunFolder(tmp_path / name) for name in ("fold_0", "fold_1")}
    opened: Any = SimpleNamespace(write=write)
    place = module._written_back(opened, runs, tmp_path, kept_back)
    assert (written or None) == expected
    assert place == (None if expected is None else tmp_path / "tuned")
