"""Semi-supervised training: the baselines that need unlabelled images but no judge.

A method is one frozen dataclass with its settings and one function, the loss of a step; a new one is
one more such class, here or on the user's own import path, named in YAML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.training.semisupervised.copy_paste import CopyPaste
    from segpref.training.semisupervised.features import feature_layers, lost_channels
    from segpref.training.semisupervised.matching import FixMatch, UniMatch, strong_view
    from segpref.training.semisupervised.mean_teacher import MeanTeacher
    from segpref.training.semisupervised.method import Method, MethodLoss, StepBatch, Teacher
    from segpref.training.semisupervised.mixing import box_masks, cutmix_masks, paste_masks, pasted
    from segpref.training.semisupervised.student import Student
    from segpref.training.semisupervised.targets import (
        confident_labels,
        largest_components,
        ramp_up,
    )
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "copy_paste": ("CopyPaste",),
            "features": ("feature_layers", "lost_channels"),
            "matching": ("FixMatch", "UniMatch", "strong_view"),
            "mean_teacher": ("MeanTeacher",),
            "method": ("Method", "MethodLoss", "StepBatch", "Teacher"),
            "mixing": ("box_masks", "cutmix_masks", "paste_masks", "pasted"),
            "student": ("Student",),
            "targets": ("confident_labels", "largest_components", "ramp_up"),
        },
    )

__all__ = [
    "CopyPaste",
    "FixMatch",
    "MeanTeacher",
    "Method",
    "MethodLoss",
    "StepBatch",
    "Student",
    "Teacher",
    "UniMatch",
    "box_masks",
    "confident_labels",
    "cutmix_masks",
    "feature_layers",
    "largest_components",
    "lost_channels",
    "paste_masks",
    "pasted",
    "ramp_up",
    "strong_view",
]
