"""Process-wide settings that make start and training faster without changing results."""

from __future__ import annotations

import ctypes
import sys
from importlib import import_module
from types import ModuleType

import torch

__all__ = ["configure_process", "import_monai"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def configure_process(threads: int | None = None) -> None:
    """Configure this process for training; call it once, before any work.

    Subnormal numbers count as zero: they slow convolutions down tenfold late in a training and carry
    nothing. On Linux, memory of large arrays is kept for the next ones: by default it goes back to
    the system after every use and comes again page by page, a tenth of the time of a training.

    Args:
        threads: CPU threads of torch; its own choice where None.
    """
    torch.set_flush_denormal(True)
    import_monai()
    if threads is not None:
        torch.set_num_threads(threads)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def import_monai() -> None:
    """Import MONAI without transformers, where neither has been imported yet.

    MONAI imports all of its modules, and one network of text and images (Transchex) imports
    transformers' BERT with it: a third of the time that a command needs to start. That network can't
    be built then; transformers itself is imported as usual afterwards.
    """
    if {"monai", "transformers"} & set(sys.modules):
        return
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    modules["transformers"] = None  # how Python marks what can't be imported
    try:
        import_module("monai")
    finally:
        del modules["transformers"]
