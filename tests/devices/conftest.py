"""The trainings of ``tests/baseline``, and tiny checkpoints, are used here, too."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in ("baseline", "promptable"):
    sys.path.append(str(Path(__file__).parents[1] / folder))
