"""A dataset packed to 8 bits: small enough to be carried to another machine, enough for a recipe."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from segpref.data.cache import write_atomically
from segpref.data.cases import multilabel_space, to_multilabel
from segpref.data.index import dataset_folder, index, load_description, required
from segpref.data.names import check_id
from segpref.data.source import Reader, Source
from segpref.disk import refuse_scarcity
from segpref.locking import alone_in
from segpref.progress import track
from segpref.types import Case, LabelSpace, Region, SegprefError

__all__ = ["PACK_FILE", "Packed", "write_pack"]

PACK_FILE = "pack.json"
_VERSION = 1


class Packed:
    """What :func:`write_pack` wrote: ``pack.json`` and one ``volumes/ID.npz`` per volume.

    Args:
        root: folder that holds pack.json.
        as_multilabel: read the foreground classes as independent structures.
    """

    def __init__(self, root: Path | str, as_multilabel: bool = False) -> None:
        folder = dataset_folder(root, PACK_FILE)
        path = folder / PACK_FILE
        content = load_description(
            path, ("version", "label_space", "channels", "patients_known", "volumes")
        )
        if content["version"] != _VERSION:
            raise SegprefError(
                f"{path} is of version {content['version']}, but this segpref reads {_VERSION}: "
                "pack the dataset anew"
            )
        self.as_multilabel = as_multilabel
        try:
            self.channels: tuple[str, ...] = tuple(map(str, content["channels"]))
            self.patients_known: bool = bool(content["patients_known"])
            self._space = _label_space(content["label_space"])
            sources = [_source(folder, entry) for entry in content["volumes"]]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise SegprefError(
                f"{path} is not what `segpref pack` writes ({type(error).__name__}: {error}): pack the "
                "dataset anew"
            ) from error
        self.label_space = self._space
        if as_multilabel and self._space is not None and self._space.kind == "multi-class":
            self.label_space = multilabel_space(self._space)
        self._sources = index(folder, sources, "volume listed in pack.json")

    def sources(self) -> Sequence[Source]:
        """One source per volume."""
        return self._sources

    def read(self, source: Source) -> Case:
        """The volume; intensities within half a step (1/510 of a channel's range) of the original."""
        path = source.images[0]
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
            scale, offset = (
                found[name].reshape(-1, *[1] * (found["image"].ndim - 1))
                for name in ("scale", "offset")
            )
            image = (found["image"] * scale + offset).astype(np.float32)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            refuse_scarcity(path, error)
            raise SegprefError(
                f"{path} is damaged ({type(error).__name__}): pack the dataset anew"
            ) from error
        label = found.get("label")
        if label is not None and self.label_space != self._space:
            assert self._space is not None
            label = to_multilabel(label, self._space)
        spacing = found.get("spacing_mm")
        return Case(
            id=source.id,
            patient=source.patient,
            volume=source.id,
            image=image,
            label=label,
            raters=found.get("raters"),
            text=source.text,
            spacing_mm=None if spacing is None else tuple(float(step) for step in spacing),
            affine=found.get("affine"),
            stratum=source.stratum,
        )


def write_pack(reader: Reader, out: Path) -> int:
    """Pack a dataset; what is packed already is not packed again.

    Every channel of every volume is stored in 8 bits between its lowest and highest value, exactly
    where its values are whole numbers no more than 255 apart; labels, raters, geometry, patients, texts
    and strata are kept as they are. A recipe runs on the folder as it does on the dataset.

    Args:
        reader: the dataset.
        out: folder that is made.

    Returns:
        Size of the folder's files in bytes.

    Raises:
        SegprefError: a file can't be read, the folder holds another dataset, or another process packs
            there.
    """
    sources = list(reader.sources())
    space = reader.label_space
    content: dict[str, Any] = {
        "version": _VERSION,
        "label_space": None if space is None else _plain(space),
        "channels": list(reader.channels),
        "patients_known": reader.patients_known,
        "volumes": [
            {
                "id": source.id,
                "patient": source.patient,
                "stratum": source.stratum,
                "text": source.text,
                "labelled": bool(source.labels),
            }
            for source in sources
        ],
    }
    index_file = out / PACK_FILE
    with alone_in(out):
        if index_file.exists() and load_description(index_file, ()) != content:
            raise SegprefError(f"{out} holds another packed dataset: choose another --out")
        for source in track(sources, "packing", len(sources)):
            path = out / "volumes" / f"{source.id}.npz"
            if not path.exists():
                write_atomically(path, _packed(reader.read(source)))
        # The index comes last, so that half a pack is not taken for a dataset.
        write_atomically(index_file, json.dumps(content, indent=1).encode())
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def _packed(case: Case) -> bytes:
    image, scale, offset = _in_8_bits(np.asarray(case.image))
    arrays = {"image": image, "scale": scale, "offset": offset}
    if case.label is not None:
        arrays["label"] = np.asarray(case.label)
    if case.raters is not None:
        arrays["raters"] = np.asarray(case.raters)
    if case.spacing_mm is not None:
        arrays["spacing_mm"] = np.array(case.spacing_mm)
    if case.affine is not None:
        arrays["affine"] = np.asarray(case.affine)
    file = io.BytesIO()
    # An .npz as NumPy reads it, but a quarter smaller than with NumPy's own compression. Slices lie one
    # after the other, which compresses better than voxels of all slices in turn.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asfortranarray(array), allow_pickle=False)
    return file.getvalue()


def _in_8_bits(
    image: Float[np.ndarray, "channel *space"],
) -> tuple[
    UInt8[np.ndarray, "channel *space"],
    Float[np.ndarray, " channel"],
    Float[np.ndarray, " channel"],
]:
    """Steps of each channel, the size of a step, and the value of step 0."""
    axes = tuple(range(1, image.ndim))
    low, high = image.min(axes).astype(np.float64), image.max(axes).astype(np.float64)
    scale = np.where(high > low, (high - low) / 255, 1.0)
    whole = (image == np.round(image)).all(axes) & (high - low <= 255)
    scale[whole] = 1.0
    steps = (image - low.reshape(-1, *[1] * len(axes))) / scale.reshape(-1, *[1] * len(axes))
    return np.round(steps).astype(np.uint8), scale, low


def _source(folder: Path, entry: Any) -> Source:
    index_file = folder / PACK_FILE
    check_id(entry["id"], index_file)  # before anything is looked for by that name
    path = required(folder / "volumes" / f"{entry['id']}.npz", f"{index_file} lists it")
    return Source(
        id=entry["id"],
        patient=entry["patient"],
        images=(path,),
        labels=(path,) if entry["labelled"] else (),
        stratum=entry["stratum"],
        text=entry["text"],
    )


def _plain(space: LabelSpace) -> dict[str, Any]:
    regions = [{"name": region.name, "values": list(region.values)} for region in space.regions]
    content = {"kind": space.kind, "names": list(space.names), "regions": regions}
    return content | ({"on_disk": list(space.on_disk)} if space.on_disk else {})


def _label_space(content: Any) -> LabelSpace | None:
    if content is None:
        return None
    regions = tuple(Region(one["name"], tuple(one["values"])) for one in content["regions"])
    on_disk = tuple(content.get("on_disk", ()))
    return LabelSpace(content["kind"], tuple(content["names"]), regions, on_disk)
