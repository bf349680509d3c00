"""Atomic writes of whole folders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segpref.types import SegprefError

__all__ = ["atomic_folder"]


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` at the end, if nothing went wrong.

    It is made with the folders above it that are not there, beside the highest of them and under a name
    that ends in ``.partial``; so none of these is there before all is written. Files are the caller's
    to put in; an empty folder in the place of ``out`` counts as none.

    Args:
        out: the folder to make.

    Raises:
        SegprefError: the place is taken or can't be written to.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SegprefError(f"{out} is there already: choose another folder for the tuned model")
    try:
        if out.exists():
            out.rmdir()
        top = out
        while not top.parent.exists():
            top = top.parent
        outer = Path(tempfile.mkdtemp(dir=top.parent, prefix=f".{top.name}.", suffix=".partial"))
    except OSError as error:
        raise SegprefError(
            f"{out} can't be written ({error.strerror}): choose a folder that you may write to"
        ) from error
    try:
        partial = outer / out.relative_to(top.parent)
        partial.mkdir(parents=True)
        yield partial
        (outer / top.name).rename(top)
    except OSError as error:
        # shutil's errors have no strerror.
        raise SegprefError(
            f"{out} can't be written ({error.strerror or error}): free some space on that disk"
        ) from error
    finally:
        shutil.rmtree(outer, ignore_errors=True)
