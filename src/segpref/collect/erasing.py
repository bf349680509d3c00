"""Erasing a patient: the one exception to votes being kept for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, delete, insert, select, text, update

from segpref.collect import tables
from segpref.collect.contents_rows import contents_digest, select_contents
from segpref.collect.database import Database
from segpref.types import SegprefError

__all__ = ["Erased", "erase_patient", "scrub"]

_SCRUBBED = ("item", "mask", "pair", "assignment", "vote", "erasing", "note", "study")


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was removed.

    Args:
        images: number of items.
        masks: number of candidates.
        pairs: number of questions.
        votes: number of votes, those that were taken back included.
        assets: names of display files that nothing refers to any more; they are the caller's to delete.
    """

    images: int
    masks: int
    pairs: int
    votes: int
    assets: tuple[str, ...]


def erase_patient(connection: Connection, patient: str, reason: str, now: datetime) -> Erased:
    """Remove a patient's images, masks, questions and votes, and leave a note without the name.

    Votes are append-only by triggers, which let those go whose image is named in the table ``erasing``;
    it is empty again when the transaction ends.

    Raises:
        SegprefError: there is no such patient, or the reason names the patient.
    """
    item, mask, pair = tables.item, tables.mask, tables.pair
    assignment, vote, erasing = tables.assignment, tables.vote, tables.erasing
    found = connection.execute(select(item).where(item.c.patient == patient)).all()
    if not found:
        raise SegprefError(
            f"there is no patient {patient!r} in this study: give the id as the dataset has it"
        )
    _check_reason(reason, {patient, *(x for row in found for x in (row.case_id, row.volume))})
    of_item: Select[tuple[str]] = select(erasing.c.item_id)
    pairs = select(pair.c.id).where(pair.c.item_id.in_(of_item))
    assignments = select(assignment.c.id).where(assignment.c.pair_id.in_(pairs))
    masks = connection.execute(
        select(mask.c.asset)
        .join(item, item.c.id == mask.c.item_id)
        .where(item.c.patient == patient)
    ).scalars()
    assets = {*masks, *(row.display["asset"] for row in found)}
    connection.execute(insert(erasing), [{"item_id": row.id} for row in found])
    votes = connection.execute(delete(vote).where(vote.c.assignment_id.in_(assignments))).rowcount
    connection.execute(delete(assignment).where(assignment.c.pair_id.in_(pairs)))
    asked = connection.execute(delete(pair).where(pair.c.item_id.in_(of_item))).rowcount
    shown = connection.execute(delete(mask).where(mask.c.item_id.in_(of_item))).rowcount
    connection.execute(delete(erasing))
    connection.execute(delete(item).where(item.c.patient == patient))
    left = select_contents(connection)
    connection.execute(update(tables.study).values(digest=contents_digest(left)))
    kept = {one.asset for one in left.masks} | {one.display.asset for one in left.items}
    told = (
        f"a patient was erased ({len(found)} images, {shown} masks, {asked} pairs, {votes} votes): "
        f"{reason}"
    )
    connection.execute(insert(tables.note).values(at=now, text=told))
    return Erased(
        images=len(found),
        masks=shown,
        pairs=asked,
        votes=votes,
        assets=tuple(sorted(assets - kept)),
    )


def scrub(database: Database) -> None:
    """Rewrite the database without what was deleted, so that its bytes are gone from its files.

    Raises:
        SegprefError: another process keeps reading from the database.
    """
    with database.outside_transactions() as connection:
        if database.kind == "postgresql":
            for name in _SCRUBBED:
                connection.execute(text(f"VACUUM (FULL) {name}"))
            return
        for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            busy = connection.exec_driver_sql(statement)
            if busy.returns_rows and busy.scalar_one():
                raise SegprefError(
                    f"the patient is erased, but {database.name}-wal can't be emptied while another "
                    "process reads from it: stop segpref collect serve, and give the same command again"
                )


def _check_reason(reason: str, names: set[str]) -> None:
    if any(name and name.casefold() in reason.casefold() for name in names):
        raise SegprefError(
            "the reason is kept, and it names the patient: give one without ids of patients and cases"
        )
