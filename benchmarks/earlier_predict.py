"""Measures predictions of 100 pictures with whatever segpref is on the path, as JSON.

``python -m benchmarks.earlier_predict`` is run by :mod:`benchmarks.earlier`. The model is opened from a
file that the version itself has written; that is part of the time.
"""

from __future__ import annotations

import importlib
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

__all__ = ["main"]

COUNT, SIDE, ROUNDS = 100, 160, 3


def main() -> None:
    """Print CPU and wall seconds of some rounds."""
    data, inference, policies, studies, types = (
        importlib.import_module(f"segpref.{name}")
        for name in ("data", "inference.predict", "policies", "studies.recipe", "types")
    )
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    space = types.LabelSpace("multi-class", ("background", "one", "two"))
    spec = studies.default_network(2).for_data(1, space.channels)
    random, taken = np.random.default_rng(0), []
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "images").mkdir()
        for number in range(COUNT):
            coarse = random.integers(0, 256, (SIDE // 8, SIDE // 8), np.uint8)
            picture = Image.fromarray(coarse).resize((SIDE, SIDE), 2)
            picture.save(work / "images" / f"{number:03d}.png")
        card = policies.ModelCard(network=spec, label_space=space, preparation=data.Preparation())
        policies.save_model(work / "model.safetensors", spec.build(), card)
        for number in range(ROUNDS + 1):
            cpu, wall = time.process_time(), time.perf_counter()
            inference.predict_folder(
                work / "model.safetensors", work / "images", work / f"out{number}"
            )
            taken.append((time.process_time() - cpu, time.perf_counter() - wall))
    source = importlib.import_module("segpref").__file__
    print(json.dumps({"source": source, "predict": taken[1:]}))


if __name__ == "__main__":
    main()
