"""Settings of a quality report."""

from __future__ import annotations

from dataclasses import dataclass

from segpref.settings import Settings, setting

__all__ = ["QualityConfig"]


@dataclass(frozen=True, kw_only=True)
class QualityConfig(Settings):
    """Quality report."""

    coverage: float = setting(0.9, above=0, below=1)
    """How often the true Dice should lie in the interval around the predicted one."""

    flag_rate: float = setting(0.05, above=0, below=1)
    """Share of masks as good as those of the validation images that each check may flag."""

    reruns: int = setting(8, least=2)
    """Predictions with dropout whose disagreement is measured, where the model has dropout."""

    pictures: int = setting(24, least=0)
    """How many of the first masks the page shows."""
