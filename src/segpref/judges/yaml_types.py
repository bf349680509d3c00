"""Types for judges and predictors that YAML names by class path.

jsonargparse takes a class for a protocol only where every annotation of a method is equal or the
protocol's is ``Any``, and two array types with the same shape are never equal. So these protocols say
``Any`` where :mod:`segpref.types` states the shapes.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from segpref.types import Judge, Predictor

__all__ = ["NamedJudge", "NamedPredictor"]


@runtime_checkable
class NamedPredictor(Predictor, Protocol):
    """A :class:`~segpref.types.Predictor` by ``class_path`` and ``init_args``."""

    def logits(self, images: Any) -> Any:
        """Logits of a batch, without a graph."""
        ...


@runtime_checkable
class NamedJudge(Judge, Protocol):
    """A :class:`~segpref.types.Judge` by ``class_path`` and ``init_args``."""

    def score(self, case: Any, slate: Any) -> Any:
        """Scores of one slate."""
        ...
