"""Slates of candidate masks: alternatives to the policy's prediction (Sec. 3.2, Appendix A.2).

A family is one small class that turns a :class:`ProposalContext` into candidates, best first, made
only when asked for; :class:`SlateProposals` fills a slate of exactly K of them. A new family is
one more such class, here or on the user's own import path.
"""

from __future__ import annotations

from segpref.proposals.boundary import InterfaceOffset, StructureOffset, UniformOffset
from segpref.proposals.compositions import CleanedDropoutMean, CleanedExtremes, CleanedOffset
from segpref.proposals.diversity import dropout_diversity
from segpref.proposals.dropout import MonteCarloDropout
from segpref.proposals.extent import AreaQuantile, LogitBias
from segpref.proposals.labelmap import LabelMap
from segpref.proposals.mirrored import MirroredViews
from segpref.proposals.other_masks import OtherMasks
from segpref.proposals.prompted import MultimaskOutput, OtherPrompts
from segpref.proposals.proposal import NetworkProposal, Proposal, ProposalContext, StoredProposal
from segpref.proposals.rates import (
    DropoutRates,
    InputNoise,
    StochasticPolicy,
    Thresholds,
    full_slates,
)
from segpref.proposals.slate import SlateProposals, default_families
from segpref.proposals.topology import HoleFilling, LargestComponent
from segpref.proposals.tta import IntensityTTA

__all__ = [
    "AreaQuantile",
    "CleanedDropoutMean",
    "CleanedExtremes",
    "CleanedOffset",
    "DropoutRates",
    "HoleFilling",
    "InputNoise",
    "IntensityTTA",
    "InterfaceOffset",
    "LabelMap",
    "LargestComponent",
    "LogitBias",
    "MirroredViews",
    "MonteCarloDropout",
    "MultimaskOutput",
    "NetworkProposal",
    "OtherMasks",
    "OtherPrompts",
    "Proposal",
    "ProposalContext",
    "SlateProposals",
    "StochasticPolicy",
    "StoredProposal",
    "StructureOffset",
    "Thresholds",
    "UniformOffset",
    "default_families",
    "dropout_diversity",
    "full_slates",
]
