"""Judges that no recipe of segpref uses: see :mod:`segpref.contrib`.

How a study makes them is in :mod:`segpref.contrib.judges.recipes`.
"""

from __future__ import annotations

from segpref.contrib.judges.confidence import ConfidenceJudge
from segpref.contrib.judges.consistency import ConsistencyJudge
from segpref.contrib.judges.predicted_iou import PredictedIoU
from segpref.contrib.judges.reverse import ReverseClassificationJudge
from segpref.contrib.judges.staple import ConsensusJudge, staple

__all__ = [
    "ConfidenceJudge",
    "ConsensusJudge",
    "ConsistencyJudge",
    "PredictedIoU",
    "ReverseClassificationJudge",
    "staple",
]
