"""Judges that no recipe of segpref uses: see :mod:`segpref.contrib`.

How a study makes them is in :mod:`segpref.contrib.judges.recipes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.contrib.judges.staple import staple
from segpref.faces import face

if TYPE_CHECKING:
    from segpref.contrib.judges.confidence import ConfidenceJudge
    from segpref.contrib.judges.consistency import ConsistencyJudge
    from segpref.contrib.judges.predicted_iou import PredictedIoU
    from segpref.contrib.judges.reverse import ReverseClassificationJudge
    from segpref.contrib.judges.staple import ConsensusJudge, consensus
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "confidence": ("ConfidenceJudge",),
            "consistency": ("ConsistencyJudge",),
            "predicted_iou": ("PredictedIoU",),
            "reverse": ("ReverseClassificationJudge",),
            "staple": ("ConsensusJudge", "consensus"),
        },
    )

__all__ = [
    "ConfidenceJudge",
    "ConsensusJudge",
    "ConsistencyJudge",
    "PredictedIoU",
    "ReverseClassificationJudge",
    "consensus",
    "staple",
]
