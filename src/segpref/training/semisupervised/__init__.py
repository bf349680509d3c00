"""Semi-supervised training: the baselines that need unlabelled images but no judge.

A method is one frozen dataclass with its settings and one function, the loss of a step; a new one is
one more such class, here or on the user's own import path, named in YAML.
"""

from __future__ import annotations

from segpref.training.semisupervised.copy_paste import CopyPaste
from segpref.training.semisupervised.matching import FixMatch, UniMatch
from segpref.training.semisupervised.mean_teacher import MeanTeacher
from segpref.training.semisupervised.method import Method, MethodLoss, StepBatch, Teacher
from segpref.training.semisupervised.student import Student

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
]
