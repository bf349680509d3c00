"""Where votes are kept: what the page, the reports and the training ask of a vote database."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Literal

from sqlalchemy import Connection

from segpref.collect import assigning, raters, voting
from segpref.collect.answers import (
    Asking,
    Assignment,
    Conflict,
    Progress,
    Rater,
    Refused,
    Stored,
    VoteIn,
    VoteRow,
)
from segpref.collect.database import DRAWING
from segpref.collect.database_errors import is_duplicate
from segpref.collect.importing import import_votes
from segpref.collect.known_contents import Asked, KnownContents
from segpref.collect.rater_standing import given_to, progress_of, raters_of_pairs, standing_of
from segpref.collect.study_database import StudyDatabase, now_utc
from segpref.collect.vote_preferences import VotePreferences, preferences_from_votes
from segpref.collect.vote_rows import vote_rows
from segpref.preferences import Preference

__all__ = ["VoteStore"]

Use = Literal["train", "choose", "evaluate"]


class VoteStore(StudyDatabase):
    """A vote database; threads and processes may share it.

    Args:
        where: a SQLite file, or a URL such as ``postgresql://user@host/database``.
        clock: says what time it is, with a time zone.
        random: draws pairs and sides; from the operating system's entropy where None.

    Raises:
        SegprefError: it is neither; from its methods, too, wherever the database can't be used.
        StoreFull: from its methods, where the disk is full.
    """

    def __init__(
        self,
        where: str | Path,
        *,
        clock: Callable[[], datetime] = now_utc,
        random: Random | None = None,
    ) -> None:
        super().__init__(where, clock=clock)
        self._random = random or secrets.SystemRandom()
        self._known = KnownContents()

    # -- raters ------------------------------------------------------------------------------------

    def change_raters(
        self,
        *,
        add: Collection[str] = (),
        link: Collection[str] = (),
        revoke: Collection[str] = (),
    ) -> dict[str, str]:
        """Revoke raters, add raters and make further links: all of it, or nothing.

        Returns:
            The tokens of the links that were made, by pseudonym; each lets in once.

        Raises:
            SegprefError: a rater who can't be added, or is not there.
        """
        with self.writing() as connection:
            gone = [raters.rater_named(connection, name) for name in revoke]
            for who in sorted(gone, key=lambda one: one.id):
                # A vote that is being stored is stored before, or refused after.
                self.database.lock(connection, ("rater", who.id))
                raters.revoke(connection, who, self._clock())
            for name in add:
                raters.add_rater(connection, name, "rater", self._clock())
            return {name: self._link(connection, name) for name in [*add, *link]}

    def add_rater(self, pseudonym: str, role: Literal["rater", "admin"] = "rater") -> str:
        """Add a rater.

        Returns:
            The token of a link that lets them in once.
        """
        with self.writing() as connection:
            raters.add_rater(connection, pseudonym, role, self._clock())
            return self._link(connection, pseudonym)

    def new_link(self, pseudonym: str) -> str:
        """The token of another link; earlier links that were not used are void."""
        return self.change_raters(link=[pseudonym])[pseudonym]

    def revoke(self, pseudonym: str) -> None:
        """End a rater's links and sessions; votes stay, and others get the open pairs."""
        self.change_raters(revoke=[pseudonym])

    def _link(self, connection: Connection, pseudonym: str) -> str:
        who = raters.rater_named(connection, pseudonym)
        return raters.make_link(connection, who, self.rules, self._clock())

    def raters(self) -> list[Rater]:
        """All raters, in the order in which they were added."""
        with self.reading() as connection:
            return raters.pseudonyms(connection)

    def enter(self, token: str) -> str:
        """Use a link up.

        Returns:
            The secret of a new session.

        Raises:
            Refused: the link does not count (any more).
        """
        # Whoever guesses tokens does not get a turn to write.
        with self.reading() as connection:
            raters.check_link(connection, token, self._clock())
        with self.writing() as connection:
            return raters.enter(connection, token, self.rules, self._clock())

    def rater_of(self, secret: str) -> Rater | None:
        """Whose session it is; None where it does not count (any more)."""
        with self.reading() as connection:
            return raters.rater_of_session(connection, secret, self._clock())

    def leave(self, secret: str) -> None:
        """End a session."""
        with self.writing() as connection:
            raters.end_session(connection, secret, self._clock())

    # -- voting ------------------------------------------------------------------------------------

    def ask(self, rater: Rater) -> Asking:
        """The rater's open assignment, or else another one; with how far the rater is."""
        now = self._clock()
        with self.writing(("rater", rater.id)) as connection:
            asked = self._known.of(connection)
            mine = given_to(connection, rater.id)
            given = next((one for one in mine if one.is_open(now)), None)
            if given is None:
                self._check_welcome(connection, rater)
                self.database.lock(connection, DRAWING)
            else:
                assigning.keep(connection, given.id, self.rules, now)
            counts = raters_of_pairs(connection, now)
            at = standing_of(asked, mine, counts, self.rules, now)
            if given is None:
                given = assigning.draw(
                    connection, asked, rater.id, at, self.rules, now, self._random
                )
                if given is not None:
                    at = standing_of(asked, [*mine, given], counts, self.rules, now)
            return Asking(
                assignment=None
                if given is None
                else assigning.assignment_of(connection, asked, rater.id, given.id),
                progress=progress_of(at, self.rules),
                last_vote=voting.last_vote(connection, rater.id),
            )

    def next_assignment(self, rater: Rater) -> Assignment | None:
        """The rater's open assignment, or else another one; None where nothing is left now."""
        return self.ask(rater).assignment

    def assignment(self, rater: Rater, id: str) -> Assignment:
        """An assignment of a rater.

        Raises:
            NotYours: the rater has no such assignment.
        """
        with self.reading() as connection:
            return assigning.assignment_of(connection, self._known.of(connection), rater.id, id)

    def mark_opened(self, rater: Rater, id: str, what: Literal["image", "masks"]) -> None:
        """Note that the image or the masks were sent, without which no vote counts.

        Raises:
            NotYours: the rater has no such assignment.
        """
        with self.writing(("rater", rater.id)) as connection:
            assigning.mark_opened(connection, rater.id, id, what, self._clock())

    def vote(self, rater: Rater, told: VoteIn) -> Stored:
        """Store a vote; when this returns, it is on the disk.

        Raises:
            NotYours: it is about another rater's assignment, or none.
            NotAnAnswer: the choice can't be made in the mode of the comparison.
            Conflict: another vote has its uuid or its assignment, or the masks were not shown yet.
            StoreFull: the disk is full; nothing was stored.
            SegprefError: a value that means nothing.
        """
        voting.check_vote(told)
        now = self._clock()
        try:
            with self.writing(("rater", rater.id)) as connection:
                asked = self._known.of(connection)
                given = voting.on_assignment(connection, rater.id, told.assignment)
                if given is None or given.revoked_at is not None:
                    self._check_welcome(connection, rater)
                elif voting.expires_soon(given, now):
                    self.database.lock(connection, DRAWING)
                duplicate = voting.store_vote(
                    connection, asked, rater.id, given, told, self.rules, now
                )
                progress = self._progress(connection, asked, rater, now)
                return Stored(progress=progress, duplicate=duplicate)
        except Exception as error:
            if is_duplicate(error):
                raise Conflict("another vote has this uuid: vote again") from error
            raise

    def undo(self, rater: Rater, uuid: str) -> Assignment:
        """Take the rater's last vote back; sent twice it is the same as once.

        Args:
            rater: whose.
            uuid: of that vote; or a new one, which the row that takes it back gets.

        Returns:
            Its assignment, which can be answered again.

        Raises:
            NotYours: the rater has no vote that counts.
            Conflict: it is not the rater's last.
        """
        voting.check_uuid(uuid)
        now = self._clock()
        with self.writing(("rater", rater.id)) as connection:
            self._check_welcome(connection, rater)
            found = voting.take_back(connection, rater.id, uuid, self.rules, now)
            return assigning.assignment_of(connection, self._known.of(connection), rater.id, found)

    def last_vote(self, rater: Rater) -> str | None:
        """The uuid of the vote that :meth:`undo` takes back."""
        with self.reading() as connection:
            return voting.last_vote(connection, rater.id)

    def answer(self, rater: Rater, id: str) -> str | None:
        """What the rater answered to an assignment; None where that was nothing, or was taken back."""
        with self.reading() as connection:
            return voting.answer_to(connection, rater.id, id)

    def progress(self, rater: Rater) -> Progress:
        """How far a rater is, without practice."""
        with self.reading() as connection:
            return self._progress(connection, self._known.of(connection), rater, self._clock())

    # -- what was said -----------------------------------------------------------------------------

    def votes(self) -> Iterator[VoteRow]:
        """All votes with what is known of them, in the order in which they were stored."""
        with self.reading() as connection:
            yield from vote_rows(connection)

    def preferences(self, use: Use | Collection[Use] = ("train", "choose")) -> list[Preference]:
        """The records of :meth:`vote_preferences`."""
        return self.vote_preferences(use).records

    def vote_preferences(self, use: Use | Collection[Use] = ("train", "choose")) -> VotePreferences:
        """What the votes that count prefer, and why others give nothing.

        Args:
            use: which images' votes are wanted: to ``train``, to ``choose`` a checkpoint, to
                ``evaluate`` (base or tuned).
        """
        wanted = (use,) if isinstance(use, str) else tuple(use)
        return preferences_from_votes(self.votes(), wanted)

    def restore_votes(self, rows: Iterable[VoteRow]) -> int:
        """Write votes of another database of the same study into this one, which has none.

        Returns:
            How many there were.

        Raises:
            SegprefError: there are votes already, or some are about pairs that the study does not have.
        """
        with self.writing(alone=True) as connection:
            return import_votes(self.database, connection, rows, self._clock())

    def _check_welcome(self, connection: Connection, rater: Rater) -> None:
        if raters.is_revoked(connection, rater.id):
            raise Refused(f"{rater.pseudonym} was revoked")

    def _progress(
        self, connection: Connection, asked: Asked, rater: Rater, now: datetime
    ) -> Progress:
        mine, counts = given_to(connection, rater.id), raters_of_pairs(connection, now)
        return progress_of(standing_of(asked, mine, counts, self.rules, now), self.rules)
