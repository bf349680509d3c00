"""The votes of a store as tables of plain values, and back into an empty store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Column, Connection, DateTime, Table, insert, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from segpref.collect.tables import assignment, rater, vote
from segpref.preferences import time_of_text, time_text
from segpref.types import SegprefError

__all__ = ["VOTE_TABLES", "insert_vote_tables", "vote_tables"]

_TABLES: Mapping[str, Table] = {"raters": rater, "assignments": assignment, "votes": vote}
VOTE_TABLES = tuple(_TABLES)
"""In an order in which each refers to those before. Links and sessions, which let raters in, are not
among them: raters get new links."""


def vote_tables(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table, in the order in which they were stored: text, numbers and None."""
    found = {}
    for name, table in _TABLES.items():
        key = next(iter(inspect(table).primary_key))
        rows = connection.execute(select(table).order_by(key)).mappings()
        found[name] = [{c.name: _plain(row[c], c) for c in table.columns} for row in rows]
    return found


def insert_vote_tables(
    connection: Connection, tables: Mapping[str, Sequence[tuple[str, Any]]], kind: str
) -> None:
    """Write the rows of :func:`vote_tables` into a study's empty database.

    Args:
        connection: in a transaction.
        tables: rows of every table, each with the words that say where it stands.
        kind: of the database.

    Raises:
        SegprefError: there are raters already, or rows that are not of this study.
    """
    if connection.execute(select(rater.c.id).limit(1)).first() is not None:
        raise SegprefError(
            "the database has raters already: import into a study that nobody has voted in, or give "
            "an empty --database"
        )
    for name, table in _TABLES.items():
        rows = [_stored(row, table, place) for place, row in tables.get(name, ())]
        try:
            if rows:
                connection.execute(insert(table), rows)
            if kind == "postgresql" and rows:
                _count_on(connection, table)
        except SQLAlchemyError as error:
            raise SegprefError(
                f"the exported {name} are not about this study: give the study that they were exported "
                f"from ({type(error).__name__})"
            ) from error


def _count_on(connection: Connection, table: Table) -> None:
    """PostgreSQL numbers the next row after the ones that came with their numbers."""
    for column in table.primary_key.columns:
        connection.execute(
            text(
                f"SELECT setval(pg_get_serial_sequence('{table.name}', '{column.name}'), "
                f"(SELECT MAX({column.name}) FROM {table.name}))"
            )
        )


def _plain(value: Any, column: Column[Any]) -> Any:
    if value is None:
        return None
    if isinstance(value, datetime):
        return time_text(value)
    return json.dumps(value) if isinstance(column.type, JSON) else value


def _stored(row: Any, table: Table, place: str) -> dict[str, Any]:
    names = {column.name for column in table.columns}
    if not isinstance(row, Mapping) or set(row) != names:
        raise SegprefError(f"{place} has not the columns of {table.name}s: export them again")
    return {column.name: _value(row[column.name], column, place) for column in table.columns}


def _value(value: Any, column: Column[Any], place: str) -> Any:
    if value is None:
        return None
    try:
        if isinstance(column.type, JSON):
            return json.loads(value)
        if _is_time(column):
            time = datetime.fromisoformat(time_of_text(value))
            return time if time.tzinfo else time.replace(tzinfo=UTC)
        return column.type.python_type(value)
    except (TypeError, ValueError) as error:
        raise SegprefError(f"{place}: {column.name} can't be read: export them again") from error


def _is_time(column: Column[Any]) -> bool:
    kind = getattr(column.type, "impl", column.type)
    return isinstance(column.type, DateTime) or isinstance(kind, DateTime)
