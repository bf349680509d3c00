"""The published experiment, at a small scale."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from benchmarks.nnunet import hippocampus
from nnunet_workplace import SHORT, Workplace, needs_nnunet


@needs_nnunet
@pytest.mark.slow
def test_the_experiment_at_a_small_scale(workplace: Workplace, tmp_path: Path) -> None:
    scale = hippocampus.Scale(
        labelled=1, judge=1, validation=1, test=1, features=(0.1, 0.1), batch=(2, 1), epochs=(1, 1),
        iterations=2, align=(" ".join(SHORT), " ".join(SHORT)), methods=({}, {"short": ""}),
    )  # fmt: skip
    given: Any = {"data": workplace.made, "out": tmp_path, "seeds": [0], "scale": scale}
    hippocampus.main(**given, configurations=["3d_fullres"])
    table = (tmp_path / "results.md").read_text()
    row = r"\| 3d_fullres \| mirrored \| short \| 1 \| 0\.\d+ \| [+-]0\.\d+ \| .* \| all \|"
    assert re.search(row, table)
    assert table.count("| 3d_fullres | upright |") == 4
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()}
    (tmp_path / "results.md").unlink()
    hippocampus.main(**given, configurations=["3d_fullres"])
    assert (tmp_path / "results.md").read_text() == table
    del written[tmp_path / "results.md"]
    assert written == {path: path.stat().st_mtime_ns for path in written}
