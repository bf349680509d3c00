"""LIDC-IDRI as distributed: DICOM series with outlines in XML (Armato et al., 2011)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segpref.checking import checked
from segpref.data.dicom import read_slices
from segpref.data.dicom_headers import read_header
from segpref.data.dicom_marks import is_dicom
from segpref.data.index import dataset_folder, index, source_id
from segpref.data.lidc import NODULE, consensus_label
from segpref.data.lidc_xml import Nodule, drawn_planes, is_annotation, read_nodules
from segpref.data.source import Source
from segpref.data.walk import Tree, entries
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["LIDCScans", "holds_scans"]

_OFF_MM = 0.2
"""How far an outline may be from its slice: LIDC's slices are 0.45 mm apart or more."""


@checked(crop={"least": 1}, consensus={"least": 0, "most": 1})
class LIDCScans:
    """Nodules of the original scans: folders of DICOM files, each with its ``*.xml`` beside them.

    A source is a nodule; its image is cut from the scan: ``crop`` x ``crop`` pixels around the
    nodule's middle and the slices on which any rater outlined it, in Hounsfield units (set
    ``window`` in the preparation), axes (x, y, z) and affine as the scan has them.

    Every ``readingSession`` of the XML is a rater, of each scan in its own order; one who did not mark
    the nodule holds an empty mask, which is an annotation, too. A mask is what lies within an outline,
    without the outline itself, which LIDC draws along the first pixels outside of the nodule; outlines
    with ``inclusion`` FALSE are cut out with their line. Nodules below 3 mm, which are marked by one
    point, non-nodules and outlines without a pixel within are passed over.

    A prompt states the characteristics that a rater gave; one who outlined the nodule and gave none has
    a mask without a prompt.

    Annotations are of one nodule where their masks share a pixel, directly or through others. (pylidc,
    which clusters by distance, needs numpy < 1.24 and Python < 3.12.) Two marks of one rater on one
    nodule are united; a prompt is kept of each.

    Of slices at one height that is read which an outline names (``imageSOP_UID``), else the one with
    the lowest InstanceNumber. Only the slices of a nodule must be evenly apart, not those of the scan.

    Args:
        root: folder of the scans, however deep they lie.
        crop: pixels of the crop in x and y; the part that is beyond the scan is left out.
        consensus: share of the raters who must mark a pixel for it to be in ``case.label``; 0 for no
            label.
    """

    channels: tuple[str, ...] = ("CT",)
    patients_known: bool = True
    label_space: LabelSpace = NODULE

    def __init__(self, root: Path | str, crop: int = 128, consensus: float = 0.5) -> None:
        folder = dataset_folder(root, "the DICOM series with their XML files")
        self.crop, self.consensus = crop, consensus
        self._nodules: dict[str, Nodule] = {}
        sources = []
        for file in Tree(folder).named("*.xml"):
            nodules = read_nodules(file)
            patient = _patient(file) if nodules else ""
            for number, nodule in enumerate(nodules):
                name = f"{patient}_{source_id(file.stem)}_nodule-{number}"
                self._nodules[name] = nodule
                sources.append(
                    Source(
                        id=name,
                        patient=patient,
                        images=(file.parent,),
                        labels=(file,),
                        text="\n".join(n.prompt for n in nodule.annotations if n.prompt) or None,
                        key=f"nodule {number}",
                    )
                )
        self._sources = index(folder, sources, "LIDC annotation (*.xml beside a DICOM series)")

    def sources(self) -> Sequence[Source]:
        """One source per nodule; ``images`` is the series, ``labels`` the XML."""
        return self._sources

    def read(self, source: Source) -> Case:
        """The crop around a nodule with its raters, their prompts and the consensus as label."""
        nodule = self._nodules[source.id]
        contours = [c for annotation in nodule.annotations for c in annotation.contours]
        heights = [contour.z_mm for contour in contours]
        array, affine, spacing, slices_mm = read_slices(
            source.images[0], min(heights), max(heights), {contour.image for contour in contours}
        )
        slices = {z_mm: int(np.abs(slices_mm - z_mm).argmin()) for z_mm in heights}
        for z_mm, place in slices.items():
            if abs(slices_mm[place] - z_mm) > _OFF_MM:
                raise SegprefError(
                    f"{source.labels[0]} outlines a nodule at z = {z_mm} mm, where {source.images[0]} "
                    "has no slice: restore the missing slice or the right XML"
                )
        points = np.concatenate([c.points for c in contours])
        low = np.round((points.min(axis=0) + points.max(axis=0) + 1) / 2 - self.crop / 2).astype(
            int
        )
        start = np.maximum(low, 0)
        stop = np.minimum(low + self.crop, array.shape[1:3])
        first, last = min(slices.values()), max(slices.values())
        shape = (*(stop - start), last - first + 1)
        raters = np.zeros((nodule.raters, 1, *shape), np.uint8)
        for annotation in nodule.annotations:
            drawn = np.zeros(shape, bool)
            for z_mm, plane in drawn_planes(annotation.contours, start, shape[:2]):
                drawn[..., slices[z_mm] - first] |= plane
            raters[annotation.rater, 0] |= drawn
        corner = affine.copy()
        corner[:3, 3] += affine[:3, :3] @ (*start, first)
        return Case(
            id=source.id,
            patient=source.patient,
            volume=source.id,
            image=np.ascontiguousarray(
                array[:, start[0] : stop[0], start[1] : stop[1], first : last + 1], np.float32
            ),
            label=consensus_label(raters, self.consensus),
            raters=raters,
            spacing_mm=spacing,
            affine=corner,
            text=source.text,
        )


def holds_scans(folder: Path) -> bool:
    """Whether an LIDC annotation lies beside a DICOM file somewhere below; reads no file as a whole."""
    return any(
        is_annotation(file) and any(is_dicom(path) for path in entries(file.parent))
        for file in Tree(folder).named("*.xml")
    )


def _patient(file: Path) -> str:
    """From the DICOM header, for the XML does not say whose scan it is."""
    for path in entries(file.parent):
        if is_dicom(path):
            try:
                name = read_header(path).patient
            except SegprefError:  # reading the scan reports what is wrong
                continue
            if name:
                return source_id(name)
    named = re.findall(r"LIDC-IDRI-\d{4}", str(file))
    if named:
        return str(named[-1])
    raise SegprefError(
        f"{file} has no DICOM file beside it that names its patient: put it into its series' folder"
    )
