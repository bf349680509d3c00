"""A dataset packed to 8 bits: small enough to copy to another machine, sufficient for a recipe."""

from __future__ import annotations

import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from segpref.checking import checked
from segpref.data.cache import write_atomically
from segpref.data.cases import multilabel_space, to_multilabel
from segpref.data.index import dataset_folder, index, load_description, required
from segpref.data.names import check_id
from segpref.data.pictures import is_colour
from segpref.data.source import Reader, Source
from segpref.disk import refuse_scarcity
from segpref.locking import alone_in
from segpref.progress import track
from segpref.types import IGNORE, Case, LabelSpace, Region, SegprefError

__all__ = ["PACK_FILE", "UNREADABLE", "Packed", "write_pack"]

PACK_FILE = "pack.json"
_VERSION = 1
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
)
"""What NumPy and zipfile raise where an .npz is damaged."""


@checked()
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
                "pack the dataset again"
            )
        self.as_multilabel = as_multilabel
        try:
            for name in ("channels", "volumes"):
                if not isinstance(content[name], list):
                    raise TypeError(f"{name} is no list")
            self.channels: tuple[str, ...] = tuple(map(str, content["channels"]))
            self.patients_known: bool = bool(content["patients_known"])
            self._space = _label_space(content["label_space"])
            sources = [_source(folder, entry) for entry in content["volumes"]]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise SegprefError(
                f"{path} is not what `segpref pack` writes ({type(error).__name__}: {error}): "
                f"pack the dataset again"
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
            if (
                found["image"].dtype != np.uint8
                or scale.dtype.kind != "f"
                or offset.dtype.kind != "f"
            ):
                raise ValueError("an image in other steps than were written")
            with np.errstate(all="ignore"):  # what is not finite is refused below
                image = (found["image"] * scale + offset).astype(np.float32)
        except UNREADABLE as error:
            refuse_scarcity(path, error)
            raise SegprefError(
                f"{path} is damaged ({type(error).__name__}): pack the dataset again"
            ) from error
        self._check(path, found, image, labelled=bool(source.labels))
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
            colour=is_colour(self.channels),
        )

    def _check(
        self, path: Path, found: Mapping[str, np.ndarray], image: np.ndarray, labelled: bool
    ) -> None:
        """What other readers check of an image, a label and masks of raters.

        Raises:
            SegprefError: they do not fit each other, or what the index says.
        """
        how = "pack the dataset again"
        if len(image) != len(self.channels) or image.ndim not in (3, 4) or not image.size:
            raise SegprefError(
                f"{path} has an image of shape {image.shape} where {len(self.channels)} channels of 2D "
                f"or 3D images are due: {how}"
            )
        if not np.isfinite(image).all():
            raise SegprefError(f"{path} holds intensities that are not finite numbers: {how}")
        if ("label" in found) > labelled or (labelled and not {"label", "raters"} & set(found)):
            state = "a label" if "label" in found else "no label"
            raise SegprefError(f"{path} holds {state}, against {PACK_FILE}: {how}")
        fields = 0 if self._space is None else self._space.fields
        for name, axes in (("label", 1), ("raters", 2)):
            array = found.get(name)
            if array is None:
                continue
            shape = (*array.shape[: -image.ndim], fields, *image.shape[1:])
            if array.shape != shape or array.ndim != image.ndim - 1 + axes:
                raise SegprefError(
                    f"{path} has a {name} of shape {array.shape} for an image of {image.shape}: {how}"
                )
            _check_values(path, name, array, self._space)
        for name, due in (("affine", (4, 4)), ("spacing_mm", (image.ndim - 1,))):
            if name in found and found[name].shape != due:
                raise SegprefError(f"{path} has a wrong {name} of shape {found[name].shape}: {how}")
        for name, sound in (("affine", _invertible), ("spacing_mm", _positive)):
            numbers = found.get(name)
            if numbers is not None and not (numbers.dtype.kind in "iuf" and sound(numbers)):
                raise SegprefError(
                    f"{path} has {name} with values that are no geometry "
                    f"({' '.join(map(str, numbers.ravel()[:4].tolist()))} ...): {how}"
                )


def _invertible(affine: np.ndarray) -> bool:
    return bool(np.isfinite(affine).all()) and np.linalg.det(affine[:3, :3]) != 0


def _positive(sizes: np.ndarray) -> bool:
    # NaN where a size is not known, as between the slices of a LIDC crop.
    known = sizes[~np.isnan(sizes)]
    return bool((known > 0).all() and np.isfinite(known).all())


def _check_values(path: Path, name: str, array: np.ndarray, space: LabelSpace | None) -> None:
    """Refuse values that are none of the label space, but for pixels that are ignored."""
    most = 0 if space is None else space.values
    strange = np.setdiff1d(np.unique(array), [*range(most), IGNORE])
    if array.dtype != np.uint8 or strange.size:
        raise SegprefError(
            f"{path} has a {name} that holds {strange[:3].tolist() or array.dtype}, where values are "
            f"whole numbers below {most}: pack the dataset again"
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
    if space is not None and space.unlabelled:
        raise SegprefError(
            "a packed dataset has labels of all its structures, and here nothing is known of "
            f"{', '.join(space.unlabelled)}: pack the dataset as it is on disk"
        )
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
    if not all(isinstance(name, str) for name in content["names"]):
        raise TypeError("a name of a class that is no text")
    regions = tuple(Region(one["name"], tuple(one["values"])) for one in content["regions"])
    on_disk = tuple(content.get("on_disk", ()))
    return LabelSpace(content["kind"], tuple(content["names"]), regions, on_disk)
