"""Changes of images and labels."""

from __future__ import annotations

import gzip
import io
import unicodedata
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from made import (
    AFFINE,
    GREY,
    MAP,
    MASK,
    VOLUME,
    VOLUME_MAP,
    case,
    pairs,
    picture,
    read,
    volumes,
)
from mutations import Mutation, cut, flipped, hold, labelled, spread
from PIL import Image

CLASSES = {"names": ["background", "a", "b"]}
PICTURE = partial(case, GREY, MAP)
SPACING = (1.0, 1.5, 2.0)
SCAN = partial(case, VOLUME, VOLUME_MAP, spacing_mm=SPACING)


def encoded(array: np.ndarray, ending: str, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, ending, **how)
    return file.getvalue()


def as_nifti(array: np.ndarray, affine: np.ndarray = AFFINE) -> bytes:
    return gzip.compress(nib.Nifti1Image(array, affine).to_bytes(), mtime=0)


def written(folder: Path, place: str, data: bytes, base: Any = pairs) -> Any:
    base(folder)
    (folder / place).write_bytes(data)
    return read(folder, **CLASSES)


def damaged() -> Iterator[Mutation]:
    """Files that were cut off on their way, or are something else."""
    for seed, (place, data, base) in enumerate(
        [
            ("images/a.png", encoded(GREY, "PNG"), pairs),
            ("labels/a.png", encoded(MAP, "PNG"), pairs),
            ("images/a.nii.gz", as_nifti(VOLUME), volumes),
            ("labels/a.nii.gz", as_nifti(VOLUME_MAP), volumes),
        ]
    ):
        for at, part in cut(data, 25, seed, last=0.9):
            yield Mutation(
                f"{place} cut at {at}",
                "refuse",
                partial(written, place=place, data=part, base=base),
            )
        for name, other in {
            "text": b"no image\n" * 9,
            "zeros": bytes(len(data)),
            "html": b"<!DOCTYPE html><html>404</html>",
            "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        }.items():
            yield Mutation(
                f"{place} is {name}", "refuse", partial(written, place=place, data=other, base=base)
            )
    for at, data in flipped(
        gzip.compress(nib.Nifti1Image(VOLUME, AFFINE).to_bytes(), mtime=0), 20, 9, first=12
    ):
        yield Mutation(
            f"scan with a bit turned at {at}",
            "refuse",
            partial(written, place="images/a.nii.gz", data=data, base=volumes),
        )


def odd_values() -> Iterator[Mutation]:
    """Values that no image and no label map holds."""
    for seed, value in enumerate([np.nan, np.inf, -np.inf]):
        for at in spread(4, VOLUME.size, seed):
            array = VOLUME.astype(np.float32)
            array.flat[at] = value
            yield Mutation(
                f"{value} in an image at {at}",
                "refuse",
                partial(written, place="images/a.nii.gz", data=as_nifti(array), base=volumes),
            )
            array = VOLUME_MAP.astype(np.float32)
            array.flat[at] = value
            yield Mutation(
                f"{value} in a label map at {at}",
                "refuse",
                partial(written, place="labels/a.nii.gz", data=as_nifti(array), base=volumes),
            )
    for seed, odd in enumerate([3, 7, 100, 254]):
        for at in spread(4, MAP.size, seed):
            array = MAP.copy()
            array.flat[at] = odd
            yield Mutation(
                f"class {odd} at {at}",
                "refuse",
                partial(written, place="labels/a.png", data=encoded(array, "PNG")),
            )
    for seed, odd in enumerate([-1, 3, 255, 4000, 0.5, 1.25]):
        for at in spread(3, VOLUME_MAP.size, seed):
            array = VOLUME_MAP.astype(np.float32)
            array.flat[at] = odd
            yield Mutation(
                f"value {odd} of a scan's labels at {at}",
                "refuse",
                partial(written, place="labels/a.nii.gz", data=as_nifti(array), base=volumes),
            )


def other_grids() -> Iterator[Mutation]:
    """Labels that lie elsewhere than their image."""
    for axis in range(2):
        for n in (1, 5, 19):
            shorter = np.delete(MAP, np.s_[:n], axis)
            yield Mutation(
                f"labels without {n} along axis {axis}",
                "refuse",
                partial(written, place="labels/a.png", data=encoded(shorter, "PNG")),
            )
    yield Mutation(
        "labels lie on their side",
        "refuse",
        partial(written, place="labels/a.png", data=encoded(MAP.T.copy(), "PNG")),
    )
    for axis in range(3):
        shorter = np.delete(VOLUME_MAP, 0, axis)
        yield Mutation(
            f"scan's labels shorter along {axis}",
            "refuse",
            partial(written, place="labels/a.nii.gz", data=as_nifti(shorter), base=volumes),
        )
        moved = AFFINE.copy()
        moved[axis, 3] += 1.0
        yield Mutation(
            f"scan's labels moved along {axis}",
            "refuse",
            partial(
                written, place="labels/a.nii.gz", data=as_nifti(VOLUME_MAP, moved), base=volumes
            ),
        )
        longer = AFFINE.copy()
        longer[axis, axis] *= 1.1
        yield Mutation(
            f"scan's labels of other voxels along {axis}",
            "refuse",
            partial(
                written, place="labels/a.nii.gz", data=as_nifti(VOLUME_MAP, longer), base=volumes
            ),
        )
        empty = np.zeros([0 if n == axis else 4 for n in range(3)], np.uint8)
        yield Mutation(
            f"scan of no voxels along {axis}",
            "refuse",
            partial(written, place="images/a.nii.gz", data=as_nifti(empty), base=volumes),
        )


def misplaced(folder: Path, what: str) -> Any:
    pairs(folder)
    if what == "image gone":
        (folder / "images/a.png").unlink()
        picture(folder / "images/b.png", GREY)
    elif what == "label of nobody":
        picture(folder / "labels/b.png", MAP)
    elif what == "two labels":
        picture(folder / "labels/a.bmp", MAP)
    elif what == "two images":
        picture(folder / "images/a.bmp", GREY)
    elif what == "no images":
        (folder / "images/a.png").unlink()
    elif what == "label is a folder":
        (folder / "labels/a.png").unlink()
        (folder / "labels/a.png").mkdir()
        picture(folder / "labels/a.png/b.png", MAP)
    elif what == "link to nowhere":
        (folder / "images/a.png").unlink()
        (folder / "images/a.png").symlink_to(folder / "gone.png")
    elif what == "label as JPEG":
        (folder / "labels/a.png").unlink()
        picture(folder / "labels/a.jpg", MAP * 100)
    return read(folder, **CLASSES)


def misplaced_files() -> Iterator[Mutation]:
    for what in (
        "image gone", "label of nobody", "two labels", "two images", "no images",
        "label is a folder", "link to nowhere", "label as JPEG",
    ):  # fmt: skip
        yield Mutation(what, "refuse", partial(misplaced, what=what))


def stored(folder: Path, image: str, label: str, how: dict[str, Any], turn: Any = None) -> Any:
    picture(folder / "images" / image, GREY, **how)
    picture(folder / "labels" / label, MAP, **how)
    if turn is not None:
        turn(folder)
    return read(folder, **CLASSES)


def stored_scan(folder: Path, ending: str, kind: Any, image_class: Any, big: bool = False) -> Any:
    for place, array in (("images", VOLUME), ("labels", VOLUME_MAP)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        changed = array.astype(np.dtype(kind).newbyteorder(">" if big else "<"))
        header = image_class.header_class(endianness=">" if big else "<")
        nib.save(
            image_class(changed, AFFINE, header, dtype=changed.dtype), folder / place / f"a{ending}"
        )
    return read(folder, **CLASSES)


def stored_otherwise() -> Iterator[Mutation]:
    """The same values in another file."""
    for image in ("png", "bmp", "tif", "tiff", "gif", "PNG", "TIF"):
        for label in ("png", "bmp", "tif", "gif", "PNG"):
            yield Mutation(
                f"{image} with {label}",
                "equal",
                partial(stored, image=f"a.{image}", label=f"a.{label}", how={}),
                PICTURE,
            )
    for level in range(10):
        yield Mutation(
            f"PNG of level {level}",
            "equal",
            partial(stored, image="a.png", label="a.png", how={"compress_level": level}),
            PICTURE,
        )
    for kind in ("raw", "tiff_deflate", "packbits", "tiff_adobe_deflate"):
        yield Mutation(
            f"TIFF {kind}",
            "equal",
            partial(stored, image="a.tif", label="a.tif", how={"compression": kind}),
            PICTURE,
        )
    for ending in (".nii", ".nii.gz", ".NII.GZ"):
        for kind in ("i2", "i4", "u2", "f4", "f8", "u4"):
            for big in (False, True):
                for version in (nib.Nifti1Image, nib.Nifti2Image):
                    if ending.isupper() and version is nib.Nifti2Image:
                        continue
                    name = f"{version.__name__} {kind} {'big' if big else 'little'} {ending}"
                    yield Mutation(
                        name,
                        "equal",
                        partial(
                            stored_scan, ending=ending, kind=kind, image_class=version, big=big
                        ),
                        SCAN,
                    )


LEFTOVERS = (
    "images/.DS_Store", "images/Thumbs.db", "labels/desktop.ini", "images/._a.png", "labels/._a.png",
    "images/.ipynb_checkpoints/a-checkpoint.png", "labels/.ipynb_checkpoints/a.png", ".git/a.png",
    "__MACOSX/images/._a.png", "images/@eaDir/a.png", "images/~$a.png", "images/notes.txt",
    "README.md", "images/.a.png.swp", "labels/__MACOSX/a.png", "$RECYCLE.BIN/a.png",
)  # fmt: skip


def with_leftover(folder: Path, name: str) -> Any:
    pairs(folder)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png" and not path.name.startswith("._"):
        picture(path, GREY[:5])
    else:
        path.write_bytes(b"\0\5\26\7 of another program")
    return read(folder, **CLASSES)


def linked(folder: Path, what: str) -> Any:
    whole, data = pairs(folder / "store"), folder / "data"
    data.mkdir()
    if what == "files":
        for place in ("images", "labels"):
            (data / place).mkdir()
            (data / place / "a.png").symlink_to(whole / place / "a.png")
    elif what == "folders":
        for place in ("images", "labels"):
            (data / place).symlink_to(whole / place)
    elif what == "root":
        data.rmdir()
        data.symlink_to(whole)
    else:
        data.rmdir()
        whole.rename(data)
        (data / "images/round").symlink_to(data)
        (data / "labels/round").symlink_to(data / "labels")
    return read(data, **CLASSES)


def named(folder: Path, image: str, label: str) -> Any:
    found = read(pairs(folder, image, label), **CLASSES)
    return next(iter(found.values())) | {"patient": "a"}


def organised_otherwise() -> Iterator[Mutation]:
    """The same dataset as somebody else would keep it."""
    for name in LEFTOVERS:
        yield Mutation(f"with {name}", "equal", partial(with_leftover, name=name), PICTURE)
    for what in ("files", "folders", "root", "in circles"):
        yield Mutation(f"links: {what}", "equal", partial(linked, what=what), PICTURE)
    right = partial(PICTURE().get, "a")
    for text in ("père", "Ångström", "ñandú", "각", "é.ü"):
        for form in ("NFC", "NFD"):
            for other in ("NFC", "NFD"):
                image, label = (unicodedata.normalize(each, text) for each in (form, other))
                yield Mutation(
                    f"{text} {form} {other}",
                    "equal",
                    partial(named, image=f"{image}.png", label=f"{label}.png"),
                    right,
                )
    for suffix in ("_mask", "_segmentation", "_seg", "-mask", "_label", "_gt", "_masks"):
        yield Mutation(
            f"labels named a{suffix}",
            "equal",
            partial(named, image="a.png", label=f"a{suffix}.png"),
            right,
        )
    for odd in ("with space", "a+b", "a(1)", "a,b", "日本", "x.y.z", "ÄÖ", "a#1", "a=b", "100%"):
        yield Mutation(
            f"named {odd}",
            "equal",
            partial(named, image=f"{odd}.png", label=f"{odd}.png"),
            right,
        )


def masked(folder: Path, values: tuple[int, int], ending: str, kind: Any = np.uint8) -> Any:
    picture(folder / "images/a.png", GREY)
    picture(folder / f"masks/a.{ending}", np.where(MASK, values[1], values[0]).astype(kind))
    return read(folder)


def masks() -> Iterator[Mutation]:
    right = partial(case, GREY, MASK)
    for ending in ("png", "bmp", "tif", "gif"):
        for values in ((0, 1), (0, 255)):
            yield Mutation(
                f"mask of {values} as {ending}",
                "equal",
                partial(masked, values=values, ending=ending),
                right,
            )
    yield Mutation(
        "mask of one bit", "equal", partial(masked, values=(0, 1), ending="png", kind=bool), right
    )


ALL = [
    *damaged(), *odd_values(), *other_grids(), *misplaced_files(),
    *stored_otherwise(), *organised_otherwise(), *masks(),
]  # fmt: skip


@pytest.mark.parametrize("mutation", labelled(ALL))
def test_files(mutation: Mutation, tmp_path: Path) -> None:
    hold(mutation, tmp_path)
