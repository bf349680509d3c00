"""People as a judge: their votes about the masks of an existing base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from segpref.checking import checked
from segpref.collect import VotesJudge
from segpref.data.cache import write_atomically
from segpref.policies import read_card
from segpref.preferences import AbstainingJudge, RecordedPairs
from segpref.studies.judging.inputs import JudgeInputs
from segpref.studies.votes import VoteInputs, configured, open_votes, refuse_silence
from segpref.training import AlignConfig
from segpref.training.anchored import objective_of
from segpref.training.methods import method_of
from segpref.types import Judge, SegprefError

__all__ = ["Votes"]

_CONTENT = "votes.txt"


@checked()
@dataclass(frozen=True)
class Votes:
    """What people said of the masks of a base, which is an existing model.

    Runs learn from the votes as ``segpref align --votes`` does, on the masks that people saw; votes
    about patients of validation or test are left out. The audit is that of ``segpref audit --votes``.
    There is no Select-best: of masks that the base makes of other images, votes say nothing.

    Args:
        studies: folders of studies in which people voted, or of exported preferences; of one model.
        database: where the votes are, if not in the study's folder.
    """

    studies: list[Path]
    database: str | None = None
    of_base = True

    def __post_init__(self) -> None:
        if self.database is not None and urlsplit(self.database).password:
            raise SegprefError(
                "a study's folder and its report show the recipe: leave the password out of database, "
                "and give it in PGPASSWORD or ~/.pgpass"
            )

    def check(self, inputs: JudgeInputs, methods: Mapping[str, AlignConfig]) -> None:
        """Refuse, before anything is trained, what can't be learned from these votes.

        Raises:
            SegprefError: the base did not make the masks, images are missing, a method can't learn from
                votes, or they were changed since the study has begun.
        """
        judge = self._opened(inputs)
        votes = judge.votes
        if inputs.model is None:
            raise SegprefError(
                "votes are about masks of one model, and this base is trained by the study: write "
                f"`model: {votes.model}` as its only setting, or let the judge's block of the grid "
                "name other bases"
            )
        if inputs.model != votes.model_digest:
            raise SegprefError(
                f"this base did not make the masks that were voted on: write `model: {votes.model}` as "
                "its only setting, or let the judge's block of the grid name other bases"
            )
        judge.measurable(inputs.images)
        measured = {case.id for case in inputs.images if case.patient in inputs.measured}
        told = [one for one in votes.learned if one.case not in measured]
        for name, config in methods.items():
            try:
                config = configured(config, votes)
            except SegprefError as error:
                raise SegprefError(
                    f"{name}: {error}, or let the judge's block of the grid name other methods"
                ) from error
            space = inputs.images.label_space
            signal = method_of(config, space, AbstainingJudge(), records=RecordedPairs({})).signal
            if getattr(signal, "needs_uncertainty", False):
                raise SegprefError(
                    f"{name}: the objective needs the judge's uncertainty, which votes do not report: "
                    "set the objective's temperature"
                )
            try:
                refuse_silence(told, objective_of(signal))
            except SegprefError as error:
                raise SegprefError(f"{name}: {error}") from error

    def train(self, inputs: JudgeInputs) -> None:
        """Nothing, but the hash of the votes is kept."""
        digest = _digest(self._opened(inputs))
        inputs.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(inputs.folder / _CONTENT, digest.encode())

    def build(self, inputs: JudgeInputs) -> Judge:
        """What people said, of the masks that they saw.

        Raises:
            SegprefError: the votes are no longer those that this study has begun with.
        """
        return self._opened(inputs)

    def preferences(self, inputs: JudgeInputs, config: AlignConfig, folder: Path) -> VoteInputs:
        """The votes to learn from, without those about patients of validation or test.

        Args:
            inputs: base, images and patients.
            config: of the alignment.
            folder: where slates go that are not a study's as they are.

        Raises:
            SegprefError: the votes are no longer those that this study has begun with; or see
                :func:`~segpref.studies.votes.open_votes`.
        """
        assert inputs.base is not None
        votes = self._opened(inputs).votes
        return open_votes(
            votes,
            [inputs.images],
            configured(config, votes),
            inputs.validation,
            folder,
            patches=read_card(inputs.base).preparation.patch is not None,
            without=inputs.measured,
        )

    def _opened(self, inputs: JudgeInputs) -> VotesJudge:
        judge = VotesJudge([Path(one) for one in self.studies], self.database)
        kept = inputs.folder / _CONTENT
        if kept.exists() and kept.read_text() != _digest(judge):
            raise SegprefError(
                f"the votes in {' and '.join(map(str, self.studies))} were changed since this study "
                "has begun: put the old ones back, or write the study into a new folder (votes of "
                "segpref collect export stay as they are)"
            )
        return judge


def _digest(judge: VotesJudge) -> str:
    votes = judge.votes
    records = [*votes.learned, *votes.held_out]
    return RecordedPairs.of(records, flip_rates=votes.flip_rates).digest()
