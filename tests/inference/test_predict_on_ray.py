"""Masks by the workers of a Ray cluster are those of one process, whatever happens to the workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import ray_nodes
from test_predict import CLASSES, card_of, folder, model_file, noise, save_nifti

import own_process
import waiting
from segpref import cluster
from segpref.data import Preparation
from segpref.inference import predict_folder
from segpref.policies import ModelCard, NetworkSpec
from segpref.types import SegprefError

pytestmark = pytest.mark.slow


def masks(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def mortal(tmp_path: Path, deaths: int) -> ModelCard:
    marks = folder(tmp_path / "marks")
    spec = NetworkSpec("ray_nodes.Mortal", {"marks": str(marks), "deaths": deaths})
    return ModelCard(spec, CLASSES, Preparation(normalise="none"), ("channel 0",))


def pool_of(tmp_path: Path, count: int = 12) -> Path:
    images = folder(tmp_path / "images")
    for number in range(count):
        save_nifti(images / f"{number:02d}.nii.gz", noise((6, 7, 3), number))
    return images


def test_a_worker_that_is_killed_is_replaced_and_its_images_are_done_again(
    two_nodes: str, tmp_path: Path
) -> None:
    images = pool_of(tmp_path)
    save_nifti(images / "05.nii.gz", noise((6, 7, 3), 5) * 2 * ray_nodes.DEADLY)
    (images / "06.nii.gz").write_bytes(b"no image")
    model = model_file(tmp_path, mortal(tmp_path, deaths=1))
    on_pool = own_process.ended(
        ray_nodes.predicted,
        model,
        images,
        tmp_path / "pool",
        two_nodes,
        environment=ray_nodes.IMPORTS,
    )
    (killed,) = (tmp_path / "marks").iterdir()
    assert killed.name != str(os.getpid())
    with pytest.raises(SegprefError) as alone:
        predict_folder(model, images, tmp_path / "alone")
    assert masks(tmp_path / "pool") == masks(tmp_path / "alone")
    assert len(masks(tmp_path / "pool")) == 11
    assert on_pool.returncode == 1
    sentence = str(alone.value).replace("/alone", "/pool")
    # Told at once, and again at the end.
    assert on_pool.stderr.splitlines()[-1] == sentence
    assert sentence.partition("1 failed: ")[2] in on_pool.stderr.splitlines()
    assert on_pool.stdout == ""


@pytest.mark.long
def test_an_image_that_always_kills_its_worker_fails_alone(two_nodes: str, tmp_path: Path) -> None:
    images = pool_of(tmp_path, 4)
    save_nifti(images / "02.nii.gz", noise((6, 7, 3)) * 2 * ray_nodes.DEADLY)
    model = model_file(tmp_path, mortal(tmp_path, deaths=1000))
    on_pool = own_process.ended(
        ray_nodes.predicted,
        model,
        images,
        tmp_path / "pool",
        two_nodes,
        environment=ray_nodes.IMPORTS,
    )
    assert on_pool.returncode == 1
    assert sorted(masks(tmp_path / "pool")) == ["00.nii.gz", "01.nii.gz", "03.nii.gz"]
    last = on_pool.stderr.splitlines()[-1]
    assert last.startswith("3 of 4 images were segmented")
    assert "02.nii.gz could not be segmented (its process died every time" in last


@pytest.mark.long
def test_masks_that_are_there_are_not_made_again(two_nodes: str, tmp_path: Path) -> None:
    images, model = pool_of(tmp_path, 3), model_file(tmp_path, card_of())
    out = folder(tmp_path / "out")
    (out / "01.nii.gz").write_bytes(b"kept")
    on_pool = own_process.ended(
        ray_nodes.predicted, model, images, out, two_nodes, environment=ray_nodes.IMPORTS
    )
    assert on_pool.returncode == 0
    assert on_pool.stdout.strip() == str([out / "00.nii.gz", out / "02.nii.gz"])
    assert (out / "01.nii.gz").read_bytes() == b"kept"
    assert not (out / ".lock").exists()


def test_a_worker_builds_what_its_user_trusts_and_nothing_else(
    two_nodes: str, tmp_path: Path
) -> None:
    images, model = pool_of(tmp_path, 1), model_file(tmp_path, card_of())
    for trust in ("--trust", ""):
        line = [
            "predict",
            "--model",
            model,
            "--input",
            images,
            "--output",
            tmp_path / f"out{trust}",
        ]
        given = [*map(str, line), "--ray", two_nodes, *filter(None, [trust])]
        on_pool = own_process.ended(ray_nodes.commanded, given, environment=ray_nodes.IMPORTS)
        if trust:
            assert on_pool.returncode == 0, on_pool.stderr
            assert "1 masks written" in on_pool.stderr
        else:
            assert on_pool.returncode == 1
            assert "--trust" in on_pool.stderr
            assert on_pool.stderr.count("\n") == 1


def test_a_cluster_started_for_it_ends_with_it_however_it_ends(tmp_path: Path) -> None:
    images = pool_of(tmp_path, 2)
    save_nifti(images / "01.nii.gz", noise((6, 7, 3)) * 2 * ray_nodes.DEADLY)
    (tmp_path / "home").mkdir()
    trace = waiting.Trace(tmp_path / "trace")
    environment = {**ray_nodes.IMPORTS, "HOME": str(tmp_path / "home"), "RAY_ADDRESS": ""}
    spec = NetworkSpec("ray_nodes.Waiting", {"trace": str(trace.path)})
    card = ModelCard(spec, CLASSES, Preparation(normalise="none"), ("channel 0",))
    line = [
        "predict",
        "--trust",
        "--model",
        str(model_file(tmp_path, card)),
        "--input",
        str(images),
    ]
    process = own_process.started(
        ray_nodes.commanded,
        [*line, "--output", str(tmp_path / "out"), "--ray", "local"],
        environment=environment,
    )
    assert trace.read() == b"!"
    process.signal(signal.SIGINT)
    ended = process.ended()
    assert ended.returncode == 130
    assert ended.stderr.splitlines()[-1].startswith("Stopped.")
    trace.gone()  # The workers, one or both of which held the pipe.
    assert not (tmp_path / "out" / ".lock").exists()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:9", "there is no Ray cluster at 127.0.0.1:9: "),
        ("ray://127.0.0.1:9", "there is no Ray cluster at ray://127.0.0.1:9: "),
        ("nowhere", "there is no Ray cluster at nowhere: "),
    ],
)
def test_a_cluster_that_is_not_there_is_one_sentence(
    tmp_path: Path, address: str, sentence: str
) -> None:
    images, model = pool_of(tmp_path, 1), model_file(tmp_path, card_of())
    with pytest.raises(SegprefError, match=f"^{sentence}") as caught:
        predict_folder(model, images, tmp_path / "out", pool=cluster.RayPool(ray=address))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
