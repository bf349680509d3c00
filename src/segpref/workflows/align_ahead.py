"""Predictions of frozen networks before an alignment, put into the cache by the workers of a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from segpref.cluster import RayPool, spread
from segpref.data import Cache, Dataset
from segpref.process import processes_of_launch
from segpref.progress import track
from segpref.training import AlignConfig, PredictedAhead, PredictionUse, images_asked
from segpref.types import Judge, PreparedJudge, SegprefError

__all__ = ["LearnedFrom", "check_workers", "predict_ahead"]


@dataclass(frozen=True)
class LearnedFrom:
    """What is predicted before an alignment.

    Args:
        shown: the images that are learned from.
        validation: labelled images.
        judge: scores candidates.
    """

    shown: Dataset
    validation: Dataset
    judge: Judge


def check_workers(workers: RayPool | None, votes: bool) -> None:
    """Refuse a pool of workers where it has no effect.

    Raises:
        SegprefError: it has none.
    """
    if workers is None or workers.ray is None:
        return
    if votes:
        raise SegprefError(
            "--ray has no effect with votes, which are about a few images: leave it out"
        )
    if processes_of_launch() > 1:
        raise SegprefError(
            f"--ray has no effect in a launch of {processes_of_launch()} processes, each of which "
            "predicts its own share of the images: leave it out"
        )


def predict_ahead(
    workers: RayPool,
    again: Callable[[], LearnedFrom],
    learned: LearnedFrom,
    base: Path,
    config: AlignConfig,
    cache: Cache,
) -> None:
    """Have the workers of a pool predict what an alignment will ask of frozen networks.

    Args:
        workers: see the images, the models and the cache under the same paths.
        again: opens what is learned from in a worker.
        learned: the same, opened here.
        base: model file or run folder of stage 1.
        config: of the alignment, resolved: only the images that it will draw are predicted.
        cache: where predictions are kept.
    """
    shown, labelled = learned.shown, learned.validation
    asked = images_asked(base, len(shown), config)
    drawn = _one_of_each(shown, asked.drawn)
    items: list[tuple[int, PredictionUse]] = [(place, "drawn") for place in drawn.values()]
    scored = _one_of_each(shown, asked.scored)
    items += [(place, "scored") for name, place in scored.items() if name not in drawn]
    if isinstance(learned.judge, PreparedJudge):
        everything = _one_of_each(labelled, range(len(labelled)))
        items += [(place, "labelled") for place in everything.values()]
    done = spread(workers, _Predicting, (again, base, config, cache), items)
    for _ in track(done, "predicting by the pool", len(items)):
        pass


def _one_of_each(images: Dataset, places: Iterable[int]) -> dict[str, int]:
    """The first place of each volume, by its name: volumes are predicted as a whole."""
    first: dict[str, int] = {}
    for place in sorted(places):
        first.setdefault(images[place].volume, place)
    return first


class _Predicting:
    """Fills the cache in a process of a pool."""

    def __init__(
        self, again: Callable[[], LearnedFrom], base: Path, config: AlignConfig, cache: Cache
    ) -> None:
        learned = again()
        self._shown, self._validation = learned.shown, learned.validation
        self._ahead = PredictedAhead(base, learned.judge, config, cache)

    def __call__(self, item: tuple[int, PredictionUse]) -> None:
        place, use = item
        images = self._validation if use == "labelled" else self._shown
        self._ahead(images.take([place]), use)
