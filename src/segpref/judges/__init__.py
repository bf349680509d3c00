"""Judges give every candidate of a slate a score; one class per way of judging."""

from segpref.judges.annotator import VirtualAnnotator
from segpref.judges.committee import Committee, trust_weights
from segpref.judges.diversity import DiversityJudge
from segpref.judges.ensemble import EnsembleJudge
from segpref.judges.masks import MasksJudge
from segpref.judges.model import ModelJudge
from segpref.judges.naming import NamedJudge, NamedPredictor
from segpref.judges.noisy import NoisyJudge
from segpref.judges.oracle import OracleJudge
from segpref.judges.raters import RatersJudge
from segpref.judges.regressor import RegressorJudge
from segpref.judges.silence import SilentJudge, note_silence, silence_of

__all__ = [
    "Committee",
    "DiversityJudge",
    "EnsembleJudge",
    "MasksJudge",
    "ModelJudge",
    "NamedJudge",
    "NamedPredictor",
    "NoisyJudge",
    "OracleJudge",
    "RatersJudge",
    "RegressorJudge",
    "SilentJudge",
    "VirtualAnnotator",
    "note_silence",
    "silence_of",
    "trust_weights",
]
