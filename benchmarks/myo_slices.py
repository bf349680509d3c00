"""One slice of the myocardium of each ACDC patient, as a folder of images and labels.

``python -m benchmarks.myo_slices --data ACDC --out SLICES`` writes the middle slice of each patient's
first volume (end-diastole) to ``images/`` and its myocardium, as 1, to ``labels/``, both with the
values of the files. It is the second dataset for LiteMedSAM (docs/results/litemedsam), which does not
draw this ring before it is tuned. Patients whose middle slice has no myocardium are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np

from segpref.data import open_dataset

__all__ = ["write_slices"]

STRUCTURE = "MYO"


def write_slices(data: Path, out: Path) -> list[str]:
    """Write the slices; the patients that are there now.

    Args:
        data: folder of ACDC.
        out: a new folder.
    """
    reader = open_dataset(data)
    assert reader.label_space is not None
    value = reader.label_space.names.index(STRUCTURE)
    written: list[str] = []
    for part in ("images", "labels"):
        (out / part).mkdir(parents=True, exist_ok=True)
    for source in sorted(reader.sources(), key=lambda one: one.id):
        if source.patient in written:
            continue
        case = reader.read(source)
        assert case.label is not None
        middle = case.image.shape[-1] // 2
        label = (case.label[0, ..., middle] == value).astype(np.uint8)
        if not label.any():
            continue
        written.append(source.patient)
        for part, values in (("images", case.image[0, ..., middle]), ("labels", label)):
            # The files of this dataset say nothing of sizes: a pixel is a unit here, too.
            image = nib.Nifti1Image(np.asarray(values)[..., None], np.eye(4))
            nib.save(image, out / part / f"{source.patient}.nii.gz")
    return written


def main() -> None:
    """Write them, and say how many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    print(f"{len(write_slices(given.data, given.out))} slices in {given.out}")


if __name__ == "__main__":
    main()
