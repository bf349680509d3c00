"""Objectives from the literature that no recipe of segpref uses: see :mod:`segpref.contrib`."""

from __future__ import annotations

from segpref.contrib.objectives.adaptive import AlphaDPO, AMaPO, BetaDPO, GammaPO
from segpref.contrib.objectives.graded import DPOPRO, ODPO, SoftDPO, UncertaintyPenalizedDPO
from segpref.contrib.objectives.pairwise import RPO, ConservativeDPO, Hinge
from segpref.contrib.objectives.reference_free import ORPO, SimPO
from segpref.contrib.objectives.robust import DrDPO, RampLoss, SigmoidLoss

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
]
