"""The votes of some studies as preferences of one model's masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from segpref.collect.answers import VoteRow
from segpref.collect.contents_rows import contents_digest
from segpref.collect.ratings import ratings_of
from segpref.collect.study import StudyFolder
from segpref.collect.vote_preferences import preferences_from_votes
from segpref.collect.vote_store import VoteStore
from segpref.preferences import Preference, PreferenceFolder, flip_rates
from segpref.types import SegprefError

__all__ = ["StudyVotes", "read_studies"]


class StudyVotes(NamedTuple):
    """What the votes of some studies say.

    Args:
        studies: their folders, opened.
        folders: of preferences that were written by an alignment or exported.
        learned: preferences to learn from.
        held_out: preferences of the patients whose votes choose the checkpoint.
        flip_rates: how often each rater is wrong.
        skipped: how many votes are not used, by reason.
    """

    studies: Sequence[StudyFolder]
    folders: Sequence[PreferenceFolder]
    learned: Sequence[Preference]
    held_out: Sequence[Preference]
    flip_rates: Mapping[str, float] | None
    skipped: Mapping[str, int]

    @property
    def model_digest(self) -> str:
        """Of the model that made the masks."""
        return _digests(self.studies, self.folders)[0][1]

    @property
    def model(self) -> Path:
        """The model that made the masks: the copy in a study, or where it was."""
        if self.studies:
            return self.studies[0].base
        return Path(str(self.folders[0].about.get("model") or "base"))

    @property
    def singles(self) -> bool:
        """Whether masks were accepted or rejected, and none was compared with another."""
        return all(one.choice in ("accept", "reject") for one in self.learned)


def read_studies(paths: Sequence[Path], database: str | None = None) -> StudyVotes:
    """The votes of some studies of one model.

    Args:
        paths: of the studies, or of folders of preferences.
        database: where the votes are, if not in the study's folder; of one study only.

    Raises:
        SegprefError: no study, or one without votes; studies of different models.
    """
    if database is not None and len(paths) > 1:
        raise SegprefError(
            "a database holds the votes of one study: give one study with --database, or leave it out"
        )
    if len({path.expanduser().resolve() for path in paths}) < len(paths):
        raise SegprefError("a study is named twice in --votes: name each once")
    recorded = [path for path in paths if PreferenceFolder.is_one(path)]
    folders = [PreferenceFolder.open(path) for path in recorded]
    studies = [StudyFolder(path) for path in paths if path not in recorded]
    for one in studies:
        if one.note.mode == "base-or-tuned":
            raise SegprefError(
                f"{one.path} asks which of two models is better, which evaluates and is not learned "
                "from: see segpref collect report"
            )
    digests = _digests(studies, folders)
    for path, digest in digests:
        if digest != digests[0][1]:
            raise SegprefError(
                f"the masks of {path} are of another model than those of {digests[0][0]}: align with "
                "the studies of one model at a time"
            )
    learned = [record for one in folders for record in one.records]
    held: list[Preference] = []
    ratings, skipped = [], Counter[str]()
    for one in studies:
        rows = _rows(one, database)
        ratings += ratings_of(rows)
        learned += preferences_from_votes(rows, ["train"]).records
        held += preferences_from_votes(rows, ["choose"]).records
        skipped += preferences_from_votes(rows, ("train", "choose")).skipped
    if not learned:
        raise SegprefError(
            f"nobody has voted in {' or '.join(map(str, paths))} on images to learn "
            "from: let people vote first (segpref collect serve)"
        )
    rates = flip_rates(ratings) if ratings else None
    return StudyVotes(studies, folders, learned, held, rates, dict(skipped))


def _digests(
    studies: Sequence[StudyFolder], folders: Sequence[PreferenceFolder]
) -> list[tuple[Path, str]]:
    told = [(one.path, one.note.model_digest) for one in studies]
    return told + [(one.path, one.model_digest) for one in folders]


def _rows(study: StudyFolder, database: str | None) -> list[VoteRow]:
    where = study.database if database is None else database
    with VoteStore(where) as store:
        if store.contents_digest != contents_digest(study.contents()):
            raise SegprefError(
                f"{where} does not hold the votes of {study.path}: give the database of this study, or "
                "collect votes first (segpref collect serve)"
            )
        return list(store.votes())
