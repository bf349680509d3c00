"""Commands of stock nnU-Net, and ours, in processes of their own that start at once.

What they do is unchanged. As programs, each of them, and each of the two workers of a prediction,
would take ten seconds for its imports alone.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from benchmarks.nnunet.stock import Stock

import own_process
from segpref.types import SegprefError

own_process.IMPORTED_TOO += [
    "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints",
    "nnunetv2.inference.predict_from_raw_data",
    "nnunetv2.run.run_training",
]

AS_PROGRAMS = {"nnUNetv2_predict"}
"""Are started as they are on a user's machine."""

_as_program = Stock.run


def run_at_once(stock: Stock, command: str, *options: object, **changed: object) -> None:
    """For :meth:`benchmarks.nnunet.stock.Stock.run`."""
    if command in AS_PROGRAMS:
        return _as_program(stock, command, *options, **changed)
    variables = {**stock.variables, **{name: str(value) for name, value in changed.items()}}
    given = (command, *map(str, options))
    done = own_process.ended(_begun, stock.root, given, environment=variables)
    if done.returncode:
        end = done.stdout[-3000:] + done.stderr[-3000:]
        raise SegprefError(f"{' '.join(given)} failed: {end}")
    return None


def _begun(folder: Path, given: tuple[str, ...]) -> Any:
    os.chdir(folder)
    sys.argv = list(given)
    # nnU-Net reads the names of its folders from the environment when it is imported.
    for name in [name for name in sys.modules if name.partition(".")[0] == "nnunetv2"]:
        del sys.modules[name]
    get_context = multiprocessing.get_context
    setattr(  # noqa: B010
        multiprocessing,
        "get_context",
        lambda kind: get_context("fork" if kind == "spawn" else kind),
    )
    (script,) = {
        one.value: one for one in entry_points(group="console_scripts", name=given[0])
    }.values()
    return script.load()()
