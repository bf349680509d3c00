"""Objectives from the literature that no recipe of segpref uses: see :mod:`segpref.contrib`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.contrib.objectives.adaptive import AlphaDPO, AMaPO, BetaDPO, GammaPO
    from segpref.contrib.objectives.graded import DPOPRO, ODPO, SoftDPO, UncertaintyPenalizedDPO
    from segpref.contrib.objectives.pairwise import RPO, ConservativeDPO, Hinge
    from segpref.contrib.objectives.reference_free import ORPO, SimPO
    from segpref.contrib.objectives.robust import DrDPO, RampLoss, SigmoidLoss
    from segpref.contrib.objectives.targets import optimal_shares
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "adaptive": ("AMaPO", "AlphaDPO", "BetaDPO", "GammaPO"),
            "graded": ("DPOPRO", "ODPO", "SoftDPO", "UncertaintyPenalizedDPO"),
            "pairwise": ("ConservativeDPO", "Hinge", "RPO"),
            "reference_free": ("ORPO", "SimPO"),
            "robust": ("DrDPO", "RampLoss", "SigmoidLoss"),
            "targets": ("optimal_shares",),
        },
    )

__all__ = [
    "DPOPRO",
    "ODPO",
    "ORPO",
    "RPO",
    "AMaPO",
    "AlphaDPO",
    "BetaDPO",
    "ConservativeDPO",
    "DrDPO",
    "GammaPO",
    "Hinge",
    "RampLoss",
    "SigmoidLoss",
    "SimPO",
    "SoftDPO",
    "UncertaintyPenalizedDPO",
    "optimal_shares",
]
