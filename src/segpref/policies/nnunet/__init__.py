"""Trained nnU-Net v2 models as policies, and back into folders that stock nnU-Net takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.policies.nnunet.files import checkpoint_of, folds_of
    from segpref.policies.nnunet.folder import NnUNetFolder, read_nnunet, write_nnunet
    from segpref.policies.nnunet.network import NnUNetNetwork
    from segpref.policies.nnunet.prediction import NnUNetPrediction
    from segpref.policies.nnunet.preparation import NnUNetPreparation
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "files": ("checkpoint_of", "folds_of"),
            "folder": ("NnUNetFolder", "read_nnunet", "write_nnunet"),
            "network": ("NnUNetNetwork",),
            "prediction": ("NnUNetPrediction",),
            "preparation": ("NnUNetPreparation",),
        },
    )

__all__ = [
    "NnUNetFolder",
    "NnUNetNetwork",
    "NnUNetPrediction",
    "NnUNetPreparation",
    "checkpoint_of",
    "folds_of",
    "read_nnunet",
    "write_nnunet",
]
