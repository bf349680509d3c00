"""What an engineer in a hospital begins with: labelled volumes, and an export from the PACS.

Everything is made of phantoms; the export's hearts have no labels.
"""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
from tests.data.dicom_files import CORONAL, image, save, stack

from segpref.data.phantoms import write_phantoms

SIZE = (32, 32, 4)
PATIENTS = 8
PARTS = {"train": 4, "judge": 4, "validation": 7, "test": 5}
LABELLED = sum(PARTS.values())
SHORT_AXIS = "Cine short axis"


def hospital(folder: Path) -> None:
    """Write ``DATASET``, labelled volumes as nnU-Net keeps them, and ``EXPORT``, files of DICOM."""
    phantoms = write_phantoms(folder / "phantoms", "cardiac", SIZE, LABELLED + PATIENTS, seed=0)
    dataset = folder / "DATASET"
    for name in ("imagesTr", "labelsTr"):
        (dataset / name).mkdir(parents=True)
    for number in range(LABELLED):
        for kind, name in (("images", f"heart{number:02d}_0000"), ("labels", f"heart{number:02d}")):
            path = phantoms / kind / f"phantom{number:03d}_t0.nii.gz"
            path.rename(dataset / f"{kind}Tr" / f"{name}.nii.gz")
    description = {
        "channel_names": {"0": "MRI"}, "numTraining": LABELLED, "file_ending": ".nii.gz",
        "labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3},
    }  # fmt: skip
    (dataset / "dataset.json").write_text(json.dumps(description))
    for number in range(PATIENTS):
        path = phantoms / "images" / f"phantom{LABELLED + number:03d}_t0.nii.gz"
        export_study(folder / "EXPORT", number, np.asarray(nib.load(path).dataobj))
    shutil.rmtree(phantoms)
    names = iter(f"heart{number:02d}" for number in range(LABELLED))
    parts = {part: list(islice(names, count)) for part, count in PARTS.items()}
    (folder / "split.json").write_text(json.dumps({"by_patient": True, **parts}))


def export_study(folder: Path, number: int, heart: np.ndarray) -> None:
    """One patient's study, its files beside those of all others: one series to take, three not to.

    Args:
        folder: of the export.
        number: of the patient.
        heart: ``[x, y, z]``, whose axes lead to the right, to the front and upwards.
    """
    scaled = (heart - heart.min()) / np.ptp(heart) * 2000
    # In DICOM columns lead to the left and rows to the back.
    volume = np.moveaxis(scaled[::-1, ::-1], 2, 0).swapaxes(1, 2).astype(np.uint16)
    study = f"1.9.{number + 1}"
    common = {
        "PatientID": f"MRN{number:04d}", "PatientName": f"Doe^{number}", "StudyInstanceUID": study,
        "StudyDate": f"2024010{number + 1}", "Modality": "MR", "FrameOfReferenceUID": f"{study}.9",
    }  # fmt: skip
    for which, (text, values, orientation) in enumerate(
        [
            (SHORT_AXIS, volume, (1.0, 0, 0, 0, 1, 0)),
            ("Cine 4 chamber", volume.swapaxes(0, 1)[:5], CORONAL),
            ("T2 map", volume[:3], (1.0, 0, 0, 0, 1, 0)),
        ],
        start=1,
    ):
        stack(
            folder, values, orientation, spacing=(5.3, 5.3), gap_mm=25,
            names=f"I{number}{which}" + "{:04d}",
            SeriesInstanceUID=f"{study}.{which}", SeriesDescription=text, SeriesNumber=which, **common,
        )  # fmt: skip
    scout = image(
        volume[0], **common, SeriesInstanceUID=f"{study}.4", SeriesDescription="Scout",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )  # fmt: skip
    save(folder / f"I{number}40001", scout)
