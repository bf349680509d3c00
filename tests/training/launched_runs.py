"""What a launch starts: ``launched_runs.py OUT DATA STORE``.

MONAI is imported as segpref's own processes do it, which halves the time that a launch takes, and the
trainings are in a module whose name model files can give for the network.
"""

from __future__ import annotations

import sys
from pathlib import Path

from segpref.process_setup import import_monai_alone

if __name__ == "__main__":
    import_monai_alone()
    from runs_in_processes import main

    main(*map(Path, sys.argv[1:]))
