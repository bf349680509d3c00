"""Tools for any network: where its blocks end, dropout after each block, hashes of weights; latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.networks.blocks import Block, find_blocks
    from segpref.networks.compiled import Compiled, NotCompiled, check_compiler
    from segpref.networks.dropout import DropoutKind, InjectedDropout
    from segpref.networks.gaussians import Gaussian, GaussianEncoder
    from segpref.networks.probabilistic_unet import ProbabilisticUNet
    from segpref.networks.seeded_dropout import SeededDropout, dropout_places, keyed_dropout
    from segpref.networks.tail import Tail, TailPass, find_tail, full_size
    from segpref.networks.weights import weights_digest
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "blocks": ("Block", "find_blocks"),
            "compiled": ("Compiled", "NotCompiled", "check_compiler"),
            "dropout": ("DropoutKind", "InjectedDropout"),
            "gaussians": ("Gaussian", "GaussianEncoder"),
            "probabilistic_unet": ("ProbabilisticUNet",),
            "seeded_dropout": ("SeededDropout", "dropout_places", "keyed_dropout"),
            "tail": ("Tail", "TailPass", "find_tail", "full_size"),
            "weights": ("weights_digest",),
        },
    )

__all__ = [
    "Block",
    "Compiled",
    "DropoutKind",
    "Gaussian",
    "GaussianEncoder",
    "InjectedDropout",
    "NotCompiled",
    "ProbabilisticUNet",
    "SeededDropout",
    "Tail",
    "TailPass",
    "check_compiler",
    "dropout_places",
    "find_blocks",
    "find_tail",
    "full_size",
    "keyed_dropout",
    "weights_digest",
]
