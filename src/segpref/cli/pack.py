"""`segpref pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.data import write_pack
from segpref.data.index import refuse_in_place
from segpref.data.packed import PACK_FILE
from segpref.folder_kinds import refuse_other_kind
from segpref.progress import stdout
from segpref.targets import check_outputs
from segpref.workflows.options import DataOptions
from segpref.workflows.readers import reader_of

__all__ = ["EXAMPLES", "pack"]

EXAMPLES = """\
  segpref pack --data DATA --out packed
  segpref pack --data DATA --out packed --data_options.patient_pattern "(patient[0-9]+)"
"""


def pack(
    data: Path,
    out: Path,
    settings: dict[str, Any],
    data_options: dict[str, Any] | None = None,
    labels: dict[str, int | list[int]] | None = None,
) -> None:
    """Pack a dataset to 8 bits, small enough to copy to another machine.

    Labels, geometry, patients and strata are kept as they are; intensities are kept exactly where a
    volume's values are whole numbers no more than 255 apart, else in 256 steps between its lowest and
    highest value. Every command takes the folder as --data.

    Args:
        data: folder of the dataset.
        out: folder to create; images that it holds already are not packed again.
        settings: the resolved options.
        data_options: passed to the reader, such as patient_pattern or exclude.
        labels: the values of the structures in label files, "{liver: 5, kidney: [2, 3]}", where not all
            are meant or several are one; values of "ignore" are left out, others are background.
    """
    refuse_in_place(out, data)
    refuse_other_kind(out, "pack")
    check_outputs(files=[out / PACK_FILE], folders=[out, out / "volumes"])
    reader = reader_of(data, DataOptions(data_options=data_options, labels=labels))
    size = write_pack(reader, out)
    stdout.print(f"{out}: {size / 1e6:.1f} MB")
