"""Scores of the samples drawn so far."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from segpref.inference.samples import rated_masks
from segpref.metrics.ambiguity import AmbiguityScores, ambiguity_scores
from segpref.studies.ambiguity.sample_files import REFERENCE, SampleSet
from segpref.studies.ambiguity.workspace import AmbiguityWorkspace

__all__ = ["Curve", "Findings"]

Curve: TypeAlias = tuple[Float[np.ndarray, "w image"], Float[np.ndarray, "w image"]]
"""Average Dice and GED of every image over a knob."""


@dataclass
class Findings:
    """Scores of a study's drawings, each computed once.

    Args:
        workspace: the study.
    """

    workspace: AmbiguityWorkspace
    _scores: dict[tuple[SampleSet, int | None], AmbiguityScores] = field(default_factory=dict)

    @property
    def patients(self) -> list[str]:
        """Of the test images."""
        return [case.patient for case in self.workspace.test]

    def scores(self, drawing: SampleSet, count: int | None = None) -> AmbiguityScores:
        """Scores of the first N samples of every test image, the recipe's N where None."""
        key = (drawing, count)
        if key not in self._scores:
            few = self.workspace.samples(drawing)[:, : count or self.workspace.recipe.samples]
            raters = [rated_masks(case)[:, 0] for case in self.workspace.test]
            self._scores[key] = ambiguity_scores(list(few), raters)
        return self._scores[key]

    def empty(self, drawing: SampleSet, count: int | None = None) -> float:
        """Share of the first N samples that mark nothing."""
        few = self.workspace.samples(drawing)[:, : count or self.workspace.recipe.samples]
        return float((~few.any((-2, -1))).mean())

    @property
    def frame(self) -> str:
        """What the numbers are to be read against: raters often mark nothing, and so may a model."""
        raters = [rated_masks(case)[:, 0] for case in self.workspace.test]
        silent = np.concatenate([~masks.any((-2, -1)) for masks in raters]).mean()
        nothing = ambiguity_scores([np.zeros_like(masks[:1]) for masks in raters], raters).mean()
        themselves = ambiguity_scores(raters, raters).mean()
        return (
            f"Of the raters' masks {silent:.1%} are empty. A model that always answers with an "
            f"empty mask has an Average "
            f"Dice of {nothing['average_dice']:.4f} at a GED of {nothing['ged']:.4f}; the raters' own "
            f"masks as samples have {themselves['average_dice']:.4f} at {themselves['ged']:.4f}."
        )

    def seeds(self, name: str, w: float = 1.0, described: str | None = None) -> list[SampleSet]:
        """What is drawn of a model, by seed."""
        # The start of every knob is the reference.
        name, w = (REFERENCE, 1.0) if w == 0 else (name, w)
        every = [SampleSet(name, seed, w, described) for seed in self.workspace.recipe.seeds]
        return [one for one in every if self.workspace.drawn(one)]

    def values(self, drawings: Sequence[SampleSet], measure: str) -> list[Float[np.ndarray, " i"]]:
        """A measure of every image, per seed."""
        return [getattr(self.scores(one), measure) for one in drawings]

    def stops(self, name: str) -> list[float]:
        """Where on its knob a method was drawn: nowhere if only the reference was, its start."""
        drawn = [w for w in self._asked(name) if self.seeds(name, w)]
        return drawn if any(drawn) else []

    def on_knob(self, name: str, w: float) -> list[SampleSet]:
        """What is drawn at a stop of a method's knob, by seed; the reference in the method's seeds."""
        have = {one.seed for stop in self._asked(name) if stop for one in self.seeds(name, stop)}
        return [one for one in self.seeds(name, w) if one.seed in have]

    def curve_seeds(self, name: str) -> set[int]:
        """Seeds in which every stop that the recipe asks for is drawn."""
        stops = self._asked(name)
        return set.intersection(*({one.seed for one in self.seeds(name, w)} for w in stops))

    def _asked(self, name: str) -> list[float]:
        return sorted({0.0, 1.0, *self.workspace.recipe.knob.get(name, ())})

    def curve(self, name: str, seeds: Collection[int] | None = None) -> Curve | None:
        """Average Dice and GED over the knob, seeds averaged.

        Args:
            name: of the method.
            seeds: that have every stop; all such seeds where None. There is no curve without any.
        """
        chosen = self.curve_seeds(name) if seeds is None else seeds
        if not chosen:
            return None
        drawn = [
            [one for one in self.seeds(name, w) if one.seed in chosen] for w in self.stops(name)
        ]

        def over_weights(measure: str) -> Float[np.ndarray, "w image"]:
            return np.asarray(np.mean([self.values(one, measure) for one in drawn], axis=1))

        return over_weights("average_dice"), over_weights("ged")
