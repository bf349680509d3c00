"""Out-of-memory errors in one sentence: how much was missing, and which setting needs less."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Setting", "out_of_memory_reason", "ran_out"]

Setting = int | Sequence[int] | None
"""A batch size or number of candidates, the voxels of a patch, or None where it was not given."""

_TEXTS = (
    "out of memory",  # of CUDA and MPS, and of their drivers
    "can't allocate memory",  # of the CPU
    "not enough memory",  # of the CPU, on Windows
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_UNITS = {"bytes": 1} | {
    f"{letter}{form}": 1024**power
    for power, letter in enumerate("KMGTPE", start=1)
    for form in ("iB", "B")
}
_SIZE = r"([\d.]+) ?(bytes|[KMGTPE]i?B)"
_STEP = 16
"""Voxels of a patch are a multiple of what most networks halve them to."""


@dataclass(frozen=True)
class _Shortage:
    """What an error says, in bytes; None where it does not."""

    device: str
    asked: float | None
    total: float | None
    free: float | None
    used: float | None

    @property
    def share(self) -> float:
        """Of what was in use and asked for, how much there is room for; half if unknown."""
        if self.asked is None or self.free is None or self.used is None:
            return 0.5
        return min((self.used + self.free) / (self.used + self.asked), 1.0)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the CPU or of a GPU; does not import torch."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or any(text in str(error) for text in _TEXTS)
    )


def out_of_memory_reason(
    error: BaseException, settings: Mapping[str, Setting], also: str | None = None
) -> str:
    """How much memory was missing, and what to do about it.

    Args:
        error: for which :func:`ran_out` holds.
        settings: what memory grows with, by the names that the user knows them by: batch sizes,
            candidates, patches. The first ones are the best to change.
        also: something else that asks for less.

    Returns:
        Part of a sentence, without a full stop.
    """
    found = _shortage(error)
    parts = [f"{found.device} ran out of memory"]
    if found.asked is not None:
        there = [] if found.free is None else [f"{_size(found.free)} were free"]
        there += [] if found.total is None else [f"it has {_size(found.total)} in all"]
        parts = [
            f"{parts[0]}: {_size(found.asked)} more were asked for"
            + (f", but {' and '.join(there)}" if there else "")
        ]
    smaller = [
        one for name, value in settings.items() if (one := _smaller(name, value, found.share))
    ]
    if smaller:
        parts.append(f"by proportion {' or '.join(smaller)} would fit")
    rest = "close other programs that use it, or take a device with more memory"
    if "GPU" in found.device:
        rest += ", or the CPU (CUDA_VISIBLE_DEVICES=-1)"
    if also is not None:
        parts.append(f"{'so may' if smaller else 'what asks for less is'} {also}")
    parts.append(f"if that is not enough, {rest}" if smaller or also else rest)
    return "; ".join(parts)


def _smaller(name: str, value: Setting, share: float) -> str | None:
    """A setting as it would fit; None where it can't be any smaller."""
    if isinstance(value, int):
        fitting = max(1, min(math.floor(value * share), value - 1))
        return f"{name} {fitting} in place of {value}" if fitting < value else None
    if value is None:
        return None
    sides = tuple(value)
    part = share ** (1 / len(sides))
    fitting_sides = [
        max(_STEP, min(math.floor(n * part), n - 1) // _STEP * _STEP) if n > _STEP else n
        for n in sides
    ]
    if tuple(fitting_sides) == sides:
        return None
    return f'{name} "{fitting_sides}" in place of {list(sides)}'


def _shortage(error: BaseException) -> _Shortage:
    text = str(error)
    number = re.search(r"GPU (\d+)", text)
    gpu = "CUDA" in text or "HIP" in text or "CUBLAS" in text or "CUDNN" in text or number
    if gpu or "MPS" in text:
        device = f"GPU {number[1]}" if number else "the GPU"
        total = _found(
            text, f"total capacity of {_SIZE}", f"{_SIZE} total capacity", f"max allowed: {_SIZE}"
        )
        free = _found(text, f"of which {_SIZE} is free", f"{_SIZE} free")
        used = _found(
            text,
            f"{_SIZE} is allocated by PyTorch",
            f"{_SIZE} already allocated",
            f"MPS allocated: {_SIZE}",
        )
    else:
        device, (total, free, used) = "the computer", _of_computer()
    asked = _found(text, f"[Tt]ried to allocate {_SIZE}", f"[Uu]nable to allocate {_SIZE}")
    return _Shortage(device, asked, total, free, used)


def _found(text: str, *patterns: str) -> float | None:
    found = next((match for one in patterns if (match := re.search(one, text))), None)
    return None if found is None else float(found[1]) * float(_UNITS[found[2]])


def _of_computer() -> tuple[float | None, float | None, float | None]:
    """Bytes of memory in all, available, and used by this process at most."""
    total = free = used = None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError):
        match = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        free = None if match is None else float(match[1]) * 1024
    with contextlib.suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        used = float(peak if sys.platform == "darwin" else peak * 1024)
    return total, free, used


def _size(number: float) -> str:
    for unit in ("EiB", "PiB", "TiB", "GiB", "MiB", "KiB"):
        if number >= _UNITS[unit]:
            return f"{number / _UNITS[unit]:.2f} {unit}"
    return f"{number:.0f} bytes"
