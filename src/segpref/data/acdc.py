"""ACDC cardiac cine MRI as the challenge distributes it (Bernard et al., IEEE TMI 2018)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from segpref.checking import checked
from segpref.data.cases import multilabel_space, read_class_case
from segpref.data.index import dataset_folder, index
from segpref.data.source import Source
from segpref.data.walk import Tree
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["ACDC"]

_FRAME = re.compile(r"(patient(\d{3}))_frame(\d+)(_gt)?\.nii(?:\.gz)?")
_GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")
_CLASSES = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))


@checked()
class ACDC:
    """ACDC: ``patientXXX/patientXXX_frameYY.nii.gz`` with labels in ``..._gt.nii.gz``.

    Patients may lie in the folder itself or in ``training/``, ``testing/`` or ``database/`` below
    it; the cine series ``_4d`` is left alone. The diagnosis comes from ``Info.cfg``, and where there
    is none from the order of the challenge's patients 1 to 100. A frame without labels is part of
    the dataset, labels without their frame are an error.

    Args:
        root: folder of the dataset.
        as_multilabel: read RV, MYO and LV as independent structures instead of classes.
    """

    channels: tuple[str, ...] = ("MRI",)
    patients_known: bool = True

    def __init__(self, root: Path | str, as_multilabel: bool = False) -> None:
        folder = dataset_folder(root, "the folders patient001, patient002 and so on")
        self.as_multilabel = as_multilabel
        self.label_space = multilabel_space(_CLASSES) if as_multilabel else _CLASSES
        self._sources = index(folder, _sources(folder), "patientXXX/patientXXX_frameYY.nii.gz")

    def sources(self) -> Sequence[Source]:
        """One source per patient and frame, such as ``patient001_frame12``."""
        return self._sources

    def read(self, source: Source) -> Case:
        """The frame, axes (x, y, slice)."""
        values = {value: value for value in range(_CLASSES.values)}
        return read_class_case(source, self.channels, values, _CLASSES, self.as_multilabel)


def _sources(folder: Path) -> list[Source]:
    tree = Tree(folder)
    found = {
        path: match
        for path in tree.named("patient*_frame*.nii*")
        if (match := _FRAME.fullmatch(path.name))
    }
    labels = {path for path, match in found.items() if match[4]}
    sources, used = [], set()
    for path, match in found.items():
        if match[4]:
            continue
        label = next((twin for twin in _label_paths(path) if twin in labels), None)
        used.add(label)
        sources.append(
            Source(
                id=f"{match[1]}_frame{match[3]}",
                patient=match[1],
                images=(path,),
                labels=(label,) if label else (),
                stratum=_group(path.parent, int(match[2])),
            )
        )
    for orphan in sorted(labels - used):
        raise SegprefError(
            f"{orphan} has no image: restore the frame beside it or remove the labels"
        )
    _check_frames(tree, {source.id for source in sources})
    return sources


def _label_paths(image: Path) -> tuple[Path, Path]:
    stem = image.name.split(".")[0]
    return image.with_name(f"{stem}_gt.nii.gz"), image.with_name(f"{stem}_gt.nii")


def _info(folder: Path) -> dict[str, str]:
    path = folder / "Info.cfg"
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _group(folder: Path, number: int) -> str | None:
    return _info(folder).get("Group") or (
        _GROUPS[(number - 1) // 20] if 1 <= number <= 100 else None
    )


def _check_frames(tree: Tree, ids: set[str]) -> None:
    # Folders without any frame count too: a patient that vanished would shift every split.
    for info in tree.named("Info.cfg"):
        for phase in ("ED", "ES"):
            frame = _info(info.parent).get(phase, "")
            name = f"{info.parent.name}_frame{frame.zfill(2)}"
            if frame.isdigit() and name not in ids:
                raise SegprefError(
                    f"{info.parent / name}.nii.gz is missing but Info.cfg names it as {phase}: restore "
                    "it or remove the patient"
                )
