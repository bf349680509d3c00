"""A dataset whose label values are read as the structures of a model, or by names of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from segpref.checking import checked
from segpref.data.source import Reader, Source
from segpref.types import IGNORE, Case, LabelSpace, SegprefError

__all__ = ["IGNORED", "Relabelled"]

IGNORED = "ignore"
"""The name of values whose voxels are left out."""

_SHOWN = 40
"""Values in a sentence; of more their number."""


@checked()
class Relabelled:
    """A dataset whose label maps are read by a mapping from names to the values in its files.

    Several values of one name are united. Values that nothing names are background; those of
    ``ignore`` become :data:`IGNORE`, as does what the dataset ignores already. Structures of ``space``
    that nothing is named for are :attr:`LabelSpace.unlabelled`: the labels say neither that they are
    there nor that they are not.

    Args:
        reader: the dataset, with label maps of classes that exclude each other.
        labels: the values of each structure.
        space: structures of the model that the labels are for; the names in ``labels``, in the order of
            their first values, which are those of masks that are written, where None.
        named: what messages call the dataset.

    Raises:
        SegprefError: the mapping contradicts itself, the model, or what the dataset says of its values.
    """

    def __init__(
        self,
        reader: Reader,
        labels: Mapping[str, int | Sequence[int]],
        space: LabelSpace | None = None,
        named: str = "the data",
    ) -> None:
        own = _exclusive(reader.label_space, named)
        if space is not None:
            _exclusive(space, "the model")
        values = _values(labels, own, named)
        background = (space or own).names[0]
        chosen = {name: of for name, of in values.items() if name not in (IGNORED, background)}
        space = _named(chosen, own) if space is None else space
        for name in chosen:
            if name not in space.structures:
                raise SegprefError(
                    f"labels names {name}, but the structures of the model are "
                    f"{', '.join(space.structures)}: use its names, and ignore for what is left out"
                )
        if not chosen:
            raise SegprefError(
                f"labels names no structure: give the values of {' or '.join(space.structures)}"
            )
        _check_names(values, own, space, named)
        left = tuple(name for name in space.structures if name not in chosen)
        self.reader = reader
        self.label_space = replace(space, unlabelled=left)
        numbers = {value: number for number, value in enumerate(own.disk_values)}
        self._classes = np.zeros(256, np.uint8)
        self._classes[IGNORE] = IGNORE
        for name, some in values.items():
            number = IGNORE if name == IGNORED else space.names.index(name)
            self._classes[[numbers[value] for value in some]] = number

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image channels."""
        return self.reader.channels

    @property
    def patients_known(self) -> bool:
        """Whether something links volumes to patients."""
        return self.reader.patients_known

    @property
    def key(self) -> list[int]:
        """The class of each of the dataset's own: what decides, besides its settings, what is read."""
        assert self.reader.label_space is not None
        found: list[int] = self._classes[: self.reader.label_space.values].tolist()
        return found

    def sources(self) -> Sequence[Source]:
        """Those of the dataset."""
        return self.reader.sources()

    def read(self, source: Source) -> Case:
        """The dataset's case, with the classes of the mapping."""
        case = self.reader.read(source)
        changed: dict[str, Any] = {
            name: self._classes[masks]
            for name in ("label", "raters")
            if (masks := getattr(case, name)) is not None
        }
        return replace(case, **changed) if changed else case


def _exclusive(space: LabelSpace | None, named: str) -> LabelSpace:
    if space is None:
        raise SegprefError(f"{named} has no labels whose values could be named: leave labels out")
    if space.kind == "multi-label":
        raise SegprefError(
            f"labels names values of classes that exclude each other, but {named} has structures that "
            f"may overlap ({', '.join(space.names)}), each with a mask of its own: leave labels out"
        )
    if space.regions:
        raise SegprefError(
            f"labels names values of classes that exclude each other, but {named} has regions "
            f"({', '.join(space.structures)}), which are unions of classes: leave labels out"
        )
    return space


def _values(
    labels: Mapping[str, int | Sequence[int]], own: LabelSpace, named: str
) -> dict[str, tuple[int, ...]]:
    """The values of each name, every one of which is there, and once."""
    found = {
        name: tuple(map(int, given)) if isinstance(given, Sequence) else (int(given),)
        for name, given in labels.items()
    }
    names: dict[int, str] = {}
    for name, several in found.items():
        if not several:
            raise SegprefError(
                f"labels names no value for {name}: leave it out, for it is unknown then"
            )
        for value in several:
            if value not in own.disk_values:
                raise SegprefError(
                    f"labels names the value {value} for {name}, but the labels of {named} have "
                    f"{_told(own)}: correct it (what is ignored there needs no name)"
                )
            if value in names:
                raise SegprefError(
                    f"labels names the value {value} twice, for {names[value]} and {name}: name it once"
                )
            names[value] = name
    empty = own.disk_values[0]
    if names.get(empty, IGNORED) not in (IGNORED, own.names[0], "background"):
        raise SegprefError(
            f"labels names the value {empty} for {names[empty]}, but it is the background of {named}: "
            "leave it out"
        )
    return found


def _named(chosen: Mapping[str, tuple[int, ...]], own: LabelSpace) -> LabelSpace:
    """The structures that a mapping names where there is no model."""
    if not chosen:
        raise SegprefError(f"labels names no structure: give the values of one, of {_told(own)}")
    ordered = sorted(chosen, key=lambda name: chosen[name][0])
    on_disk = (own.disk_values[0], *(chosen[name][0] for name in ordered))
    plain = on_disk == tuple(range(len(on_disk)))
    return LabelSpace("multi-class", (own.names[0], *ordered), on_disk=() if plain else on_disk)


def _check_names(
    values: Mapping[str, tuple[int, ...]], own: LabelSpace, space: LabelSpace, named: str
) -> None:
    """Refuse what contradicts the names that the dataset has for its values."""
    name_of = {value: name for name, several in values.items() for value in several}
    known = {name.casefold(): name for name in space.structures}
    for value, called in zip(own.disk_values[1:], own.names[1:], strict=True):
        meant, said = known.get(called.casefold()), name_of.get(value)
        # Names made of values say nothing.
        if meant is None or called == f"class {value}" or said in (meant, IGNORED):
            continue
        if said is not None:
            raise SegprefError(
                f"labels names the value {value} for {said}, but {named} calls it {called}: correct "
                "labels, or the names of the dataset"
            )
        if meant in values:
            some = " and ".join(map(str, values[meant]))
            raise SegprefError(
                f"labels names the value {some} for {meant}, but in {named} {called} is {value}: "
                "correct labels, or the names of the dataset"
            )


def _told(space: LabelSpace) -> str:
    """The values that labels may have, with their names."""
    each = [f"{v} {n}" for v, n in zip(space.disk_values, space.names, strict=True)]
    more = f" and {len(each) - _SHOWN} more" if len(each) > _SHOWN else ""
    return ", ".join(each[:_SHOWN]) + more
