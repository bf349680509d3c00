"""Stage 1 and stage 2: one configuration, one trainer, and the tasks that it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.training.ahead import SlatesAhead, weights_before
    from segpref.training.anchored import AnchoredSignal, SupervisedSignal
    from segpref.training.augmenting import StrongAugmentation, augmentation, augmented_batch
    from segpref.training.averaging import averaged, teacher_decay, warm_decay
    from segpref.training.compiling import check_compiled
    from segpref.training.config import AlignConfig, FitConfig
    from segpref.training.curves import curve_summary, smoothed, tail_average
    from segpref.training.feedback import Feedback
    from segpref.training.figures import Derived, EpochFigures, read_logs
    from segpref.training.folder import RunFolder, is_first_process
    from segpref.training.held_out import HeldOut, agreement
    from segpref.training.loop import StepResult, batch_stream, following_steps, run_loop
    from segpref.training.margins import LogitMargins
    from segpref.training.methods import method_of, with_flip_rates
    from segpref.training.predicted_ahead import PredictedAhead, PredictionUse, images_asked
    from segpref.training.rounds import PreferenceRounds
    from segpref.training.schedules import constant, cosine, halved, linear
    from segpref.training.signals import PreferenceSignal, PseudoLabelSignal, ScoredBatch, Signal
    from segpref.training.stages import (
        align,
        fit,
        fit_ambiguous,
        fit_diffusion,
        fit_promptable,
        fit_regressor,
    )
    from segpref.training.step import PreferenceStep, ScoredSlates, StepSlates
    from segpref.training.tasks.ambiguous import AmbiguousConfig
    from segpref.training.tasks.denoising import Denoising
    from segpref.training.tasks.diffusion import DiffusionConfig
    from segpref.training.tasks.promptable import PromptableConfig
    from segpref.training.tasks.regressor import RegressorConfig, is_regressor, load_regressor
    from segpref.training.tracking import tracked
    from segpref.training.trainer import Task, train
    from segpref.training.validation import validation_of
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "predicted_ahead": ("PredictedAhead", "PredictionUse", "images_asked"),
            "augmenting": (
                "StrongAugmentation",
                "augmentation",
                "augmented_batch",
            ),
            "ahead": ("SlatesAhead", "weights_before"),
            "anchored": ("AnchoredSignal", "SupervisedSignal"),
            "averaging": ("averaged", "teacher_decay", "warm_decay"),
            "compiling": ("check_compiled",),
            "config": ("AlignConfig", "FitConfig"),
            "curves": ("curve_summary", "smoothed", "tail_average"),
            "feedback": ("Feedback",),
            "folder": ("RunFolder", "is_first_process"),
            "held_out": ("HeldOut", "agreement"),
            "figures": ("Derived", "EpochFigures", "read_logs"),
            "loop": ("StepResult", "batch_stream", "following_steps", "run_loop"),
            "margins": ("LogitMargins",),
            "methods": ("method_of", "with_flip_rates"),
            "rounds": ("PreferenceRounds",),
            "schedules": ("constant", "cosine", "halved", "linear"),
            "signals": ("PreferenceSignal", "PseudoLabelSignal", "ScoredBatch", "Signal"),
            "stages": (
                "align",
                "fit",
                "fit_ambiguous",
                "fit_diffusion",
                "fit_promptable",
                "fit_regressor",
            ),
            "step": ("PreferenceStep", "ScoredSlates", "StepSlates"),
            "tasks.ambiguous": ("AmbiguousConfig",),
            "tasks.denoising": ("Denoising",),
            "tasks.diffusion": ("DiffusionConfig",),
            "tasks.promptable": ("PromptableConfig",),
            "tasks.regressor": ("RegressorConfig", "is_regressor", "load_regressor"),
            "tracking": ("tracked",),
            "trainer": ("Task", "train"),
            "validation": ("validation_of",),
        },
    )

__all__ = [
    "AlignConfig",
    "AmbiguousConfig",
    "AnchoredSignal",
    "Denoising",
    "Derived",
    "DiffusionConfig",
    "EpochFigures",
    "Feedback",
    "FitConfig",
    "HeldOut",
    "LogitMargins",
    "PredictedAhead",
    "PredictionUse",
    "PreferenceRounds",
    "PreferenceSignal",
    "PreferenceStep",
    "PromptableConfig",
    "PseudoLabelSignal",
    "RegressorConfig",
    "RunFolder",
    "ScoredBatch",
    "ScoredSlates",
    "Signal",
    "SlatesAhead",
    "StepResult",
    "StepSlates",
    "StrongAugmentation",
    "SupervisedSignal",
    "Task",
    "agreement",
    "align",
    "augmentation",
    "augmented_batch",
    "averaged",
    "batch_stream",
    "check_compiled",
    "constant",
    "cosine",
    "curve_summary",
    "fit",
    "fit_ambiguous",
    "fit_diffusion",
    "fit_promptable",
    "fit_regressor",
    "following_steps",
    "halved",
    "images_asked",
    "is_first_process",
    "is_regressor",
    "linear",
    "load_regressor",
    "method_of",
    "read_logs",
    "run_loop",
    "smoothed",
    "tail_average",
    "teacher_decay",
    "tracked",
    "train",
    "validation_of",
    "warm_decay",
    "weights_before",
    "with_flip_rates",
]
