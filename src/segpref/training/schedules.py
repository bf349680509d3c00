"""Learning-rate schedules, as functions of the share of the run that is done."""

from __future__ import annotations

import math
from collections.abc import Callable

from segpref.training.config import TrainingConfig

__all__ = ["constant", "cosine", "halved", "learning_rate_of", "linear"]

Rate = Callable[[float], float]
"""Share of the run that is done, 0 to 1 -> learning rate."""


def learning_rate_of(config: TrainingConfig) -> Rate:
    """The learning rate of a run."""
    rate = config.learning_rate
    if config.schedule == "halved":
        return halved(rate, config.halve_every, config.epochs)
    return {"constant": constant, "cosine": cosine, "linear": linear}[config.schedule](rate)


def constant(rate: float) -> Rate:
    """The same learning rate from beginning to end."""
    return lambda progress: rate


def linear(rate: float) -> Rate:
    """From the rate at the beginning straight down to 0."""
    return lambda progress: rate * (1 - progress)


def cosine(rate: float, warm_up: float = 0.05) -> Rate:
    """Linear warm-up over a share of the run, then a half cosine down to zero."""

    def at(progress: float) -> float:
        if progress < warm_up:
            return rate * (progress / warm_up * 0.9 + 0.1)
        return rate * 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))

    return at


def halved(rate: float, every: float, epochs: int) -> Rate:
    """A learning rate that is halved every so many of the run's epochs."""

    def at(progress: float) -> float:
        # Progress is a quotient: 10 / 30 x 30 may fall short of 10.
        return rate * 0.5 ** math.floor(progress * epochs / every + 1e-6)

    return at
