"""What a study asks, kept in memory: it changes only where a patient is erased."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from segpref.collect.contents import Contents, Item, Mask, Pair
from segpref.collect.contents_rows import select_contents
from segpref.collect.tables import study

__all__ = ["Asked", "KnownContents"]

_DIGEST = select(study.c.digest)


@dataclass(frozen=True, slots=True)
class Asked:
    """Items, masks and pairs by their ids, in the order of the study.

    Args:
        digest: checksum of them all.
        items: images.
        masks: candidates.
        pairs: questions.
    """

    digest: str
    items: Mapping[str, Item]
    masks: Mapping[str, Mask]
    pairs: Mapping[str, Pair]

    @classmethod
    def of(cls, contents: Contents, digest: str) -> Asked:
        """By their ids."""
        return cls(
            digest=digest,
            items={one.id: one for one in contents.items},
            masks={one.id: one for one in contents.masks},
            pairs={one.id: one for one in contents.pairs},
        )


class KnownContents:
    """The contents as the last transaction saw them; threads may share it.

    Every transaction compares the checksum in the database, so that a patient whom any process erases
    is gone from the memory of all others with their next request.
    """

    def __init__(self) -> None:
        self._kept: Asked | None = None

    def of(self, connection: Connection) -> Asked:
        """What the study asks, as this transaction sees it."""
        digest = str(connection.execute(_DIGEST).scalar_one())
        kept = self._kept
        if kept is None or kept.digest != digest:
            kept = self._kept = Asked.of(select_contents(connection), digest)
        return kept
