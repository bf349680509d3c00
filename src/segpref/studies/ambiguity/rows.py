"""Rows and claims that several tables of the study are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segpref.report.tables import TableRow, mean_and_spread
from segpref.studies.ambiguity.findings import Findings
from segpref.studies.ambiguity.sample_files import SampleSet
from segpref.studies.ambiguity.scores import COLUMNS, gain

__all__ = ["compared", "row_of"]


def row_of(
    found: Findings, name: str, drawings: Sequence[SampleSet], count: int | None = None
) -> TableRow:
    """A model: mean and spread over its seeds, of its first N samples."""
    means = [found.scores(one, count).mean() for one in drawings]
    figures = {
        column: mean_and_spread([one[measure] for one in means])
        for column, measure in COLUMNS.items()
    }
    figures["Empty"] = mean_and_spread([found.empty(one, count) for one in drawings])
    return TableRow(name, len(drawings), figures)


def compared(found: Findings, name: str, other: str) -> str:
    """What a model gains over another in the seeds that both have; empty where there is none."""
    both = {one.seed for one in found.seeds(name)} & {one.seed for one in found.seeds(other)}
    if not both:
        return ""
    ours, theirs = (
        [one for one in found.seeds(each) if one.seed in both] for each in (name, other)
    )
    told = []
    for column in ("Avg. Dice", "GED"):
        mine, base = (found.values(each, COLUMNS[column]) for each in (ours, theirs))
        agree = sum(np.mean(a) > np.mean(b) for a, b in zip(mine, base, strict=True))
        change = gain(mine, base, found.patients)
        told.append(f"{column} {change}, higher in {agree} of {len(ours)} seeds")
    return f"{name} against {other}: {'; '.join(told)}."
