"""Which files are DICOM: by their names, by the mark in them, or by how they begin."""

from __future__ import annotations

from pathlib import Path

from segpref.data.dicom_file import read_dicom
from segpref.disk import refuse_scarcity
from segpref.late import late

__all__ = ["is_dicom"]

pydicom = late("pydicom")

_SUFFIXES = (".dcm", ".dicom")


def is_dicom(path: Path) -> bool:
    """Whether the name, a mark in the file, or how it begins says DICOM.

    Hidden files and a DICOMDIR index do not count. A file that is named DICOM does, whatever is in
    it: a slice that was damaged must not be passed over in silence.
    """
    if path.name.upper() == "DICOMDIR" or path.name.startswith("."):
        return False
    if path.suffix.lower() in _SUFFIXES:
        return not path.is_dir()
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(132)
    except OSError as error:
        refuse_scarcity(path, error)
        return False
    return head[128:] == b"DICM" or (_begins_like_one(head) and _states_its_kind(path))


def _begins_like_one(head: bytes) -> bool:
    """Whether the first element is one of the groups 2 and 8, as where a preamble is missing."""
    if head[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        return False
    order = "big" if head[0] == 0 else "little"
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or int.from_bytes(head[4:8], order) <= 64  # type: ignore[arg-type]


def _states_its_kind(path: Path) -> bool:
    try:
        tags = ["SOPClassUID", "Rows"]
        found = read_dicom(path, stop_before_pixels=True, specific_tags=tags)
        return bool(found.get("SOPClassUID")) or bool(found.get("Rows"))
    except Exception:  # pydicom raises whatever a file that is none makes it stumble over
        return False
