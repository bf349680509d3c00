"""Live curves of a training, by the trackers of Accelerate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from segpref.late import late
from segpref.training.folder import RunFolder
from segpref.types import SegprefError

__all__ = ["TrackerName", "tracked"]

accelerate_tracking = late("accelerate.tracking")

TrackerName = Literal[
    "tensorboard", "aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "trackio", "wandb"
]

PROJECT = "segpref"
"""What a run is filed under by trackers outside the run folder."""


@contextmanager
def tracked(
    folder: RunFolder, names: Sequence[TrackerName]
) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Start trackers; what comes back logs the figures of one epoch by all of them.

    A resumed run first logs its finished epochs once more. So each curve has every
    epoch once: TensorBoard's files of before are taken away, and for the others it is a new run.

    Args:
        folder: the run folder, held by this process; TensorBoard's files go to ``tensorboard/`` in it.
        names: of trackers; none in processes that do not write.

    Raises:
        SegprefError: a tracker whose package is not installed.
    """
    trackers = [_started(folder, name) for name in _installed(names)]

    def log(row: Mapping[str, float]) -> None:
        figures = {
            name: value for name, value in row.items() if name != "epoch" and math.isfinite(value)
        }
        for tracker in trackers:
            tracker.log(figures, step=int(row["epoch"]))

    try:
        yield log
    finally:
        for tracker in trackers:
            tracker.finish()


def _installed(names: Sequence[TrackerName]) -> Sequence[TrackerName]:
    for name in names:
        if name not in map(str, accelerate_tracking.get_available_trackers()):
            raise SegprefError(
                f"the tracker {name} is not installed: install its package, or leave it out of log_with"
            )
    return names


def _started(folder: RunFolder, name: TrackerName) -> Any:
    make = accelerate_tracking.LOGGER_TYPE_TO_CLASS[name]
    if name == "tensorboard":
        for old in (folder.path / "tensorboard").glob("events.out.tfevents.*"):
            old.unlink()
        tracker = make("tensorboard", str(folder.path))
        tracker.start()
        return tracker
    place = [str(folder.path)] if make.requires_logging_directory else []
    tracker = make(PROJECT, *place)
    tracker.start()
    tracker.store_init_configuration({"folder": str(folder.path.resolve())})
    return tracker
