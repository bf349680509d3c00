"""The types and protocols that all other modules use.

The data flow is one sentence, and the names here are its words::

    image -> policy -> slate -> judge -> scores -> miner -> pairs -> margin -> objective -> update

Shapes: ``K`` candidates of one image, ``P`` pairs of one batch, ``C`` network outputs, ``field`` the
independent label maps of a mask, ``*space`` two or three spatial axes in array order.
"""

from __future__ import annotations

from segpref.types.case import Case, Sliceable, Window, known_spacing, whole_spacing
from segpref.types.errors import SegprefError
from segpref.types.label_space import IGNORE, LARGEST_ON_DISK, LabelSpace, Region
from segpref.types.protocols import (
    Judge,
    Miner,
    Objective,
    Policy,
    Predictor,
    PreparedJudge,
    State,
    UnsureJudge,
)
from segpref.types.slate import Candidate, Margins, Pairs, Slate, WeightedPairs

__all__ = [
    "IGNORE",
    "LARGEST_ON_DISK",
    "Candidate",
    "Case",
    "Judge",
    "LabelSpace",
    "Margins",
    "Miner",
    "Objective",
    "Pairs",
    "Policy",
    "Predictor",
    "PreparedJudge",
    "Region",
    "SegprefError",
    "Slate",
    "Sliceable",
    "State",
    "UnsureJudge",
    "WeightedPairs",
    "Window",
    "known_spacing",
    "whole_spacing",
]
