"""Images in formats that are not read: told by their names, or by how their content begins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["content_format", "unread"]

_ENDINGS = (
    ".hdr", ".img", ".hdr.gz", ".img.gz", ".mgh", ".mgz", ".mnc",
    ".vti", ".webp", ".jp2", ".j2k", ".jxl", ".heic", ".avif", ".npy", ".npz", ".h5", ".hdf5", ".mat",
    ".svs", ".ndpi", ".czi", ".lif", ".nd2",
)  # fmt: skip

_CONTENT = (
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBP", "WebP"),
    (4, b"jP  ", "JPEG 2000"),
    (4, b"ftyp", "HEIC or AVIF"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"\x89HDF", "HDF5"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"%PDF", "PDF"),
    (0, b"NRRD", "NRRD"),
    (0, b"version https://git-lfs", "a pointer of Git LFS"),
    (128, b"DICM", "DICOM"),
    (344, b"n+1\0", "NIfTI"),
    (344, b"ni1\0", "a NIfTI header without its voxels"),
    (4, b"n+2\0", "NIfTI"),
)


def unread(files: Iterable[Path]) -> list[Path]:
    """Those that are images by their names, but of formats that no reader takes."""
    return [path for path in files if path.name.lower().endswith(_ENDINGS)]


def content_format(path: Path) -> str | None:
    """What a file is by its first bytes, whatever its name says; None where they tell nothing."""
    try:
        with path.open("rb") as file:
            head = file.read(352)
    except OSError:
        return None
    return next((name for at, mark, name in _CONTENT if head[at:].startswith(mark)), None)
