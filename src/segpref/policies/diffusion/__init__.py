"""AmbiSeg: text-conditional diffusion models of ambiguous segmentations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.policies.diffusion.interpolation import BlendedPredictions, between, interpolated
    from segpref.policies.diffusion.margins import DenoisingMargins
    from segpref.policies.diffusion.network import AmbiSegNetwork, Context
    from segpref.policies.diffusion.policy import (
        DIFFUSION,
        AmbiSeg,
        Denoiser,
        Draw,
        diffusion_of,
        draw,
        is_diffusion,
        load_diffusion,
        signed,
    )
    from segpref.policies.diffusion.process import Prediction, Process, Solver
    from segpref.policies.diffusion.sampling import Sampler
    from segpref.policies.diffusion.slates import SampleSlates, prompt_of
    from segpref.policies.diffusion.text import TextEncoder
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "interpolation": ("BlendedPredictions", "between", "interpolated"),
            "margins": ("DenoisingMargins",),
            "network": ("AmbiSegNetwork", "Context"),
            "policy": (
                "AmbiSeg",
                "DIFFUSION",
                "Denoiser",
                "Draw",
                "diffusion_of",
                "draw",
                "is_diffusion",
                "load_diffusion",
                "signed",
            ),
            "process": ("Prediction", "Process", "Solver"),
            "sampling": ("Sampler",),
            "slates": ("SampleSlates", "prompt_of"),
            "text": ("TextEncoder",),
        },
    )

__all__ = [
    "DIFFUSION",
    "AmbiSeg",
    "AmbiSegNetwork",
    "BlendedPredictions",
    "Context",
    "Denoiser",
    "DenoisingMargins",
    "Draw",
    "Prediction",
    "Process",
    "SampleSlates",
    "Sampler",
    "Solver",
    "TextEncoder",
    "between",
    "diffusion_of",
    "draw",
    "interpolated",
    "is_diffusion",
    "load_diffusion",
    "prompt_of",
    "signed",
]
