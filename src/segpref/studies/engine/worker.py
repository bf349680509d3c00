"""The script that the process of a job runs, of the standard library alone.

Nothing of ``segpref``, torch or the user's own code is imported before it is sure that this process
ends with the one that started it.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
from importlib import import_module
from multiprocessing import process, spawn
from typing import BinaryIO

__all__ = ["main"]


def main() -> None:
    """Read a job from standard input, do it, and write what it returned to standard output."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints from here on does not get into the answer
    with open(0, "rb", closefd=False) as pipe:
        preparation, job = _read(pipe), _read(pipe)
    threading.Thread(target=_end_with, args=(os.dup(0),), daemon=True).start()
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    try:
        # As multiprocessing does it: the import path, and the main module for classes that it defines.
        process.current_process()._inheriting = True  # type: ignore[attr-defined]
        try:
            spawn.prepare(pickle.loads(preparation))
            import_module("segpref.process_setup").import_monai_alone()  # before the job is read
            function, arguments = pickle.loads(job)
        finally:
            del process.current_process()._inheriting  # type: ignore[attr-defined]
    except Exception as error:
        returned = f"its process could not begin ({type(error).__name__}: {error})"
    else:
        returned = function(*arguments)
    json.dump(returned, answer)
    answer.close()


def _read(pipe: BinaryIO) -> bytes:
    length = int.from_bytes(pipe.read(8))
    content = pipe.read(length)
    if not content or len(content) < length:
        sys.exit(1)  # the parent died while it wrote
    return content


def _end_with(lifeline: int) -> None:
    """End at once when the other end of the pipe closes, as it does however the parent dies."""
    os.read(lifeline, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
