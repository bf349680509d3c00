"""From the sources of a reader to a dataset: prepared once, kept in the cache, of one orientation."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from segpref.cluster import RayPool, spread
from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.description import name_of
from segpref.data.orientation import reordered
from segpref.data.pictures import is_colour
from segpref.data.preparation import Preparation
from segpref.data.prepared import ImagePreparation, preparation_key
from segpref.data.prepared_volumes import PreparedVolumes
from segpref.data.relabelled import Relabelled
from segpref.data.source import Reader, Source
from segpref.data.volume_entries import Found, Way
from segpref.process import own_first
from segpref.progress import console, track
from segpref.types import LabelSpace, SegprefError, whole_spacing

__all__ = ["prepare"]

log = logging.getLogger(__name__)

PREPARATION_VERSION = 3
"""Part of every key: raise it when prepared arrays change for equal settings."""


def prepare(
    reader: Reader,
    # In YAML it is settings, of which a protocol alone can't be made.
    preparation: Preparation | ImagePreparation,
    cache: Cache | None = None,
    label_space: LabelSpace | None = None,
    orientation: str | None = None,
    pool: RayPool | None = None,
    sources: Sequence[Source] | None = None,
    alike: bool = True,
) -> Dataset:
    """Read, check and prepare every source once; later calls only look into the cache.

    Volumes whose axes point elsewhere than those of the others (or than ``orientation``) are turned,
    unless the preparation turns all of them or is somebody else's.

    Args:
        reader: the dataset on disk.
        preparation: from image to network input.
        cache: where prepared images are kept.
        label_space: for images without labels, the one of the model that they are for.
        orientation: where axes are to point to, as in a model's training; where most do if None.
        pool: whose workers read and prepare the images before, in the cache, which they see under the
            same path; this process alone where None.
        sources: those of the reader that are wanted; all where None.
        alike: whether all must be of one size for the network, as in batches of a training.
    """
    cache = cache or Cache()
    label_space = reader.label_space or label_space
    if label_space is None:
        raise SegprefError(
            f"{name_of(reader)} has no labels: name the label space, or use labelled images"
        )
    sources = reader.sources() if sources is None else sources
    if not sources:
        raise SegprefError(f"{name_of(reader)} has no images: check the folder")
    if pool is not None and pool.ray is not None:
        arguments = (reader, preparation, cache, label_space, orientation)
        done = spread(pool, _Preparing, arguments, sources)
        for _ in track(done, "preparing images by the pool", len(sources)):
            pass
    way = _way(reader, preparation, cache, label_space)
    volumes = PreparedVolumes(sources)
    # Of several processes each prepares its part, and finds that of the others in the cache.
    for number in track(own_first(range(len(sources))), "preparing images", len(sources)):
        volumes.put(number, way, _prepared(way, sources[number]))
    _turn_to_one_orientation(volumes, way, label_space, orientation)
    if alike:
        _check_alike(volumes, preparation)
    return Dataset(volumes, label_space)


class _Preparing:
    """Fills the cache in a process of a pool."""

    def __init__(
        self,
        reader: Reader,
        preparation: ImagePreparation,
        cache: Cache,
        label_space: LabelSpace,
        orientation: str | None,
    ) -> None:
        self._space, self._wanted = label_space, orientation
        self._way = _way(reader, preparation, cache, label_space)

    def __call__(self, source: Source) -> None:
        form = self._way.preparation
        made = _prepared(self._way, source)
        own = isinstance(form, Preparation) and form.orientation is None
        if own and self._wanted is not None and made.orientation not in (None, self._wanted):
            _prepared(_turning(self._way, self._space, self._wanted), source)


def _way(
    reader: Reader,
    preparation: ImagePreparation,
    cache: Cache,
    label_space: LabelSpace,
    turned: str | None = None,
) -> Way:
    common = _common_key(reader, preparation, label_space)
    return Way(reader, preparation, cache, common, turned, is_colour(reader.channels))


def _turning(way: Way, label_space: LabelSpace, wanted: str) -> Way:
    """The same way with axes turned to where they are to point."""
    assert isinstance(way.preparation, Preparation)
    assert way.reader is not None
    turning = replace(way.preparation, orientation=wanted)
    return _way(way.reader, turning, way.cache, label_space, wanted)


def _prepared(way: Way, source: Source) -> Found:
    """What is in the cache of a volume, prepared now if nothing is."""
    content = way.cache.digest_of_files(source.content)
    key = way.key(source, content)
    kept = way.cache.has(key)
    arrays = way.entry(source, key).arrays()
    if kept and (noted := arrays.get("warnings")) is not None:
        for line in np.asarray(noted).tobytes().decode().splitlines():
            log.warning("%s", line)
    spacing, voxels = arrays.get("spacing_mm"), arrays.get("voxels")
    own, voxel_mm = _told(None if voxels is None else np.asarray(voxels).tolist())
    if own is not None and voxel_mm is not None and way.turned is not None:
        own, voxel_mm = way.turned, reordered(voxel_mm, own, way.turned)
    steps = None if spacing is None else tuple(float(step) for step in np.asarray(spacing))
    # What was prepared earlier may hold a size that is not known.
    steps = steps and whole_spacing(steps, len(steps))
    return Found(content, arrays, steps, own, voxel_mm)


def _common_key(
    reader: Reader, preparation: ImagePreparation, label_space: LabelSpace
) -> dict[str, Any]:
    """What the keys of all images have in common, made once: a pool may have a hundred thousand."""
    inner = reader.reader if isinstance(reader, Relabelled) else reader
    key = {
        "what": "prepared volume",
        "version": PREPARATION_VERSION,
        "reader": type(inner).__name__,
        "options": _options(inner),
        "channels": list(reader.channels),
        "labels": [label_space.kind, *label_space.names],
        "preparation": preparation_key(preparation, reader.channels),
    }
    if label_space.on_disk:
        key["values"] = list(label_space.on_disk)
    if isinstance(reader, Relabelled):
        key["relabelled"] = reader.key
    return key


def _told(voxels: list[float] | None) -> tuple[str | None, tuple[float, ...] | None]:
    """Orientation and voxel size, as an entry of the cache holds them: letters, then millimetres."""
    if voxels is None:
        return None, None
    if len(voxels) <= 3:
        return None, tuple(voxels)
    return "".join(chr(int(code)) for code in voxels[:3]), tuple(voxels[3:])


def _turn_to_one_orientation(
    volumes: PreparedVolumes, way: Way, label_space: LabelSpace, orientation: str | None
) -> None:
    """Prepare those volumes anew whose axes point elsewhere."""
    preparation = way.preparation
    if not isinstance(preparation, Preparation) or preparation.orientation is not None:
        return
    counts = Counter(volume.orientation for volume in volumes if volume.orientation)
    if not counts or (orientation is None and len(counts) == 1):
        return
    # Of equally many the first in the alphabet, so that the order of files does not matter.
    wanted = orientation or min(counts, key=lambda codes: (-counts[codes], codes))
    odd = [n for n, one in enumerate(volumes) if one.orientation not in (None, wanted)]
    if odd:
        first = volumes[odd[0]]
        console.print(
            f"{len(odd)} of {len(volumes)} volumes, such as {first.source.id}, have axes that do not "
            f"point to {wanted} ({first.orientation}): they are turned as "
            f"{'the model was trained' if orientation else 'the others are'}.",
            soft_wrap=True,
        )
    if unknown := [number for number, one in enumerate(volumes) if one.orientation is None]:
        console.print(
            f"{len(unknown)} of {len(volumes)} images, such as {volumes.id(unknown[0])}, do not say "
            "where their axes point to: they are used unchanged.",
            soft_wrap=True,
        )
    turning = _turning(way, label_space, wanted)
    for number in own_first(odd):
        volumes.put(number, turning, _prepared(turning, volumes[number].source))


def _options(reader: Reader) -> dict[str, Any]:
    """Settings of a reader that change what it reads from the same files, such as a threshold."""
    names = inspect.signature(type(reader)).parameters
    kept = {name: getattr(reader, name, getattr(reader, f"_{name}", None)) for name in names}
    return {name: value for name, value in kept.items() if isinstance(value, bool | int | float)}


def _check_alike(volumes: PreparedVolumes, preparation: ImagePreparation) -> None:
    first = volumes[0]
    for volume in map(volumes.__getitem__, volumes.examples()):
        if volume.images.shape[1] != first.images.shape[1]:
            raise SegprefError(
                f"{volume.source.id} has {volume.images.shape[1]} channels but {first.source.id} has "
                f"{first.images.shape[1]}: all images of a dataset need the same channels"
            )
        # A preparation with a patch gives whole volumes, from which patches are cut.
        if preparation.patch is not None:
            continue
        if volume.images.shape[2:] != first.images.shape[2:]:
            raise SegprefError(
                f"{volume.source.id} is {volume.images.shape[2:]} voxels and {first.source.id} "
                f"{first.images.shape[2:]}: set crop or size in the preparation so that all agree, or "
                "patch for a network that sees patches"
            )
