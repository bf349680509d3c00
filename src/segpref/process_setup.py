"""Process-wide settings that make start and training faster without changing results."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

import torch

__all__ = ["configure_process", "import_monai_alone"]

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
    import_monai_alone()
    if threads is not None:
        torch.set_num_threads(threads)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def import_monai_alone() -> None:
    """Whenever this process imports MONAI, transformers does not come along.

    MONAI imports all of its modules, and one network of text and images (Transchex) imports
    transformers' BERT with it: a third of the time that MONAI takes. That network can't be built then;
    transformers itself is imported as usual before and afterwards.
    """
    if not any(isinstance(one, _MonaiFinder) for one in sys.meta_path):
        sys.meta_path.insert(0, _MonaiFinder())


class _MonaiFinder(MetaPathFinder):
    """Finds MONAI where it is, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "monai" or "transformers" in sys.modules:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _WithoutTransformers(spec.loader)
        return spec


class _WithoutTransformers(Loader):
    """Loads a module as usual, while transformers can't be imported."""

    def __init__(self, usual: Loader) -> None:
        self._usual = usual

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__loader__ = module.__spec__.loader = self._usual
        modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
        modules["transformers"] = None  # how Python marks what can't be imported
        try:
            self._usual.exec_module(module)
        finally:
            del modules["transformers"]
