"""What an alignment asks of frozen networks, predicted before it begins and kept in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.policies import read_card
from segpref.policies.tunable import imported
from segpref.training.config import AlignConfig
from segpref.training.loop import batch_stream
from segpref.training.tasks.preference import PreferenceTask
from segpref.types import Judge, PreparedJudge

__all__ = ["Asked", "PredictedAhead", "PredictionUse", "images_asked", "task_of"]

PredictionUse = Literal["drawn", "scored", "labelled"]


def task_of(base: Path | str) -> type[PreferenceTask[Any]]:
    """What the class of a policy says that it is aligned by."""
    policy_class = imported(read_card(Path(base)).policy.class_path)
    task: type[PreferenceTask[Any]] = imported(
        getattr(policy_class, "aligned_by", "segpref.training.tasks.masks.MaskPreferences")
    )
    return task


class Asked(NamedTuple):
    """Places in the pool of the images that an alignment asks about.

    Args:
        drawn: those that a step draws, and the first of all, on which networks are tried.
        scored: those whose slates are made and scored: with slates that are kept for a round the whole
            pool, and otherwise the same.
    """

    drawn: set[int]
    scored: set[int]


def images_asked(base: Path | str, images: int, config: AlignConfig) -> Asked:
    """The images of a pool of so many that an alignment asks about.

    Args:
        base: model file or run folder of stage 1.
        images: how many the pool has.
        config: of the alignment, resolved.
    """
    batches = batch_stream(images, config.images_per_epoch, config.batch_size, config.seed)
    drawn = {0}  # what the networks can't take is found there, before any step
    for epoch in range(config.epochs):
        drawn.update(place for batch in batches(epoch) for place in batch)
        if len(drawn) == images:
            break
    in_rounds = config.refresh is not None or task_of(base).keeps_rounds
    return Asked(drawn, set(range(images)) if in_rounds else drawn)


class PredictedAhead:
    """Puts predictions of an alignment's reference and judge into the cache, one volume at a time.

    Args:
        base: model file or run folder of stage 1.
        judge: scores candidates.
        config: of the alignment, resolved.
        cache: of the alignment.
    """

    def __init__(self, base: Path | str, judge: Judge, config: AlignConfig, cache: Cache) -> None:
        self._judge: Any = judge
        self._by_base = task_of(base).ahead(base, config, cache)

    def __call__(self, volume: Dataset, use: PredictionUse) -> None:
        """Predict a volume.

        Args:
            volume: a dataset that begins with one of its cases.
            use: whether a step draws it, only slates of it are scored, or it is labelled and shows what
                the judge never draws.
        """
        if use != "labelled":
            self._by_base(volume, use == "drawn")
        if isinstance(self._judge, PreparedJudge):
            # It predicts the first volume of what it is prepared for.
            self._judge.prepare(volume)
