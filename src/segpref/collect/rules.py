"""Rules by which pairs are given to raters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from segpref.settings import Settings, setting

__all__ = ["Rules"]


@dataclass(frozen=True)
class Rules(Settings):
    """How pairs are given to raters.

    A *sitting* of a rater ends after a number of answers or with a pause; pairs are repeated in later
    sittings only.
    """

    repeats: float = setting(0.1, least=0, below=1)
    """Share of a rater's answers that repeat an earlier pair with sides exchanged."""
    gold: float = setting(0.05, least=0, below=1)
    """Share of a rater's answers that are about pairs whose answer is known."""
    sitting: int = setting(40, least=1)
    """Answers after which a new sitting begins."""
    pause_min: float = setting(30.0, above=0)
    """Minutes without an answer after which a new sitting begins."""
    lease_min: float = setting(120.0, above=0)
    """Minutes for which a pair is kept for a rater; then others get it."""
    link_days: float = setting(14.0, above=0)
    """Days for which a personal link can be used."""
    session_days: float = setting(30.0, above=0)
    """Days for which a browser stays signed in."""

    @property
    def pause(self) -> timedelta:
        """Time without an answer after which a new sitting begins."""
        return timedelta(minutes=self.pause_min)

    @property
    def lease(self) -> timedelta:
        """Time for which a pair is kept for a rater."""
        return timedelta(minutes=self.lease_min)
