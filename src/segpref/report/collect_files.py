"""The figures of a study of votes as JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from segpref.data.csv_files import csv_text
from segpref.preferences import BradleyTerry, Estimate
from segpref.report.collect_data import CollectFigures, RaterFigures
from segpref.report.collect_more import Precision

__all__ = ["collect_json", "raters_csv", "strengths_csv"]


def collect_json(found: CollectFigures, precision: Sequence[Precision] = ()) -> dict[str, Any]:
    """All figures as plain values; None for what is not known. Raters are named by pseudonyms."""
    between = found.between
    content = {
        "mode": found.mode,
        "votes": found.votes,
        "normal_votes": found.normal,
        "wanted_votes": found.wanted,
        "images": found.images,
        "patients": found.patients,
        "raters": {name: _rater(one) for name, one in found.raters.items()},
        "between_raters": {
            "alpha": between.alpha.as_dict(),
            "alpha_ordinal": between.ordinal.as_dict(),
            "fleiss_kappa": between.fleiss.as_dict(),
            "fleiss_raters": between.fleiss_raters,
            "cohen_kappa": [
                {"raters": [*pair], **one.as_dict()} for pair, one in between.cohen.items()
            ],
        },
        "structures": {name: asdict(one) for name, one in found.structures.items()},
        "families": _model(found.families),
        "models": _model(found.models),
        "judges": [asdict(one) for one in found.judges],
        "base_or_tuned": None
        if found.preferred is None
        else {"word": found.preferred.word, **asdict(found.preferred)},
        "accepted": None if found.accepted is None else found.accepted.as_dict(),
        "more_votes": [
            {**asdict(one), "half_width_now": one.now, "needed": one.needed} for one in precision
        ],
    }
    plain: dict[str, Any] = _plain(content)
    return plain


def raters_csv(found: CollectFigures) -> str:
    """A line for each rater."""
    columns = (
        "rater", "votes", "taken_back", "days", "seconds_median",
        *(f"{name}{end}" for name in _SHARES for end in ("", "_low", "_high", "_of")),
    )  # fmt: skip
    rows = []
    for name, one in found.raters.items():
        row: dict[str, object] = {
            "rater": name, "votes": one.votes, "taken_back": one.taken_back, "days": len(one.days),
            "seconds_median": _number(one.times.median),
        }  # fmt: skip
        for figure, value in _shares(one).items():
            if value is not None:
                row |= _cells(figure, value)
        rows.append(row)
    return csv_text(rows, columns)


def strengths_csv(found: CollectFigures) -> str:
    """A line for each proposal family and each model."""
    rows = [
        {"of": what, "name": name, **_cells("log_strength", one)}
        for what, model in (("family", found.families), ("model", found.models))
        if model is not None
        for name, one in model.strength.items()
    ]
    ends = ("", "_low", "_high", "_of")
    return csv_text(rows, ("of", "name", *(f"log_strength{end}" for end in ends)))


_SHARES = ("flip_rate", "same_on_repeats", "kappa_on_repeats", "known_right", "left")


def _shares(one: RaterFigures) -> dict[str, Estimate | None]:
    trust = None if one.reliability is None else one.reliability.flip_rate
    values = (trust, one.repeats.same, one.repeats.kappa, one.gold, one.side)
    return dict(zip(_SHARES, values, strict=True))


def _cells(name: str, one: Estimate) -> dict[str, object]:
    values = {"": one.value, "_low": one.low, "_high": one.high}
    return {**{f"{name}{k}": _number(v) for k, v in values.items()}, f"{name}_of": one.count}


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.5g}"


def _rater(one: RaterFigures) -> dict[str, Any]:
    trust = one.reliability
    return {
        "votes": one.votes,
        "taken_back": one.taken_back,
        "answers": dict(one.answers),
        "days": dict(one.days),
        "repeats": {"same": one.repeats.same.as_dict(), "kappa": one.repeats.kappa.as_dict()},
        "left": one.side.as_dict(),
        "known_right": one.gold.as_dict(),
        "seconds": asdict(one.times),
        "flip_rate": None
        if trust is None
        else {**trust.flip_rate.as_dict(), "informative": trust.informative},
    }


def _model(model: BradleyTerry | None) -> dict[str, Any] | None:
    if model is None:
        return None
    return {
        "log_strength": {name: one.as_dict() for name, one in model.strength.items()},
        "left_log_odds": model.side.as_dict(),
        "ties_between_equals": model.tie.as_dict(),
        "comparisons": model.comparisons,
        "statement": model.statement,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
