"""A small substitute for a downloaded SAM, trained to follow boxes and points on other data.

The network has the same classes as a real one; what it has seen is a few hundred slices of hearts,
brains, chests and lungs, and nothing of the study's own images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from segpref.data import (
    Cache,
    Dataset,
    Folders,
    Preparation,
    Reader,
    draw_patients,
    open_dataset,
    prepare,
)
from segpref.data.dataset import Volume
from segpref.data.phantoms import PATIENT_PATTERN, write_phantoms
from segpref.data.source import Source
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["OneStructure", "SourceSubset", "other_data"]

OneStructure = LabelSpace("multi-label", ("structure",))
"""Whatever the prompt is about."""

_FOLDERS = {"acdc": "acdc", "hippocampus": "Task04_Hippocampus", "lidc": "lidc"}
"""Names of the other data, and of their folders."""

_LEAST = 0.002
"""Share of the image below which a structure is no target for a box."""

_PER_PATIENT = 10


class SourceSubset:
    """A reader restricted to some sources of another reader.

    Args:
        reader: of all of them.
        sources: which.
    """

    def __init__(self, reader: Reader, sources: list[Source]) -> None:
        self._reader, self._sources = reader, tuple(sources)
        self.label_space = reader.label_space
        self.channels = reader.channels
        self.patients_known = reader.patients_known

    def sources(self) -> tuple[Source, ...]:
        """The chosen ones."""
        return self._sources

    def read(self, source: Source) -> Case:
        """As the other reads it."""
        return self._reader.read(source)


def other_data(
    data: Path,
    made: Path,
    counts: Mapping[str, int],
    preparation: Preparation,
    cache: Cache,
    seed: int = 0,
) -> tuple[Dataset, Dataset]:
    """Cases of one structure each, to learn from and (of other patients) to validate on.

    Args:
        data: folder that holds ``acdc``, ``Task04_Hippocampus`` and ``lidc``, or some of them.
        made: folder for phantoms.
        counts: how many cases of each; those whose folder is not there are left out.
        preparation: as of the images that the network is for.
        cache: where prepared images are kept.
        seed: of what is drawn.

    Raises:
        SegprefError: an unknown source, or none.
    """
    volumes: list[Volume] = []
    for number, (name, count) in enumerate(counts.items()):
        reader = _reader(name, data, made)
        if reader is not None and count:
            rng = np.random.default_rng([seed, number])
            volumes += _drawn(reader, name, count, preparation, cache, rng)
    if not volumes:
        raise SegprefError(f"{data} has none of {', '.join(_FOLDERS)}: name phantoms, at least")
    dataset = Dataset(volumes, OneStructure)
    held_out = draw_patients(dataset.patients, max(1, len(dataset.patients) // 10), seed)
    rest = [name for name in dataset.patients if name not in held_out]
    return dataset.of_patients(rest), dataset.of_patients(held_out)


def _reader(name: str, data: Path, made: Path) -> Reader | None:
    if name not in ("phantoms", *_FOLDERS):
        raise SegprefError(f"other data are phantoms, {', '.join(_FOLDERS)}, not {name!r}")
    if name == "phantoms":
        folder = write_phantoms(made, "cardiac", (96, 96), 60, seed=0, slices_per_patient=3)
        return Folders(
            folder, names=("background", "RV", "MYO", "LV"), patient_pattern=PATIENT_PATTERN
        )
    folder = data / _FOLDERS[name]
    return open_dataset(folder) if folder.is_dir() else None


def _drawn(
    reader: Reader,
    name: str,
    count: int,
    preparation: Preparation,
    cache: Cache,
    rng: np.random.Generator,
) -> list[Volume]:
    sources = list(reader.sources())
    few = rng.permutation(len(sources))[: max(2, -(-count // _PER_PATIENT))]
    dataset = prepare(SourceSubset(reader, [sources[i] for i in sorted(few)]), preparation, cache)
    every = list(_structures(dataset, name))
    chosen = rng.permutation(len(every))[:count]
    return [every[i] for i in sorted(chosen)]


def _structures(dataset: Dataset, name: str) -> Iterator[Volume]:
    """Every structure of every slice that is large enough, as a case of its own."""
    for case in dataset.labelled():
        masks = dataset.label_space.structure_masks(np.asarray(case.label))
        for structure, mask in zip(dataset.label_space.structures, masks, strict=True):
            if mask.mean() < _LEAST:
                continue
            key = {"of": case.id, "from": name, "structure": structure}
            source = Source(
                id=f"{name}-{case.id}-{structure}".replace("/", "-").replace(" ", "-"),
                patient=f"{name}-{case.patient}",
                images=(),
            )
            image = np.asarray(case.image[:1], dtype=np.float32)
            yield Volume(
                source, key, image[None], mask[None, None].astype(np.uint8), case.spacing_mm
            )
