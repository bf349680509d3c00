"""Stage 1 (supervised), stage 2 (preferences), and the loop and the run folder that they share."""

from segpref.training.anchored import AnchoredSignal
from segpref.training.denoising import Denoising
from segpref.training.folder import RunFolder, is_first_process
from segpref.training.judges import fit_regressor, is_regressor, load_regressor
from segpref.training.preference import align
from segpref.training.semisupervised import fit_semisupervised
from segpref.training.signals import PreferenceSignal, PseudoLabelSignal, ScoredBatch, Signal
from segpref.training.supervised import fit

__all__ = [
    "AnchoredSignal",
    "Denoising",
    "PreferenceSignal",
    "PseudoLabelSignal",
    "RunFolder",
    "ScoredBatch",
    "Signal",
    "align",
    "fit",
    "fit_regressor",
    "fit_semisupervised",
    "is_first_process",
    "is_regressor",
    "load_regressor",
]
