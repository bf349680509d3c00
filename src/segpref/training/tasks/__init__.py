"""Training tasks, one per file; see :class:`segpref.training.Task`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.training.tasks.regressor import load_regressor
    from segpref.training.tasks.samples import SampledSlates
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "regressor": ("load_regressor",),
            "samples": ("SampledSlates",),
        },
    )

__all__ = [
    "SampledSlates",
    "load_regressor",
]
