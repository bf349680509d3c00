"""Generated cases for a machine without data: hard enough that a small base segmenter fails.

``chest`` is multi-label (clavicles overlap the lungs), ``cardiac`` is multi-class; both in 2D, 3D.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.data.phantoms.appearance import Field, Grid
    from segpref.data.phantoms.cardiac import Heart
    from segpref.data.phantoms.chest import Chest
    from segpref.data.phantoms.dataset import PATIENT_PATTERN, write_phantoms
    from segpref.data.phantoms.opened import phantoms
    from segpref.data.phantoms.patient import Kind, label_space, make_phantom
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "appearance": ("Field", "Grid"),
            "cardiac": ("Heart",),
            "chest": ("Chest",),
            "dataset": ("PATIENT_PATTERN", "write_phantoms"),
            "opened": ("phantoms",),
            "patient": ("Kind", "label_space", "make_phantom"),
        },
    )

__all__ = [
    "PATIENT_PATTERN",
    "Chest",
    "Field",
    "Grid",
    "Heart",
    "Kind",
    "label_space",
    "make_phantom",
    "phantoms",
    "write_phantoms",
]
