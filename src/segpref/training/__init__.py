"""Stage 1 and stage 2: one configuration, one trainer, and the tasks that it runs."""

from segpref.training.anchored import AnchoredSignal
from segpref.training.config import AlignConfig, FitConfig
from segpref.training.folder import RunFolder, is_first_process
from segpref.training.signals import PreferenceSignal, PseudoLabelSignal, ScoredBatch, Signal
from segpref.training.stages import align, fit, fit_diffusion, fit_promptable, fit_regressor
from segpref.training.tasks.diffusion import DiffusionConfig
from segpref.training.tasks.promptable import PromptableConfig
from segpref.training.tasks.regressor import RegressorConfig, is_regressor, load_regressor
from segpref.training.tasks.samples import Denoising
from segpref.training.trainer import Task, train

__all__ = [
    "AlignConfig",
    "AnchoredSignal",
    "Denoising",
    "DiffusionConfig",
    "FitConfig",
    "PreferenceSignal",
    "PromptableConfig",
    "PseudoLabelSignal",
    "RegressorConfig",
    "RunFolder",
    "ScoredBatch",
    "Signal",
    "Task",
    "align",
    "fit",
    "fit_diffusion",
    "fit_promptable",
    "fit_regressor",
    "is_first_process",
    "is_regressor",
    "load_regressor",
    "train",
]
