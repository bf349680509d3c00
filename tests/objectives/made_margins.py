"""Margins as numbers, and one of every objective."""

from __future__ import annotations

import torch

from segpref.contrib.objectives import (
    DPOPRO,
    ODPO,
    ORPO,
    RPO,
    AlphaDPO,
    AMaPO,
    BetaDPO,
    ConservativeDPO,
    DrDPO,
    GammaPO,
    Hinge,
    RampLoss,
    SigmoidLoss,
    SimPO,
    SoftDPO,
    UncertaintyPenalizedDPO,
)
from segpref.objectives import DPO, IPO, KTO, BestOnly, CalibratedDPO, RobustDPO
from segpref.types import Margins

ALL = {
    "DPO": DPO(0.7),
    "IPO": IPO(0.7),
    "RobustDPO": RobustDPO(0.7, 0.2),
    "ConservativeDPO": ConservativeDPO(0.7, 0.2),
    "CalibratedDPO": CalibratedDPO(0.7, (0.1, 0.3), (0.4, 0.1)),
    "Hinge": Hinge(0.7),
    "RPO": RPO(0.7, 0.3),
    "SimPO": SimPO(2.0, 0.4),
    "ORPO": ORPO(0.3),
    "ODPO": ODPO(0.7, 0.5),
    "ODPO log": ODPO(0.7, 0.5, "log"),
    "SoftDPO": SoftDPO(0.7, 0.2),
    "UncertaintyPenalizedDPO margin": UncertaintyPenalizedDPO(0.7, 2.0),
    "UncertaintyPenalizedDPO weight": UncertaintyPenalizedDPO(0.7, 2.0, "weight"),
    "UncertaintyPenalizedDPO gap": UncertaintyPenalizedDPO(0.7, 2.0, temperature=0.2),
    "DPOPRO": DPOPRO(0.7, 0.1, 0.2),
    "SigmoidLoss": SigmoidLoss(0.7),
    "RampLoss": RampLoss(0.7),
    "DrDPO": DrDPO(0.7, 1.5),
    "BetaDPO": BetaDPO(0.7, 0.6, 0.1),
    "BetaDPO filtered": BetaDPO(0.7, 0.6, 0.1, keep=0.5),
    "AlphaDPO": AlphaDPO(2.0, 0.4, 0.1),
    "GammaPO": GammaPO(0.7, 0.5, 3.0),
    "AMaPO": AMaPO(0.7),
    "BestOnly": BestOnly(0.7),
    "KTO": KTO(0.7, 1.2, 0.8),
}
"""One of every objective, by its class and what is particular to it."""

BATCH = ("DrDPO", "BetaDPO", "AlphaDPO", "GammaPO", "AMaPO", "KTO")
"""The classes whose losses depend on the other pairs of the batch."""


def of(
    delta: list[float],
    *,
    reference: list[float] | float = 0.0,
    gap: list[float] | float = 0.2,
    winner: list[float] | float | None = None,
    reference_winner: list[float] | float | None = None,
    uncertainty: list[float] | float | None = None,
) -> Margins:
    """Margins in float64 whose policy part is ``delta`` beyond the reference's."""
    difference = torch.tensor(delta, dtype=torch.float64)

    def column(values: list[float] | float) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float64).expand(len(difference)).clone()

    part = column(reference)
    return Margins(
        policy=difference + part,
        reference=part,
        gap=column(gap),
        winner=None if winner is None else column(winner),
        reference_winner=None if reference_winner is None else column(reference_winner),
        uncertainty=None if uncertainty is None else column(uncertainty),
    )


def everything(delta: list[float]) -> Margins:
    """Margins with all that any objective asks for; no log-likelihood above 0."""
    count = len(delta)
    gap = [0.05 + 0.1 * number for number in range(count)]
    reference = [0.2 * number - 0.3 for number in range(count)]
    # The loser's is the winner's minus the policy part.
    winner = [
        -0.1 - 0.2 * number - max(0.0, -(d + r))
        for number, (d, r) in enumerate(zip(delta, reference, strict=True))
    ]
    return of(
        delta,
        reference=reference,
        gap=gap,
        winner=winner,
        reference_winner=[value - 0.2 for value in winner],
        uncertainty=0.15,
    )
