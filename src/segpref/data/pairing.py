"""Which masks belong to which image in plain folders: by their names."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from segpref.data.index import image_files, required, source_id
from segpref.data.volumes import file_stem
from segpref.data.walk import entries
from segpref.types import SegprefError

__all__ = [
    "ONE_STRUCTURE",
    "Groups",
    "MasksOfImages",
    "apart",
    "beside",
    "by_image",
    "chosen",
    "folder_of",
    "suffix_beside",
    "usual_suffix",
    "without",
]

ONE_STRUCTURE = "foreground"

Groups = dict[str, dict[str, list[Path]]]
"""Mask files by structure ("" for label maps) and by the key of their image."""


MasksOfImages = dict[Path, tuple[tuple[Path, ...], ...]]
"""Per image the mask files of every structure."""

SUFFIXES = tuple(
    f"{sign}{word}"
    for word in ("mask", "segmentation", "seg", "label", "labels", "gt", "masks", "annotation")
    for sign in ("_", "-")
)
"""What the names of masks usually end with, the most usual first."""

_DERIVED = ("_superpixels",)
"""Pictures beside the images of ISIC that were computed from them."""

_MASK_FOLDERS = ("labels", "masks", "label", "mask")


def usual_suffix(images: Iterable[Path], masks: Iterable[Path]) -> str:
    """What the names of all masks have more than those of their images; empty where they have nothing.

    Only the usual endings count (``_mask``, ``_segmentation``, ``-seg`` ...), and only where every mask
    has it and none has an image without.
    """
    stems = {plain_stem(path) for path in images}
    marked = [plain_stem(path) for path in masks]
    if not marked or stems & set(marked):
        return ""
    for suffix in SUFFIXES:
        ending = _ending(suffix)
        bare = [ending.sub("", stem) for stem in marked if ending.search(stem)]
        if len(bare) == len(marked) and stems & set(bare):
            return suffix
    return ""


def suffix_beside(files: Sequence[Path]) -> str | None:
    """The usual suffix of masks among images and masks of one folder, or None.

    That of most files, of which each has its image beside it or in another folder.
    """
    stems = {plain_stem(path) for path in files}
    counts = Counter(
        suffix
        for suffix in SUFFIXES
        for stem in stems
        if stem.endswith(suffix) and stem.removesuffix(suffix) in stems
    )
    return counts.most_common(1)[0][0] if counts else None


def plain_stem(path: Path) -> str:
    """File name without its ending; letters with accents are one sign, whoever wrote the name."""
    return unicodedata.normalize("NFC", file_stem(path))


def folder_of(root: Path, names: Sequence[str]) -> Path | None:
    """The folder of one of these names, the first first, in capitals or not; None without any."""
    there = {path.name.lower(): path for path in reversed(entries(root)) if path.is_dir()}
    return next((there[name] for name in names if name in there), None)


def apart(folder: Path, images: str, labels: str | None, suffix: str) -> tuple[list[Path], Groups]:
    """Images, and masks of another folder: label maps, or one folder of masks per structure."""
    named = folder / images
    place = named if named.is_dir() else folder_of(folder, (images.lower(),)) or named
    required(place, "holds the images", "rename the folder or set images")
    masks = folder / labels if labels else folder_of(folder, _MASK_FOLDERS) or folder / "labels"
    required(masks, "holds the label maps or masks", "rename the folder or set labels")
    pictures = image_files(place, recursive=True)
    files = _structures(masks, {path.parent.name for path in pictures if path.parent != place})
    # One suffix for all folders: each alone may say too little.
    suffix = suffix or usual_suffix(pictures, [path for part in files.values() for path in part])
    return pictures, {name: _by_key(part, suffix) for name, part in files.items()}


def _structures(masks: Path, parts: Collection[str]) -> dict[str, list[Path]]:
    """Mask files by structure, which is a folder; by "" where the folders are parts of the dataset.

    Args:
        masks: the folder of all.
        parts: folders in which images lie, such as ``train`` and ``val``.
    """
    found: dict[str, list[Path]] = {}
    for path in image_files(masks, recursive=True):
        first, *below = path.relative_to(masks).parts
        found.setdefault(first if below else "", []).append(path)
    loose = found.pop("", [])
    if not set(found) - set(parts):
        return {"": [*loose, *(path for files in found.values() for path in files)]}
    if loose:
        raise SegprefError(
            f"{loose[0]} lies beside the folders of structures ({', '.join(found)}): move it into "
            "one of them, or the folders elsewhere"
        )
    return found


def beside(folder: Path, suffix: str) -> tuple[list[Path], Groups]:
    """Images, and masks of one structure that are named after them, wherever below the folder."""
    marked = re.compile(rf".*{re.escape(suffix)}(_\d+)?")
    files = image_files(folder, recursive=True)
    masks = [path for path in files if marked.fullmatch(plain_stem(path))]
    if not masks:
        raise SegprefError(
            f"{folder} holds neither images/ nor files named like NAME{suffix}.png: correct suffix"
        )
    others = [path for path in files if not marked.fullmatch(plain_stem(path))]
    stems = {plain_stem(path) for path in others}
    images = [path for path in others if not _is_derived(plain_stem(path), stems)]
    own = {key_of(path, beside=True) for path in images}
    elsewhere: dict[str, list[str]] = {}
    for path in images:
        elsewhere.setdefault(plain_stem(path), []).append(key_of(path, beside=True))
    found: dict[str, list[Path]] = {}
    for key, paths in _by_key(masks, suffix, beside=True).items():
        # As ISIC is distributed: all images in one folder, all masks in another.
        same = elsewhere.get(Path(key).name, [])
        found.setdefault(same[0] if key not in own and len(same) == 1 else key, []).extend(paths)
    return images, {ONE_STRUCTURE: found}


def _is_derived(stem: str, stems: Collection[str]) -> bool:
    return any(stem.endswith(one) and stem.removesuffix(one) in stems for one in _DERIVED)


def _ending(suffix: str) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(suffix)}(_\d+)?$")


def _by_key(files: Iterable[Path], suffix: str, beside: bool = False) -> dict[str, list[Path]]:
    ending = _ending(suffix) if suffix else None
    found: dict[str, list[Path]] = {}
    for path in files:
        stem = ending.sub("", plain_stem(path)) if ending else plain_stem(path)
        found.setdefault(str(path.parent / stem) if beside else stem, []).append(path)
    for paths in found.values():
        if len(paths) > 1 and (not suffix or len({path.parent for path in paths}) > 1):
            raise SegprefError(
                f"{paths[0]} and {paths[1]} are masks of one image: remove one of them"
            )
    return found


def chosen(folder: Path, groups: Groups, names: Sequence[str]) -> Groups:
    """The structures that are asked for, in their order."""
    if not names or "" in groups:
        return groups
    if len(names) == 1 and list(groups) == [ONE_STRUCTURE]:
        return groups
    for name in names:
        if name not in groups:
            raise SegprefError(
                f"{folder} has no masks of {name!r}, only of {', '.join(groups)}: correct names"
            )
    return {name: groups[name] for name in names}


def without(
    folder: Path, exclude: Sequence[str] | str, images: Sequence[Path], groups: Groups, beside: bool
) -> tuple[list[Path], Groups]:
    """Images and masks but for those to leave out."""
    names = [exclude] if isinstance(exclude, str) else exclude
    meant = {name: [path for path in images if _named(path, name)] for name in names}
    if unknown := [name for name, paths in meant.items() if not paths]:
        raise SegprefError(
            f"{folder} has no image with the id {min(unknown)!r} to leave out: correct exclude"
        )
    out = {path for paths in meant.values() for path in paths}
    keys = {key_of(path, beside) for path in out}
    kept = {
        structure: {key: files for key, files in masks.items() if key not in keys}
        for structure, masks in groups.items()
    }
    return [path for path in images if path not in out], kept


def _named(image: Path, name: str) -> bool:
    """Whether an image is called so, or as a pattern with ``*`` says."""
    own, name = plain_stem(image), unicodedata.normalize("NFC", name)
    return source_id(own) == source_id(name) or ("*" in name and fnmatchcase(own, name))


def key_of(image: Path, beside: bool) -> str:
    """What an image and its masks are matched by."""
    return str(image.parent / plain_stem(image)) if beside else plain_stem(image)


def by_image(images: Sequence[Path], groups: Groups, beside: bool) -> MasksOfImages:
    """Per image the mask files of every structure; images without any are left out."""
    if not any(groups.values()):
        return {}
    keys = {path: key_of(path, beside) for path in images}
    for masks in groups.values():
        for key in sorted(set(masks) - set(keys.values())):
            raise SegprefError(
                f"{masks[key][0]} has no image: restore the image, remove the mask, or set suffix if "
                "masks are named differently"
            )
    found = {}
    for path, key in keys.items():
        missing = [structure for structure, masks in groups.items() if key not in masks]
        if len(missing) == len(groups):
            continue
        if missing:
            raise SegprefError(
                f"{path} lacks the mask of {' and '.join(missing)}: add it, empty where there is none"
            )
        found[path] = tuple(tuple(masks[key]) for masks in groups.values())
    return found
