"""Slates of candidate masks: alternatives to the policy's prediction (Sec. 3.2, Appendix A.2).

A family is one small class that turns a :class:`ProposalContext` into candidates, best first, made
only when asked for; :class:`SlateProposals` fills a slate of exactly K of them. A new family is
one more such class, here or on the user's own import path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.proposals.boundary import (
        InterfaceOffset,
        StructureOffset,
        UniformOffset,
        interfaces_by_contact,
        offset,
        offset_interface,
        offset_structure,
    )
    from segpref.proposals.compositions import CleanedDropoutMean, CleanedExtremes, CleanedOffset
    from segpref.proposals.diversity import dropout_diversity
    from segpref.proposals.dropout import MonteCarloDropout, mean_mask
    from segpref.proposals.extent import AreaQuantile, LogitBias, area_scaled, biased
    from segpref.proposals.labelmap import LabelMap
    from segpref.proposals.mirrored import MirroredViews
    from segpref.proposals.other_masks import OtherMasks
    from segpref.proposals.prompted import MultimaskOutput, OtherPrompts
    from segpref.proposals.proposal import (
        NetworkProposal,
        Proposal,
        ProposalContext,
        StoredProposal,
    )
    from segpref.proposals.rates import (
        RATES_2D,
        RATES_3D,
        THRESHOLDS,
        DropoutRates,
        InputNoise,
        StochasticPolicy,
        Thresholds,
        full_slates,
    )
    from segpref.proposals.slate import (
        Families,
        SlateProposals,
        draw,
        families_of,
        given_families,
        lean_families,
        paper_families,
    )
    from segpref.proposals.topology import (
        HoleFilling,
        LargestComponent,
        clean,
        fill_holes,
        keep_components,
    )
    from segpref.proposals.tta import IntensityTTA, IntensityViews, intensity_views
    from segpref.proposals.windows import absolute, bounding_box, grown, relative
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "boundary": (
                "InterfaceOffset",
                "StructureOffset",
                "UniformOffset",
                "interfaces_by_contact",
                "offset",
                "offset_interface",
                "offset_structure",
            ),
            "compositions": ("CleanedDropoutMean", "CleanedExtremes", "CleanedOffset"),
            "diversity": ("dropout_diversity",),
            "dropout": ("MonteCarloDropout", "mean_mask"),
            "extent": ("AreaQuantile", "LogitBias", "area_scaled", "biased"),
            "labelmap": ("LabelMap",),
            "mirrored": ("MirroredViews",),
            "other_masks": ("OtherMasks",),
            "prompted": ("MultimaskOutput", "OtherPrompts"),
            "proposal": ("NetworkProposal", "Proposal", "ProposalContext", "StoredProposal"),
            "rates": (
                "DropoutRates",
                "InputNoise",
                "RATES_2D",
                "RATES_3D",
                "StochasticPolicy",
                "THRESHOLDS",
                "Thresholds",
                "full_slates",
            ),
            "slate": (
                "Families",
                "SlateProposals",
                "draw",
                "families_of",
                "given_families",
                "lean_families",
                "paper_families",
            ),
            "topology": (
                "HoleFilling",
                "LargestComponent",
                "clean",
                "fill_holes",
                "keep_components",
            ),
            "tta": ("IntensityTTA", "IntensityViews", "intensity_views"),
            "windows": ("absolute", "bounding_box", "grown", "relative"),
        },
    )

__all__ = [
    "RATES_2D",
    "RATES_3D",
    "THRESHOLDS",
    "AreaQuantile",
    "CleanedDropoutMean",
    "CleanedExtremes",
    "CleanedOffset",
    "DropoutRates",
    "Families",
    "HoleFilling",
    "InputNoise",
    "IntensityTTA",
    "IntensityViews",
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
    "absolute",
    "area_scaled",
    "biased",
    "bounding_box",
    "clean",
    "draw",
    "dropout_diversity",
    "families_of",
    "fill_holes",
    "full_slates",
    "given_families",
    "grown",
    "intensity_views",
    "interfaces_by_contact",
    "keep_components",
    "lean_families",
    "mean_mask",
    "offset",
    "offset_interface",
    "offset_structure",
    "paper_families",
    "relative",
]
