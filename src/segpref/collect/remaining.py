"""Who a study folder names besides what it asks, and which of its files erasing a patient leaves."""

from __future__ import annotations

from pathlib import Path

from segpref.collect.study import StudyFolder
from segpref.data.checksummed_tensors import read_metadata
from segpref.data.splits import PARTS, Split
from segpref.disk import Damaged
from segpref.types import SegprefError

__all__ = ["other_files", "patients_of", "was_trained_on"]

_OWN = {
    "base.safetensors", "choose", "contents.json", "display", "served", "set", "split.json",
    "study.json",
}  # fmt: skip


def patients_of(study: StudyFolder) -> set[str]:
    """Patients that :meth:`StudyFolder.erase` removes: those asked about, and those in the split."""
    found = {one.patient for one in study.contents().items}
    if (file := study.path / "split.json").is_file():
        split = Split.load(file)
        found.update(*(getattr(split, part) for part in PARTS))
    return found


def was_trained_on(study: StudyFolder, patient: str) -> bool:
    """Whether the card of the study's model names a patient among those it was trained on.

    Raises:
        SegprefError: the file is not what was written.
    """
    if not study.base.is_file():
        return False
    try:
        card = read_metadata(study.base, "card")
    except Damaged as error:
        raise SegprefError(
            f"{study.base} is not what was written ({error}): restore it, or make the study again"
        ) from error
    return patient in card.get("labelled", ())


def other_files(study: StudyFolder) -> tuple[Path, ...]:
    """What lies in the folder beside the study and its database: reports, backups, exports."""
    database = {f"{study.database.name}{end}" for end in ("", "-wal", "-shm")}
    return tuple(one for one in sorted(study.path.iterdir()) if one.name not in _OWN | database)
