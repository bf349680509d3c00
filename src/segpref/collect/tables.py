"""The tables of a vote database, and what keeps its votes from being changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

__all__ = [
    "APPEND_ONLY",
    "SCHEMA_VERSION",
    "TABLES",
    "assignment",
    "erasing",
    "item",
    "link",
    "mask",
    "note",
    "pair",
    "rater",
    "session",
    "study",
    "vote",
]

SCHEMA_VERSION = 1
"""Of the tables below; a database says which one it has."""


class UtcTime(TypeDecorator[datetime]):
    """A point in time, in UTC, whatever the database makes of time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """In UTC; without its name where the database keeps text."""
        if value is None:
            return None
        told = value.astimezone(UTC)
        return told.replace(tzinfo=None) if dialect.name == "sqlite" else told

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """With its time zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_META = MetaData()


def _id(**kinds: Any) -> Column[str]:
    return Column("id", Text, primary_key=True, **kinds)


def _to(name: str, column: str, *, optional: bool = False, **more: Any) -> Column[Any]:
    """A column that names a row of another table."""
    return Column(name, ForeignKey(column), nullable=optional, index=True, **more)


def _text(name: str, *, optional: bool = False) -> Column[str]:
    return Column(name, Text, nullable=optional)


def _whole(name: str, *, optional: bool = False) -> Column[int]:
    return Column(name, Integer, nullable=optional)


def _time(name: str, *, optional: bool = True) -> Column[datetime]:
    return Column(name, UtcTime, nullable=optional)


def _json(name: str, *, optional: bool = False) -> Column[Any]:
    return Column(name, JSON(none_as_null=True), nullable=optional)


study = Table(
    "study", _META,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _whole("schema_version"), _text("digest"), _json("rules"), _time("made_at", optional=False),
)  # fmt: skip
"""One row: which contents the database holds, and by which rules pairs are given to raters."""

item = Table(
    "item", _META,
    _id(), _whole("position"), _text("case_id"), Column("patient", Text, nullable=False, index=True),
    _text("volume"), _text("use"), _json("display"),
)  # fmt: skip

mask = Table(
    "mask", _META,
    _id(), _whole("position"), _to("item_id", "item.id"), _text("prepared_id"), _text("display_id"),
    _text("asset"), _whole("candidate"), _text("family"), _json("settings"), _text("model"),
    Column("score", Float),
)  # fmt: skip

pair = Table(
    "pair", _META,
    _id(), _whole("position"), _to("item_id", "item.id"), _json("masks"), _text("mode"),
    _text("structure", optional=True), _whole("field_index", optional=True), _text("use"),
    Column("information", Float, nullable=False), _text("chosen_by"), _whole("gold", optional=True),
    _whole("votes"), _json("slices"),
)  # fmt: skip

rater = Table(
    "rater", _META,
    Column("id", Integer, primary_key=True),
    Column("pseudonym", Text, nullable=False, unique=True),
    _text("role"), _time("made_at", optional=False), _time("revoked_at"),
)  # fmt: skip

link = Table(
    "link", _META,
    Column("token_hash", Text, primary_key=True),
    _to("rater_id", "rater.id"), _time("made_at", optional=False),
    _time("expires_at", optional=False), _time("used_at"),
)  # fmt: skip
"""Links that let a rater in once; only the hash of their token is kept."""

session = Table(
    "session", _META,
    Column("hash", Text, primary_key=True),
    _to("rater_id", "rater.id"), _time("made_at", optional=False),
    _time("expires_at", optional=False), _time("revoked_at"),
)  # fmt: skip
"""Sessions of raters who came in; only the hash of their secret is kept."""

assignment = Table(
    "assignment", _META,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    _to("pair_id", "pair.id"), _to("rater_id", "rater.id"), _json("sides"),
    _to("repeat_of", "assignment.id", optional=True), _whole("sitting"),
    _time("made_at", optional=False), _time("expires_at", optional=False),
    _time("image_opened_at"), _time("masks_opened_at"), _time("answered_at"),
    sqlite_autoincrement=True,
)  # fmt: skip
"""Pairs that were given to raters; ``answered_at`` is set where one vote on it counts."""

vote = Table(
    "vote", _META,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uuid", Text, nullable=False, unique=True),
    _to("assignment_id", "assignment.id"), _to("rater_id", "rater.id"), _text("choice"),
    _whole("confidence", optional=True), _whole("shown_ms", optional=True), _json("slices_seen"),
    _json("window", optional=True), _time("voted_at"), _time("stored_at", optional=False),
    Column("supersedes", ForeignKey("vote.id"), nullable=True),
    UniqueConstraint("supersedes"),
    sqlite_autoincrement=True,
)  # fmt: skip
"""Every vote that was ever given; ``undo`` takes back the one that it supersedes."""

note = Table(
    "note", _META,
    Column("id", Integer, primary_key=True), _time("at", optional=False), _text("text"),
)  # fmt: skip

erasing = Table("erasing", _META, Column("item_id", ForeignKey("item.id"), primary_key=True))
"""Images that are being erased: their votes alone may be deleted. Empty outside of that transaction."""

Index(
    "assignment_counts",
    assignment.c.pair_id, assignment.c.repeat_of, assignment.c.answered_at, assignment.c.expires_at,
)  # fmt: skip
"""How many raters each pair has, without reading the table."""

TABLES = _META

_ERASED = (
    "EXISTS (SELECT 1 FROM assignment JOIN pair ON pair.id = assignment.pair_id "
    "JOIN erasing ON erasing.item_id = pair.item_id WHERE assignment.id = OLD.assignment_id)"
)
_NEVER = "votes are never changed or deleted, except by segpref collect erase"

APPEND_ONLY = {
    "sqlite": (
        "CREATE TRIGGER vote_stays BEFORE UPDATE ON vote "
        f"BEGIN SELECT RAISE(ABORT, '{_NEVER}'); END",
        f"CREATE TRIGGER vote_is_kept BEFORE DELETE ON vote WHEN NOT {_ERASED} "
        f"BEGIN SELECT RAISE(ABORT, '{_NEVER}'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION vote_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF TG_OP = 'DELETE' THEN IF {_ERASED} THEN RETURN OLD; END IF; END IF; "
        f"RAISE EXCEPTION '{_NEVER}'; END $$",
        "CREATE TRIGGER vote_is_kept BEFORE UPDATE OR DELETE ON vote "
        "FOR EACH ROW EXECUTE FUNCTION vote_is_kept()",
        "CREATE TRIGGER vote_is_not_emptied BEFORE TRUNCATE ON vote "
        "FOR EACH STATEMENT EXECUTE FUNCTION vote_is_kept()",
    ),
}
"""Statements that make the table of votes append-only, by kind of database."""
