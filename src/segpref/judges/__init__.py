"""Judges score every candidate of a slate; one class per kind of judge."""

from segpref.judges.annotator import VirtualAnnotator
from segpref.judges.committee import Committee, trust_weights
from segpref.judges.diversity import DiversityJudge
from segpref.judges.ensemble import EnsembleJudge
from segpref.judges.masks import MasksJudge
from segpref.judges.model import ModelJudge
from segpref.judges.noisy import NoisyJudge
from segpref.judges.oracle import OracleJudge
from segpref.judges.raters import RatersJudge
from segpref.judges.regressor import RegressorJudge
from segpref.judges.undrawn_structures import MaskBasedJudge, note_undrawn_structures, silence_of
from segpref.judges.yaml_types import NamedJudge, NamedPredictor

__all__ = [
    "Committee",
    "DiversityJudge",
    "EnsembleJudge",
    "MaskBasedJudge",
    "MasksJudge",
    "ModelJudge",
    "NamedJudge",
    "NamedPredictor",
    "NoisyJudge",
    "OracleJudge",
    "RatersJudge",
    "RegressorJudge",
    "VirtualAnnotator",
    "note_undrawn_structures",
    "silence_of",
    "trust_weights",
]
