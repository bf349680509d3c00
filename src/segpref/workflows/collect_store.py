"""Raters, backups and erasing: what a study of votes needs besides its page and its report."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from segpref.collect import (
    Progress,
    Rater,
    StudyFolder,
    VoteStore,
    check_same_study,
    open_store,
    other_files,
    patients_of,
    was_trained_on,
)
from segpref.locking import alone_in
from segpref.targets import check_outputs
from segpref.types import SegprefError

__all__ = [
    "ErasedPatient",
    "StudyRaters",
    "backup_votes",
    "change_raters",
    "erase_patient",
    "restore_votes",
]

_RESTORED = "erased before this backup was restored"


@dataclass(frozen=True)
class StudyRaters:
    """Who may vote.

    Args:
        raters: all raters, and how far they are.
        tokens: of the links that were made, by pseudonym; they are kept nowhere.
    """

    raters: Sequence[tuple[Rater, Progress]]
    tokens: Mapping[str, str]


@dataclass(frozen=True)
class ErasedPatient:
    """What was removed.

    Args:
        images: from the study.
        masks: from the study.
        pairs: from the study.
        votes: from the database; None where there is none.
        trained_on: whether the study's model was trained on the patient, whom its card still names.
        others: what lies in the study folder beside the study and was left as it is.
    """

    images: int
    masks: int
    pairs: int
    votes: int | None
    trained_on: bool = False
    others: tuple[Path, ...] = ()


def change_raters(
    study: Path | str,
    *,
    add: Collection[str] = (),
    link: Collection[str] = (),
    revoke: Collection[str] = (),
    database: str | Path | None = None,
) -> StudyRaters:
    """Add raters, make links and revoke raters of a study; the page may be served meanwhile.

    Args:
        study: its folder.
        add: pseudonyms of new raters.
        link: who gets another link.
        revoke: whose links and sessions end.
        database: where votes are kept, as a file or URL; in the study if left out.

    Raises:
        SegprefError: no study, or a rater that is there already or not at all; nobody is changed then.
    """
    with closing(open_store(StudyFolder(study), database)) as store:
        tokens = store.change_raters(add=add, link=link, revoke=revoke)
        return StudyRaters([(one, store.progress(one)) for one in store.raters()], tokens)


def backup_votes(study: Path | str, out: Path | str, *, database: str | Path | None = None) -> Path:
    """Copy the votes of a study to a new file; voting may go on.

    Args:
        study: its folder.
        out: the SQLite file to make, with raters, links and everything else in it.
        database: where votes are kept, as a file or URL; in the study if left out.

    Raises:
        SegprefError: no study, or a file that is there already or can't be written.
    """
    check_outputs([Path(out)])
    folder = StudyFolder(study)
    with closing(VoteStore(folder.database if database is None else database)) as store:
        check_same_study(folder, store)
        store.backup(out)
    return Path(out)


def restore_votes(
    study: Path | str, backup: Path | str, *, database: str | Path | None = None
) -> int:
    """Copy a backup into an empty database; who was erased from the study since is left out.

    Args:
        study: folder of the study.
        backup: the file.
        database: an empty one, as a file or URL; in the study if left out.

    Returns:
        How many votes there are.

    Raises:
        SegprefError: no study, no backup of it, or a database that is not empty.
    """
    folder = StudyFolder(study)
    given = Path(backup)
    if not given.is_file():
        raise SegprefError(f"there is no file {given}: give one that segpref collect backup wrote")
    patients = {one.patient for one in folder.contents().items}
    where = folder.database if database is None else database
    with alone_in(folder.path / "served"), closing(VoteStore.of_file(given)) as source:
        held = {one.patient for one in source.contents().items}
        erased = check_same_study(folder, source, held - patients)
        with closing(VoteStore.restore(given, where)) as store:
            for patient in sorted(erased):
                store.erase(patient, _RESTORED)
            return sum(1 for _ in store.votes())


def erase_patient(
    study: Path | str, patient: str, reason: str, *, database: str | Path | None = None
) -> ErasedPatient:
    """Remove a patient's images, masks and votes from a study that is not being served.

    Database first, then the folder; where it was stopped, the same call finishes it. Backups, models
    that learned from the patient, and reports are not touched; the result names those in the folder.

    Args:
        study: its folder.
        patient: id as the dataset has it.
        reason: is kept in the database, with the date; without ids of the patient.
        database: where votes are kept, as a file or URL; in the study if left out.

    Raises:
        SegprefError: no study, no such patient, a reason that names the patient, or a page that is
            being served.
    """
    folder = StudyFolder(study)
    with alone_in(folder.path / "served"):
        votes = None
        with closing(VoteStore(folder.database if database is None else database)) as store:
            if database is not None or store.contents_digest is not None:
                there = check_same_study(folder, store, [patient])
                if not there and patient not in patients_of(folder):
                    raise _unknown(folder, patient)
                if there:
                    votes = store.erase(patient, reason).votes
                else:
                    votes = 0
                    store.scrub()
            elif patient not in patients_of(folder):
                raise _unknown(folder, patient)
        found = folder.erase(patient)
    return ErasedPatient(
        **found, votes=votes, trained_on=was_trained_on(folder, patient), others=other_files(folder)
    )


def _unknown(folder: StudyFolder, patient: str) -> SegprefError:
    if was_trained_on(folder, patient):
        return SegprefError(
            f"this study asks nothing about patient {patient!r}, but its model was trained on them, "
            f"and {folder.base} names them: train a model without them, and make the study again with "
            "it"
        )
    return SegprefError(
        f"there is no patient {patient!r} in this study: give the id as the dataset has it"
    )
