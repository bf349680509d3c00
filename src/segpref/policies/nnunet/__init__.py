"""Trained nnU-Net v2 models as policies, and back into folders that stock nnU-Net takes."""

from segpref.policies.nnunet.folder import NnUNetFolder, read_nnunet, write_nnunet
from segpref.policies.nnunet.network import NnUNetNetwork
from segpref.policies.nnunet.prediction import NnUNetPrediction
from segpref.policies.nnunet.preparation import NnUNetPreparation

__all__ = [
    "NnUNetFolder",
    "NnUNetNetwork",
    "NnUNetPrediction",
    "NnUNetPreparation",
    "read_nnunet",
    "write_nnunet",
]
