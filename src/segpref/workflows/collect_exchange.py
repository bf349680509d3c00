"""Votes of a study in files that other programs read, and back into a study."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from segpref.collect import SlatesByCase, StudyFolder, VoteStore, contents_digest
from segpref.collect.rules import Rules
from segpref.collect.vote_tables import VOTE_TABLES, insert_vote_tables, vote_tables
from segpref.preferences import (
    Form,
    content_ids,
    read_table,
    save_mask,
    table_file,
    write_preferences,
    write_table,
)
from segpref.targets import check_outputs
from segpref.types import SegprefError

__all__ = ["Exported", "export_votes", "import_votes"]


class Exported(NamedTuple):
    """What was written.

    Args:
        folder: where.
        preferences: how many.
        votes: how many, with those that were taken back.
        masks: how many.
    """

    folder: Path
    preferences: int
    votes: int
    masks: int


def export_votes(
    study: Path | str, out: Path | str, *, database: str | None = None, form: Form = "jsonl"
) -> Exported:
    """Write the votes of a study: as preferences with TRL's column names and masks, and as they are.

    ``preferences``, ``ratings`` and ``undecided`` are what is learned from
    (:mod:`segpref.preferences.exchange_rows`); ``raters``, ``assignments`` and ``votes`` are the tables
    of the database, from which :func:`import_votes` makes an equal one. Links and sessions of raters
    are left out. Case ids are those of the dataset, which may name patients.

    Args:
        study: its folder.
        out: folder that is made.
        database: where the votes are, if not in the study's folder.
        form: of the tables.

    Raises:
        SegprefError: no study, no votes, or a folder that holds something.
    """
    target = Path(out)
    check_outputs(folders=[target])
    if target.is_dir() and any(target.iterdir()):
        raise SegprefError(f"{target} is not empty: choose another --out")
    folder = StudyFolder(study)
    with VoteStore(folder.database if database is None else database) as store:
        _check_same(store, folder, database)
        records = store.preferences()
        with store.reading() as connection:
            tables = vote_tables(connection)
    if not tables["votes"]:
        raise SegprefError(f"nobody has voted in {folder.path}: there is nothing to export")
    wanted = {(one.case, name) for one in records for name in one.candidates}
    anchors, cases, masks = dict[str, str](), list[str](), 0
    for place in (folder.slates, folder.held_out):
        kept = SlatesByCase.of_set(place)
        cases += kept.cases
        for case in kept.cases:
            slate = kept.slate(case)
            ids = content_ids(slate)
            anchors[case] = ids[0]
            for name, mask in dict(zip(ids, slate.masks, strict=True)).items():
                if name == ids[0] or (case, name) in wanted:
                    save_mask(target, mask, name)
                    masks += 1
    for name in VOTE_TABLES:
        write_table(target, name, tables[name], form)
    write_preferences(
        target, records, model_digest=folder.note.model_digest, cases=cases, anchors=anchors,
        form=form, model=str(folder.base),
    )  # fmt: skip
    return Exported(target, len(records), len(tables["votes"]), masks)


def import_votes(study: Path | str, source: Path | str, *, database: str | None = None) -> int:
    """Write exported votes into the empty database of the same study.

    Args:
        study: its folder, or a copy.
        source: folder of :func:`export_votes`.
        database: where the votes go, if not into the study's folder.

    Returns:
        How many votes there are now.

    Raises:
        SegprefError: votes of another study, damaged ones, or a database that has raters already.
    """
    folder, given = StudyFolder(study), Path(source)
    files = {name: table_file(given, name) for name in VOTE_TABLES}
    if files["votes"] is None:
        raise SegprefError(
            f"{given} holds no exported votes: give a folder of segpref collect export"
        )
    tables = {name: read_table(file) for name, file in files.items() if file is not None}
    with VoteStore(folder.database if database is None else database) as store:
        if store.contents_digest is None:
            shares = folder.note.settings
            rules = {k: shares[k] for k in ("repeats", "gold") if k in shares}
            store.create(folder.contents(), Rules(**rules))
        _check_same(store, folder, database)
        with store.writing(alone=True) as connection:
            insert_vote_tables(connection, tables, store.database.kind)
        return sum(1 for _ in store.votes())


def _check_same(store: VoteStore, folder: StudyFolder, database: str | None) -> None:
    if store.contents_digest != contents_digest(folder.contents()):
        where = database or folder.database
        raise SegprefError(
            f"{where} does not hold the votes of {folder.path}: give the --database of this study"
        )
