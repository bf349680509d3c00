"""Ray clusters: joining or starting one, and work that its processes share.

Files are read and written by the workers, which see the same folders under the same paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.cluster.joining import joined, slots
    from segpref.cluster.options import RayPool
    from segpref.cluster.spreading import spread
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "joining": ("joined", "slots"),
            "options": ("RayPool",),
            "spreading": ("spread",),
        },
    )

__all__ = ["RayPool", "joined", "slots", "spread"]
