"""The page's server: votes of 50 raters at once, and slices of a large volume.

The server is a process of its own; raters are threads of this one, which ask over HTTP what the page
asks: the next comparison, a slice of the image and of both masks, and to store a vote. They look at a
comparison for 6 seconds on average (exponentially distributed), which is faster than people are.

- A vote of 50 raters is acknowledged within 400 ms (95th percentile): it is on the disk then.
- Of 512 x 512 x 300 voxels (int16, two masks) the first slice is there within 1 s, and each next one
  within 50 ms (95th percentile).

How many votes a second the server takes where nobody looks at anything is printed, too.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tests.vote_studies import small_contents
from tests.web.served_studies import made_study
from tests.web.server_process import ServerProcess
from tests.web.voters import Crowd, Voter

from segpref.collect import Contents, DisplayInfo, Item, Mask, Pair, StudyFolder, write_display
from segpref.progress import console
from segpref.web import open_store

__all__ = ["main"]

RATERS, VOTES, LOOK_S = 50, 12, 6.0
LARGE = (300, 512, 512)
AT_MOST_MS = {"vote": 400.0, "first slice": 1000.0, "next slice": 50.0}
Times = dict[str, float]


def main(database: str | None = None) -> None:
    """Measure and compare; votes go to a SQLite file, or to a PostgreSQL URL."""
    with tempfile.TemporaryDirectory() as folder:
        times = {"vote": _votes(Path(folder) / "paced", database, LOOK_S)[0]}
        if database is None:
            _, rate = _votes(Path(folder) / "fast", None, 0.0)
            console.print(f"{RATERS} raters without a pause: {rate:.0f} votes a second")
            times |= _slices(Path(folder) / "large")
    for name, took in times.items():
        console.print(f"{name}: {took:.0f} ms (at most {AT_MOST_MS[name]:g})")
    if any(took > AT_MOST_MS[name] for name, took in times.items()):
        raise SystemExit("the page's server is slower than it should be")


def _votes(folder: Path, database: str | None, look_s: float) -> tuple[float, float]:
    """95th percentile of the time to an acknowledged vote (ms), and votes a second."""
    study = made_study(folder / "study", small_contents(RATERS * VOTES // 2, votes=2))
    where = database or str(folder / "votes.sqlite")
    with open_store(study, where) as store:
        sessions = [store.enter(store.add_rater(f"rater {i}")) for i in range(RATERS)]
    server = ServerProcess(study.path, where)
    try:
        server.start()
        crowd = Crowd(
            (Voter(server.address, one, _looking(i, look_s)) for i, one in enumerate(sessions)),
            VOTES,
        )
        started = time.perf_counter()
        crowd.start()
        crowd.join()
        rate = crowd.acknowledged / (time.perf_counter() - started)
    finally:
        server.close()
    every = [took for voter in crowd.voters for took in voter.seconds["votes"]]
    return _p95_ms(every), rate


def _looking(seed: int, mean_s: float) -> Callable[[Any, Any], str]:
    rng = random.Random(seed)

    def choose(*_: Any) -> str:
        if mean_s:
            time.sleep(rng.expovariate(1 / mean_s))
        return rng.choice(("left", "right", "tie"))

    return choose


def _slices(folder: Path) -> Times:
    """The first slice and each next one, image and masks asked for at the same time as by the page."""
    study = _large_study(folder / "study")
    where = str(folder / "votes.sqlite")
    with open_store(study, where) as store:
        session = store.enter(store.add_rater("anna"))
    server = ServerProcess(study.path, where)
    try:
        server.start()
        image, masks = (Voter(server.address, session) for _ in range(2))
        task = image.next()
        assert task is not None
        took = []
        with ThreadPoolExecutor(2) as pool:
            for axis, index in [("axial", i) for i in range(140, 200)] + [("sagittal", 256)] * 5:
                started = time.perf_counter()
                asked = [
                    pool.submit(who.slice, task, kind, axis, index)
                    for who, kind in ((image, "image"), (masks, "masks"))
                ]
                for one in asked:
                    one.result()
                took.append(time.perf_counter() - started)
    finally:
        server.close()
    return {"first slice": took[0] * 1000, "next slice": _p95_ms(took[1:])}


def _large_study(folder: Path) -> StudyFolder:
    """A volume with the noise of a scan (11 bits), and two masks of a large organ."""
    name = "large"
    shown = DisplayInfo(
        asset="image-large", shape=LARGE, axes="LPS", dtype="int16", spacing_mm=(1.0, 0.7, 0.7),
        window=(40.0, 400.0),
    )  # fmt: skip
    item = Item(id=name, case=name, patient=name, volume=name, use="train", display=shown)
    masks = tuple(
        Mask(id=f"mask-{i}", item=name, prepared_id=f"{i}" * 32, display_id=f"{i}" * 32,
             asset=f"mask-{i}", candidate=i, family="dropout")
        for i in range(2)
    )  # fmt: skip
    pair = Pair(
        id="pair", item=name, masks=("mask-0", "mask-1"), mode="pair", slices={"axial": [140]}
    )
    study = made_study(folder, Contents(items=(item,), masks=masks, pairs=(pair,)))
    rng = np.random.default_rng(0)
    write_display(study.path, "image-large", rng.integers(-1024, 1024, LARGE, np.int16))
    for i in range(2):
        mask = np.zeros(LARGE, np.uint8)
        mask[60:240, 100 + 4 * i : 380, 100:400] = 1
        mask[100:200, 150:300, 150 : 300 + 4 * i] = 2
        write_display(study.path, f"mask-{i}", mask)
    return study


def _p95_ms(seconds: list[float]) -> float:
    return float(np.percentile(seconds, 95)) * 1000


if __name__ == "__main__":
    main(*sys.argv[1:])
