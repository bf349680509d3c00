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


@pytest.mark.long
@pytest.mark.parametrize("judge", ["own", "ensemble"])
def test_a_study_of_votes_is_the_same(
    two_nodes: str,
    tmp_path: Path,
    heart_folder: Path,
    heart_base: Path,
    heart_judge: Path,
    judge: str,
) -> None:
    alone, pooled = tmp_path / "alone", tmp_path / "pooled"
    own = '{{"class_path": "ray_nodes.Signing", "init_args": {{"marks": "{}"}}}}'
    lines = []
    for out in (alone, pooled):
        marks = folder(tmp_path / f"marks of {out.name}")
        judges = own.format(marks) if judge == "own" else f"[{heart_judge}, oracle]"
        lines.append([
            "collect", "init", "--model", str(heart_base), "--data", str(heart_folder),
            "--data_options.patient_pattern", ray_nodes.PATIENT,
            "--data_options.names", '["background", "RV", "MYO", "LV"]',
            "--images", "6", "--candidates", "6", "--batch_size", "2", "--judge", judges,
            "--cache", str(tmp_path / f"cache of {out.name}"), "--out", str(out),
        ])  # fmt: skip
    assert main(lines[0]) == 0
    driver = own_process.started(
        ray_nodes.commanded, [*lines[1], "--ray", two_nodes], environment=ray_nodes.IMPORTS
    )
    ended = driver.ended()
    assert ended.returncode == 0, ended.stderr
    if judge == "own":
        scorers = {path.name for path in (tmp_path / "marks of pooled").iterdir()}
        assert scorers
        assert str(driver.process.pid) not in scorers
    asked = []
    for out in (alone, pooled):
        contents = StudyFolder(out).contents()
        cases = {item.id: item.case for item in contents.items}
        # What is shown has names drawn at random.
        masks = {mask.id: (mask.candidate, cases[mask.item], mask.score) for mask in contents.masks}
        pairs = [
            (pair.information, pair.chosen_by, pair.use, [masks[name] for name in pair.masks])
            for pair in contents.pairs
        ]
        shown = [(item.case, item.use, item.display.window) for item in contents.items]
        asked.append((shown, pairs))
    assert len(asked[0][1]) > 4
    assert asked[0] == asked[1]
    for use in ("set", "choose"):
        files = [path.relative_to(alone) for path in sorted((alone / use).iterdir())]
        assert len(files) > 1
        for file in files:
            assert (alone / file).read_bytes() == (pooled / file).read_bytes()
