"""The volumes of several datasets by their names, in a few bytes for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segpref.data.dataset import Dataset
from segpref.data.volume_list import Volume, VolumeList

__all__ = ["KnownVolumes", "Place"]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a volume is.

    Args:
        volumes: the list that it is in.
        number: its number there.
    """

    volumes: VolumeList
    number: int

    @property
    def volume(self) -> Volume:
        """The volume."""
        found: Volume = self.volumes[self.number]
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Place):
            return NotImplemented
        return self.volumes is other.volumes and self.number == other.number

    def __hash__(self) -> int:
        return hash((id(self.volumes), self.number))


class KnownVolumes:
    """Volumes of datasets; of a name that several have, that of the dataset that was added last."""

    def __init__(self) -> None:
        self._turn = 0
        self._lists: list[tuple[VolumeList, np.ndarray]] = []

    def add(self, dataset: Dataset) -> None:
        """Take in the volumes of a dataset; to add parts of one again takes no more memory."""
        self._turn += 1
        turns = next((turns for one, turns in self._lists if one is dataset.volumes), None)
        if turns is None:
            turns = np.zeros(len(dataset.volumes), np.int32)
            self._lists.append((dataset.volumes, turns))
        turns[dataset.numbers] = self._turn

    def place(self, name: str) -> Place:
        """The volume of a name.

        Raises:
            KeyError: no dataset that was added has it.
        """
        found = [
            (int(turns[number]), place, volumes, number)
            for place, (volumes, turns) in enumerate(self._lists)
            for number in volumes.numbers_of(name)
            if turns[number]
        ]
        if not found:
            raise KeyError(name)
        *_, volumes, number = max(found, key=lambda one: (one[0], one[1], one[3]))
        return Place(volumes, number)
