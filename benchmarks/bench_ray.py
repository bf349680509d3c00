"""Two nodes of a Ray cluster against one process: masks per second, with a worker killed on the way.

``python -m benchmarks.bench_ray --images 5000`` is the full form; the default is short. Joining the
cluster and opening the model are in the times. Nodes have one core each, so the goal is against one
process on one core; it is also timed on all cores, of which its threads that read and write take some.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from segpref import cluster
from segpref.data import Preparation
from segpref.inference import predict_folder
from segpref.policies import ModelCard, NetworkSpec, save_model
from segpref.types import LabelSpace

SIZE = 256


def main(count: int = 300) -> None:
    """Print seconds and their ratio."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model, images = _model(place), _images(place, count)
        alone = _seconds(partial(predict_folder, model, images, place / "alone"))
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})  # which threads that are started now inherit
        one_core = _seconds(partial(predict_folder, model, images, place / "one"))
        os.sched_setaffinity(0, before)
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        try:
            nodes.add_node(num_cpus=1)
            killer = threading.Thread(target=_kill_one, args=(place / "pool", count // 3))
            killer.start()
            pool = cluster.RayPool(ray=nodes.address)
            pooled = _seconds(partial(predict_folder, model, images, place / "pool", pool=pool))
            killer.join()
        finally:
            nodes.shutdown()
        names = [path.name for path in (place / "alone").iterdir()]
        _, unlike, missing = filecmp.cmpfiles(place / "alone", place / "pool", names, shallow=False)
        print(
            f"{count} images: one process on one core {one_core:.1f} s, on {len(before)} cores "
            f"{alone:.1f} s, two nodes (a worker killed) {pooled:.1f} s, {one_core / pooled:.2f} "
            f"(goal 1.7) and {alone / pooled:.2f} times faster; "
            f"{len(unlike) + len(missing)} masks differ"
        )


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _kill_one(out: Path, after: int) -> None:
    """Kill one worker as soon as so many masks are there."""
    while not out.is_dir() or len(list(out.glob("*.png"))) < after:
        time.sleep(0.01)
    for process in psutil.process_iter(["name", "cmdline"]):
        if any("PoolWorker" in part for part in process.info["cmdline"] or ()) and _ours(process):
            os.kill(process.pid, signal.SIGKILL)
            return
    print("no worker was found that could be killed")


def _ours(process: psutil.Process) -> bool:
    return os.getpid() in {one.pid for one in process.parents()}


def _images(place: Path, count: int) -> Path:
    folder = place / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.png")
    return folder


def _model(place: Path) -> Path:
    arguments = {
        "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [16, 32, 64],
        "strides": [2, 2], "num_res_units": 1,
    }  # fmt: skip
    space = LabelSpace("multi-class", ("background", "disc"))
    spec = NetworkSpec("monai.networks.nets.UNet", arguments)
    card = ModelCard(spec, space, Preparation(size=(SIZE, SIZE)), ("image",))
    save_model(place / "model.safetensors", spec.build(), card)
    return place / "model.safetensors"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    main(parser.parse_args().images)
