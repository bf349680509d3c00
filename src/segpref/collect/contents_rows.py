"""What a study asks as rows of a database, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, Table, insert, select

from segpref.collect import tables
from segpref.collect.contents import Contents, DisplayInfo, Item, Mask, Pair

__all__ = [
    "contents_digest",
    "insert_contents",
    "select_contents",
]


def contents_digest(contents: Contents) -> str:
    """A checksum of everything that a study asks, whatever the order."""
    found = hashlib.sha256(usedforsecurity=False)
    records: list[Item | Mask | Pair] = [*contents.items, *contents.masks, *contents.pairs]
    for one in sorted(records, key=lambda record: (type(record).__name__, record.id)):
        found.update(json.dumps(asdict(one), sort_keys=True).encode())
    return found.hexdigest()


def insert_contents(connection: Connection, contents: Contents) -> None:
    """Write all items, masks and pairs."""
    rows: tuple[tuple[Table, list[dict[str, Any]]], ...] = (
        (tables.item, [_item_row(i, one) for i, one in enumerate(contents.items)]),
        (tables.mask, [_mask_row(i, one) for i, one in enumerate(contents.masks)]),
        (tables.pair, [_pair_row(i, one) for i, one in enumerate(contents.pairs)]),
    )
    for table, values in rows:
        if values:
            connection.execute(insert(table), values)


def select_contents(connection: Connection) -> Contents:
    """Everything that the study asks, in the order in which it was written."""
    found = (
        connection.execute(select(table).order_by(table.c.position))
        for table in (tables.item, tables.mask, tables.pair)
    )
    items, masks, pairs = found
    return Contents(
        items=tuple(map(_item, items)),
        masks=tuple(map(_mask, masks)),
        pairs=tuple(map(_pair, pairs)),
    )


def _item_row(position: int, one: Item) -> dict[str, Any]:
    told = asdict(one)
    return {"position": position, "case_id": told.pop("case"), **told}


def _mask_row(position: int, one: Mask) -> dict[str, Any]:
    told = asdict(one)
    return {"position": position, "item_id": told.pop("item"), **told}


def _pair_row(position: int, one: Pair) -> dict[str, Any]:
    told = asdict(one)
    return {"position": position, "item_id": told.pop("item"), **told, "masks": list(one.masks)}


def _item(row: Row[Any]) -> Item:
    return Item(
        id=row.id, case=row.case_id, patient=row.patient, volume=row.volume, use=row.use,
        display=_display(row.display),
    )  # fmt: skip


def _display(told: Mapping[str, Any]) -> DisplayInfo:
    tuples = ("shape", "spacing_mm", "window")
    values: dict[str, Any] = {
        name: tuple(value) if name in tuples and value is not None else value
        for name, value in told.items()
    }
    return DisplayInfo(**values)


def _mask(row: Row[Any]) -> Mask:
    return Mask(
        id=row.id, item=row.item_id, prepared_id=row.prepared_id, display_id=row.display_id,
        asset=row.asset, candidate=row.candidate, family=row.family, settings=row.settings,
        model=row.model, score=row.score,
    )  # fmt: skip


def _pair(row: Row[Any]) -> Pair:
    return Pair(
        id=row.id, item=row.item_id, masks=tuple(row.masks), mode=row.mode,
        structure=row.structure, field_index=row.field_index, use=row.use,
        information=row.information, chosen_by=row.chosen_by, gold=row.gold, votes=row.votes,
        slices=row.slices,
    )  # fmt: skip
