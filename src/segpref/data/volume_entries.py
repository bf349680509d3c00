"""How a volume is read, prepared and kept in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from segpref.data.array_files import StoredArray
from segpref.data.cache import Cache
from segpref.data.cache_entries import Entry
from segpref.data.headers import header_warnings
from segpref.data.orientation import orientation_of
from segpref.data.prepared import ImagePreparation, check_prepared
from segpref.data.source import Reader, Source

__all__ = ["Found", "Way"]


@dataclass(frozen=True)
class Way:
    """How volumes are read and prepared.

    Args:
        reader: of their sources; None in a process that got prepared volumes from another one.
        preparation: from image to network input.
        cache: where prepared arrays are kept.
        common: what the keys of all volumes have in common.
        turned: see :class:`~segpref.data.volume_list.Volume`.
        colour: whether the channels are red, green and blue.
    """

    reader: Reader | None
    preparation: ImagePreparation
    cache: Cache
    common: Mapping[str, Any]
    turned: str | None
    colour: bool

    def key(self, source: Source, content: str) -> dict[str, Any]:
        """What identifies a volume in the cache.

        Args:
            source: where it comes from.
            content: hash of its files.
        """
        key = {**self.common, "content": content}
        # Not always: what was prepared before there was such a key stays valid.
        if source.key is not None:
            key["source"] = source.key
        return key

    def entry(self, source: Source, key: Mapping[str, Any]) -> Entry:
        """Where its arrays are kept."""
        compute = None if self.reader is None else partial(self._compute, source)
        return self.cache.place(key, compute)

    def elsewhere(self) -> Way:
        """The same for another process, which reads no image."""
        return replace(self, reader=None)

    def _compute(self, source: Source) -> dict[str, np.ndarray]:
        assert self.reader is not None
        with header_warnings() as warned:
            case = self.reader.read(source)
        prepared = self.preparation.apply(case)
        check_prepared(prepared.images, source.images[0])
        arrays = {"images": prepared.images.astype(np.float32)}
        if prepared.labels is not None:
            arrays["labels"] = prepared.labels
        if prepared.raters is not None:
            arrays["raters"] = prepared.raters
        if prepared.spacing_mm is not None:
            arrays["spacing_mm"] = np.array(prepared.spacing_mm)
        if case.spacing_mm is not None:
            codes = [ord(letter) for letter in orientation_of(case) or ""]
            arrays["voxels"] = np.array([*codes, *case.spacing_mm], np.float64)
        if warned:
            arrays["warnings"] = np.frombuffer("\n".join(warned).encode(), np.uint8)
        return arrays


class Found(NamedTuple):
    """What there is to know of a volume in the cache; see :class:`~segpref.data.volume_list.Volume`."""

    content: str
    arrays: Mapping[str, StoredArray]
    spacing_mm: tuple[float, ...] | None
    orientation: str | None
    voxel_mm: tuple[float, ...] | None
