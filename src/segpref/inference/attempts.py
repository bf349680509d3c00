"""What became of one image: its masks, or a sentence about why there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from segpref.data.source import Source
from segpref.memory import Setting, out_of_memory_reason, ran_out
from segpref.types import SegprefError

__all__ = ["Outcome", "SomeFailed", "attempt", "failure"]


class SomeFailed(SegprefError):
    """Some images could not be segmented; the masks of all others are written."""


class Outcome(NamedTuple):
    """The files of an image, and what kept it from being segmented; None where nothing did."""

    written: tuple[Path, ...]
    failed: str | None


def attempt(
    make: Callable[[], Sequence[Path]], source: Source, sizes: Mapping[str, Setting]
) -> Outcome:
    """The outcome of what writes the masks of an image.

    Args:
        make: writes them and returns their files.
        source: the image.
        sizes: what memory grows with, by the names of the options.
    """
    try:
        return Outcome(tuple(make()), None)
    except Exception as error:  # whatever it is, the other images are worth having
        return failure(error, source, sizes)


def failure(error: Exception, source: Source, sizes: Mapping[str, Setting]) -> Outcome:
    """The outcome of an image that could not be segmented; arguments as of :func:`attempt`."""
    if isinstance(error, SegprefError):
        return Outcome((), str(error))
    if ran_out(error):
        reason = out_of_memory_reason(error, sizes)
    else:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    return Outcome((), f"{source.images[0]} could not be segmented ({reason})")
