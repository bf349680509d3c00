"""Images that the workers of a Ray cluster prepare are those that one process prepares."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import ray_nodes
from test_predict import folder, noise, save_nifti

import own_process
from segpref.cli.main import main
from segpref.collect import StudyFolder
from segpref.data import Cache, Images, Preparation, prepare

pytestmark = pytest.mark.slow


def test_workers_read_and_prepare_every_image(two_nodes: str, tmp_path: Path) -> None:
    images, marks = folder(tmp_path / "images"), folder(tmp_path / "marks")
    for number in range(5):
        save_nifti(images / f"{number}.nii", noise((6, 8, 2), number))
    given = (images, marks, tmp_path / "cache", two_nodes)
    ended = own_process.ended(ray_nodes.prepared, *given, environment=ray_nodes.IMPORTS)
    assert ended.returncode == 0, ended.stderr
    found, driver = ended.stdout.split()
    readers = {path.name for path in marks.iterdir()}
    assert readers
    assert driver not in readers
    reader, cache = Images(images, channels=("image",)), Cache(tmp_path / "other")
    dataset = prepare(reader, Preparation(size=(6, 8)), cache, ray_nodes.SPACE)
    digest = hashlib.sha256()
    for place in range(len(dataset)):
        digest.update(np.ascontiguousarray(dataset[place].image).tobytes())
    assert digest.hexdigest() == found


def test_a_study_of_votes_is_the_same(
    two_nodes: str, tmp_path: Path, heart_folder: Path, heart_base: Path
) -> None:
    given = [
        "collect", "init", "--model", str(heart_base), "--pool", str(heart_folder / "images"),
        "--images", "6", "--candidates", "6",
    ]  # fmt: skip
    alone, pooled = tmp_path / "alone", tmp_path / "pooled"
    assert main([*given, "--cache", str(tmp_path / "one"), "--out", str(alone)]) == 0
    line = [*given, "--cache", str(tmp_path / "two"), "--out", str(pooled), "--ray", two_nodes]
    ended = own_process.ended(ray_nodes.commanded, line, environment=ray_nodes.IMPORTS)
    assert ended.returncode == 0, ended.stderr
    # What is shown has names drawn at random.
    asked = [
        [(item.case, item.use, item.display.window) for item in StudyFolder(out).contents().items]
        for out in (alone, pooled)
    ]
    assert asked[0] == asked[1]
    files = [path.relative_to(alone) for path in sorted((alone / "set").iterdir())]
    assert len(files) > 1
    for file in files:
        assert (alone / file).read_bytes() == (pooled / file).read_bytes()
