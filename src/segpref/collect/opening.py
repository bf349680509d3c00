"""The votes of a study folder, opened."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from segpref.collect.contents import Contents
from segpref.collect.contents_rows import contents_digest
from segpref.collect.rules import Rules
from segpref.collect.study import StudyFolder
from segpref.collect.vote_store import VoteStore
from segpref.types import SegprefError

__all__ = ["check_same_study", "open_store", "without"]


def open_store(study: StudyFolder, database: str | Path | None = None) -> VoteStore:
    """The votes of a study; an empty database is filled with what the study asks.

    Args:
        study: what is asked.
        database: file or URL; the study's own file if left out.

    Raises:
        SegprefError: the database holds another study, or can't be used.
    """
    store = VoteStore(study.database if database is None else database)
    if store.contents_digest is None:
        settings = study.note.settings
        given = {name: settings[name] for name in ("repeats", "gold") if name in settings}
        store.create(study.contents(), Rules(**given))
    else:
        check_same_study(study, store)
    return store


def check_same_study(
    study: StudyFolder, store: VoteStore, erased: Collection[str] = ()
) -> set[str]:
    """Refuse a database of another study.

    Args:
        study: what is asked.
        store: the votes.
        erased: patients that may be missing in the one or the other.

    Returns:
        Those of these patients that the database has.

    Raises:
        SegprefError: it is one of another study, or is empty.
    """
    if store.contents_digest is None:
        raise SegprefError(f"{store.database.name} holds no study: choose another --database")
    held = store.contents()
    if contents_digest(without(held, erased)) != contents_digest(without(study.contents(), erased)):
        raise SegprefError(
            f"{store.database.name} holds the votes of another study than {study.path}: choose another "
            "--database"
        )
    return {one.patient for one in held.items} & set(erased)


def without(contents: Contents, patients: Collection[str]) -> Contents:
    """What a study asks about all other patients."""
    items = tuple(one for one in contents.items if one.patient not in patients)
    left = {one.id for one in items}
    return Contents(
        items=items,
        masks=tuple(one for one in contents.masks if one.item in left),
        pairs=tuple(one for one in contents.pairs if one.item in left),
    )
