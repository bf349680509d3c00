"""Generated cases for a machine without data: hard enough that a small base segmenter fails.

``chest`` is multi-label (clavicles overlap the lungs), ``cardiac`` is multi-class; both in 2D, 3D.
"""

from __future__ import annotations

from segpref.data.phantoms.dataset import PATIENT_PATTERN, write_phantoms
from segpref.data.phantoms.opened import phantoms
from segpref.data.phantoms.patient import Kind, label_space, make_phantom

__all__ = ["PATIENT_PATTERN", "Kind", "label_space", "make_phantom", "phantoms", "write_phantoms"]
