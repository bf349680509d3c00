"""Who may vote: pseudonyms, links that let them in once, and sessions.

Links and sessions are random texts of 256 bits; the database has their hashes only.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from segpref.collect.answers import Rater, Refused
from segpref.collect.rules import Rules
from segpref.collect.tables import assignment, link, rater, session
from segpref.types import SegprefError

__all__ = [
    "add_rater",
    "check_link",
    "end_session",
    "enter",
    "is_revoked",
    "make_link",
    "pseudonyms",
    "rater_named",
    "rater_of_session",
    "revoke",
    "token_hash",
]

_NAME = re.compile(r"[^\W_](?:[\w .@+-]{0,62}[\w.])?")
_LONGEST = 256

# The statement of every request is built once.
_OF_SESSION = (
    select(rater)
    .join(session, session.c.rater_id == rater.c.id)
    .where(
        session.c.hash == bindparam("secret"),
        session.c.revoked_at.is_(None),
        session.c.expires_at > bindparam("now"),
        rater.c.revoked_at.is_(None),
    )
)


def token_hash(token: str) -> str:
    """What is kept of a token; it has 256 random bits, so that no slower hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def add_rater(
    connection: Connection, pseudonym: str, role: Literal["rater", "admin"], now: datetime
) -> int:
    """Add a rater.

    Returns:
        The id.

    Raises:
        SegprefError: no such name can be given, or somebody has it.
    """
    if not _NAME.fullmatch(pseudonym):
        raise SegprefError(
            f"{pseudonym!r} is no pseudonym: use 1 to 64 letters, digits, spaces and . @ + - _, "
            "beginning with a letter or digit"
        )
    try:
        values = {"pseudonym": pseudonym, "role": role, "made_at": now}
        found = connection.execute(insert(rater).values(values).returning(rater.c.id))
        return int(found.scalar_one())
    except IntegrityError as error:
        raise SegprefError(
            f"there is a rater {pseudonym!r} already: choose another pseudonym, or make a new link "
            f"(segpref collect raters --link)"
        ) from error


def rater_named(connection: Connection, pseudonym: str) -> Rater:
    """The rater with a pseudonym.

    Raises:
        SegprefError: there is none.
    """
    row = connection.execute(select(rater).where(rater.c.pseudonym == pseudonym)).one_or_none()
    if row is None:
        raise SegprefError(
            f"there is no rater {pseudonym!r}: add one (segpref collect raters --add)"
        )
    return _rater(row)


def pseudonyms(connection: Connection) -> list[Rater]:
    """All raters, in the order in which they were added."""
    return [_rater(row) for row in connection.execute(select(rater).order_by(rater.c.id))]


def make_link(connection: Connection, who: Rater, rules: Rules, now: datetime) -> str:
    """A token that lets a rater in once; earlier ones that were not used are void from now on.

    Raises:
        SegprefError: the rater was revoked.
    """
    if who.revoked:
        raise SegprefError(
            f"{who.pseudonym} was revoked and gets no link: add a rater with another pseudonym"
        )
    _void_links(connection, who.id, now)
    token = secrets.token_urlsafe(32)
    values = {"token_hash": token_hash(token), "rater_id": who.id, "made_at": now,
              "expires_at": now + timedelta(days=rules.link_days)}  # fmt: skip
    connection.execute(insert(link).values(values))
    return token


def check_link(connection: Connection, token: str, now: datetime) -> int:
    """Refuse a link that does not count.

    Returns:
        Id of its rater.

    Raises:
        Refused: it is unknown, was used or is too old, or its rater was revoked.
    """
    found = connection.execute(
        select(link, rater.c.revoked_at)
        .join(rater, rater.c.id == link.c.rater_id)
        .where(link.c.token_hash == token_hash(token[:_LONGEST]))
    ).one_or_none()
    if found is None or found.revoked_at is not None:
        raise Refused("this link does not count: ask for a new one")
    if found.used_at is not None:
        raise Refused("this link was used already: ask for a new one")
    if found.expires_at <= now:
        raise Refused("this link is too old: ask for a new one")
    return int(found.rater_id)


def enter(connection: Connection, token: str, rules: Rules, now: datetime) -> str:
    """Use a link up.

    Returns:
        The secret of a new session.

    Raises:
        Refused: as :func:`check_link`.
    """
    who = check_link(connection, token, now)
    # Of two that come at the same time, one gets in.
    used = connection.execute(
        update(link)
        .where(link.c.token_hash == token_hash(token[:_LONGEST]), link.c.used_at.is_(None))
        .values(used_at=now)
    )
    if used.rowcount != 1:
        raise Refused("this link was used already: ask for a new one")
    secret = secrets.token_urlsafe(32)
    values = {"hash": token_hash(secret), "rater_id": who, "made_at": now,
              "expires_at": now + timedelta(days=rules.session_days)}  # fmt: skip
    connection.execute(insert(session).values(values))
    return secret


def end_session(connection: Connection, secret: str, now: datetime) -> None:
    """Sign out."""
    connection.execute(
        update(session)
        .where(session.c.hash == token_hash(secret[:_LONGEST]), session.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )


def is_revoked(connection: Connection, who: int) -> bool:
    """Whether a rater was revoked, or is unknown."""
    found = select(rater.c.id).where(rater.c.id == who, rater.c.revoked_at.is_(None))
    return connection.execute(found).one_or_none() is None


def rater_of_session(connection: Connection, secret: str, now: datetime) -> Rater | None:
    """Whose session it is; None where it does not count (any more)."""
    values = {"secret": token_hash(secret[:_LONGEST]), "now": now}
    row = connection.execute(_OF_SESSION, values).one_or_none()
    return None if row is None else _rater(row)


def revoke(connection: Connection, who: Rater, now: datetime) -> None:
    """Links and sessions end, and others get the open pairs; votes stay."""
    connection.execute(
        update(rater)
        .where(rater.c.id == who.id, rater.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    _void_links(connection, who.id, now)
    connection.execute(
        update(session)
        .where(session.c.rater_id == who.id, session.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    connection.execute(
        update(assignment)
        .where(
            assignment.c.rater_id == who.id,
            assignment.c.answered_at.is_(None),
            assignment.c.expires_at > now,
        )
        .values(expires_at=now)
    )


def _void_links(connection: Connection, who: int, now: datetime) -> None:
    connection.execute(
        update(link)
        .where(link.c.rater_id == who, link.c.used_at.is_(None), link.c.expires_at > now)
        .values(expires_at=now)
    )


def _rater(row: Row[Any]) -> Rater:
    return Rater(
        id=row.id, pseudonym=row.pseudonym, role=row.role, revoked=row.revoked_at is not None
    )
