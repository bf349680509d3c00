"""An alignment whose predictions the workers of a Ray cluster make is the alignment of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray_nodes
from safetensors.torch import load_file
from test_predict import folder

import own_process
from segpref import align
from segpref.cluster import RayPool
from segpref.types import SegprefError

pytestmark = pytest.mark.slow


def entries(cache: Path) -> set[str]:
    """Of a cache, by what they depend on."""
    return {path.parent.name for path in cache.rglob("key.json")}


@pytest.mark.parametrize("refresh", [False, pytest.param(True, marks=pytest.mark.long)])
def test_weights_and_figures_are_those_of_one_process(
    two_nodes: str,
    tmp_path: Path,
    heart_folder: Path,
    heart_base: Path,
    heart_judge: Path,
    refresh: bool,
) -> None:
    given = [
        "align", "--data", str(heart_folder), "--model", str(heart_base), "--judge", str(heart_judge),
        "--data_options.patient_pattern", ray_nodes.PATIENT,
        "--data_options.names", '["background", "RV", "MYO", "LV"]',
        "--epochs", "2", "--images_per_epoch", "2", "--batch_size", "2", "--candidates", "6",
        *(["--refresh", "2"] if refresh else []),
    ]  # fmt: skip
    runs, signers = [], []
    for name in ("alone", "pooled"):
        out, marks = tmp_path / name, folder(tmp_path / f"marks of {name}")
        line = [*given, "--out", str(out), "--cache", str(tmp_path / f"cache of {name}")]
        line += ["--ray", two_nodes] if name == "pooled" else []
        ended = own_process.ended(
            ray_nodes.commanded_signing, line, marks, environment=ray_nodes.IMPORTS
        )
        assert ended.returncode == 0, ended.stderr
        runs.append(out)
        signers.append(list(marks.iterdir()))
    assert signers[0]
    assert not signers[1]  # all was in the cache before the process of the training asked
    # Images that are not drawn are not predicted.
    kept = [entries(tmp_path / f"cache of {name}") for name in ("alone", "pooled")]
    assert kept[0] == kept[1]
    for file in ("metrics.csv", "summary.json"):
        assert (runs[0] / file).read_bytes() == (runs[1] / file).read_bytes()
    one, two = (load_file(run / "last.safetensors") for run in runs)
    assert one.keys() == two.keys()
    assert all(bool((one[name] == two[name]).all()) for name in one)


def test_where_a_pool_has_no_effect_it_is_refused(
    tmp_path: Path, heart_folder: Path, heart_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = RayPool(ray="local")
    with pytest.raises(SegprefError, match="--ray has no effect with votes"):
        align(heart_base, votes=tmp_path / "study", out=tmp_path / "out", workers=pool)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SegprefError, match="--ray has no effect in a launch of 2 processes"):
        align(heart_base, heart_folder, judge="oracle", out=tmp_path / "out", workers=pool)
