"""One fold that stock nnU-Net trained and `segpref align` tuned, whose result is on record.

Run as a program by the Python of nnU-Net's environment, the module records it anew:
``PYTHONPATH=. .venv-nnunet/bin/python tests/nnunet/record.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nnunet_workplace import CASES, SHORT, Workplace, command, made_workplace, split_file
from tests.baseline.records import make_record

RECORD = Path(__file__).with_name("record.json")


def aligned_fold(workplace: Workplace, place: Path) -> Path:
    """Fold 0 of a seeded training of stock nnU-Net, judged by the labels of two further cases."""
    model, out = workplace.trained("3d_fullres"), place / "recorded"
    command(
        workplace, "align", model / "fold_0", out, *SHORT, "--learning_rate", "0.01",
        "--epochs", "2", "--images_per_epoch", "4", "--judge", "oracle",
        # Some processors have bfloat16; and these families need passes of every kind.
        "--proposal_precision", "no", "--families", "paper",
        "--split", split_file(place / "recorded-split.json", CASES[1:5]),
        "--cache", str(place / "recorded-cache"),
    )  # fmt: skip
    return out


def from_nothing(place: Path) -> Path:
    """The same in an empty folder."""
    return aligned_fold(made_workplace(place / "nnunet", [("3d_fullres", 0)]), place)


if __name__ == "__main__":
    make_record(RECORD, {"align-fold": from_nothing}, sys.argv[1:])
