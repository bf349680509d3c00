"""Preferences that are not learned from: how far the policy agrees with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from segpref.data.dataset import Dataset
from segpref.objectives.likelihood import disagreement
from segpref.preferences import AbstainingJudge, Mined, RecordedPairs, RoundSlates, WholeSlates
from segpref.runtime import runtime
from segpref.training.margins import LogitMargins
from segpref.types import Case, Objective, Predictor, SegprefError, Slate

__all__ = ["AGREEMENT", "HeldOut", "agreement"]

AGREEMENT = "val_votes"
"""Column of the agreement with held-out preferences."""


@dataclass(frozen=True)
class HeldOut:
    """Preferences of patients that are not learned from.

    Args:
        records: what was said.
        cases: of a standing set, in its order; those without a record are passed over.
        slates: folder of the set (:class:`~segpref.preferences.RoundSlates`).
    """

    records: RecordedPairs
    cases: Dataset
    slates: Path

    def of(self, objective: Objective) -> HeldOut:
        """The same, with what this objective can learn from."""
        return replace(self, records=replace(self.records, objective=objective))

    def says_something(self, objective: Objective) -> bool:
        """Whether any record is a pair of two masks of its slate for this objective.

        A tie is one, too, where the objective learns from ties.
        """
        told, slate, space = self.of(objective), self.slate(), self.cases.label_space
        asked = (i for i in range(len(self.cases)) if self.records.by_case.get(self.cases[i].id))
        return any(
            len(told.records([self.cases[i].id], [slate(i)], space).pairs.case) for i in asked
        )

    @property
    def patients(self) -> list[str]:
        """Patients that something was said of."""
        told = (case for case in self.cases if self.records.by_case.get(case.id))
        return sorted({case.patient for case in told})

    def slate(self) -> Callable[[int], Slate]:
        """Gives the slate of a case, of which the candidates that something was said of are needed."""
        if not WholeSlates.there(self.slates):
            kept = RoundSlates(_missing, self.cases, AbstainingJudge(), self.slates, every=1)
            return lambda index: kept([index], 0, 0).slates[0]
        whole, said = WholeSlates(self.slates), self.records.by_case
        if whole.cases != tuple(case.id for case in self.cases):
            raise SegprefError(
                f"{self.slates} holds masks of other images: restore the study's folder"
            )

        def slate(index: int) -> Slate:
            told = said.get(whole.cases[index], ())
            return whole.sparse(index, {name for one in told for name in one.candidates}).whole()

        return slate


class _Count(NamedTuple):
    agreed: float
    told: int


def agreement(held: HeldOut, policy: Predictor, reference: Predictor) -> Mapping[str, float]:
    """Share of the held-out preferences that the policy has moved towards.

    A pair agrees where its margin, normalised by the region, is above 0: the policy prefers the better
    mask more than the reference does. A margin of 0, as that of the reference itself, counts half. Of a
    mask that was rejected it is to be below 0. Ties say nothing here. Within a training of several
    processes each looks at its part of the cases.

    Args:
        held: what was said of which slates.
        policy: of whole images, as it is now.
        reference: of whole images.

    Returns:
        :data:`AGREEMENT`; NaN where nothing was said of the slates.
    """
    slate_of, space = held.slate(), policy.label_space
    singles = bool(getattr(held.records.objective, "single_masks", False))

    def counted(index: int) -> _Count:
        case: Case = held.cases[index]
        slates = [slate_of(index)]
        mined: Mined = held.records([case.id], slates, space)
        region = disagreement(slates, mined.pairs, space, whole=singles)
        target = np.ones(len(region)) if region.pairs.target is None else region.pairs.target
        said = np.sign(2 * target - 1)
        if not said.any():
            return _Count(0.0, 0)
        images = torch.from_numpy(np.stack([case.image]))
        with torch.no_grad():
            source = LogitMargins(policy.logits(images), reference.logits(images), space)
            delta = source(slates, region, "region").difference.cpu().numpy()
        sides = np.sign(delta) * said
        return _Count(float((sides[said != 0] / 2 + 0.5).sum()), int(np.count_nonzero(said)))

    asked = [i for i in range(len(held.cases)) if held.records.by_case.get(held.cases[i].id)]
    found = list(runtime().each(asked, counted))
    told = sum(one.told for one in found)
    return {AGREEMENT: sum(one.agreed for one in found) / told if told else float("nan")}


def _missing(cases: object, number: int) -> tuple[list[Slate], None]:
    raise SegprefError(
        "the slates of the held-out preferences are missing: restore the study's folder"
    )
