"""What a launch starts: ``launched_runs.py OUT DATA STORE``.

MONAI is imported as segpref's own processes do it, which halves the time that a launch takes, and the
trainings are in a module whose name model files can give for the network.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

from segpref.process_setup import import_monai_alone


def left(out: Path) -> None:
    """Leave a file where the group of processes has ended before the process does."""
    import torch

    if not torch.distributed.is_initialized():
        (out / f"left {os.environ.get('RANK', 0)}").touch()


if __name__ == "__main__":
    atexit.register(left, Path(sys.argv[1]))  # called after all that is registered later
    import_monai_alone()
    from runs_in_processes import main

    main(*map(Path, sys.argv[1:]))
