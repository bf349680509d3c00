"""LIDC-IDRI as distributed: DICOM series with outlines in XML (Armato et al., 2011)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pydicom
from jaxtyping import Bool
from matplotlib.path import Path as Outline

from segpref.data.dicom import is_dicom, read_series
from segpref.data.index import dataset_folder, entries, index, source_id
from segpref.data.lidc import NODULE, consensus_label
from segpref.data.prompts import CHARACTERISTICS, nodule_prompt
from segpref.data.source import Source
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["LIDCScans"]


@dataclass(frozen=True, slots=True)
class _Contour:
    """One outline on one slice, points (column, row)."""

    z_mm: float
    points: np.ndarray
    inclusion: bool


@dataclass(frozen=True, slots=True)
class _Annotation:
    """What one radiologist said of one nodule."""

    rater: int
    prompt: str
    contours: tuple[_Contour, ...]


@dataclass(frozen=True, slots=True)
class _Nodule:
    """The annotations that are of one nodule, and how many raters read the scan."""

    series: Path
    annotations: tuple[_Annotation, ...]
    raters: int


class LIDCScans:
    """Nodules of the original scans: folders of DICOM files, each with its ``*.xml`` beside them.

    A source is a nodule; its image is cut from the scan: ``crop`` x ``crop`` pixels around the
    nodule's middle and the slices on which anybody outlined it, in Hounsfield units (set ``window`` in
    the preparation), axes (x, y, z) and affine as the scan has them.

    Every ``readingSession`` of the XML is a rater, of each scan in its own order; one who did not mark
    the nodule holds an empty mask, which is an opinion too. A mask is what lies within an outline,
    without the outline itself, which LIDC draws along the first pixels outside of the nodule; outlines
    with ``inclusion`` FALSE are cut out with their line. Marks below 3 mm and non-nodules carry no
    characteristics and are passed over.

    Annotations are of one nodule where their masks share a pixel, directly or through others. (pylidc,
    which clusters by distance, needs numpy < 1.24 and Python < 3.12.) Two marks of one rater on one
    nodule are united; a prompt is kept of each.

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
        if crop < 1 or not 0 <= consensus <= 1:
            raise SegprefError(
                "crop is at least 1 pixel and consensus a share from 0 to 1, not "
                f"{crop} and {consensus}"
            )
        self.crop, self.consensus = crop, consensus
        self._nodules: dict[str, _Nodule] = {}
        sources = []
        for file in sorted(folder.rglob("*.xml")):
            for number, nodule in enumerate(_nodules(file)):
                patient = _patient(file)
                name = f"{patient}_{source_id(file.stem)}_nodule-{number}"
                self._nodules[name] = nodule
                sources.append(
                    Source(
                        id=name,
                        patient=patient,
                        images=(file.parent,),
                        labels=(file,),
                        text="\n".join(note.prompt for note in nodule.annotations),
                    )
                )
        self._sources = index(folder, sources, "LIDC annotation (*.xml beside a DICOM series)")

    def sources(self) -> tuple[Source, ...]:
        """One source per nodule; ``images`` is the series, ``labels`` the XML."""
        return self._sources

    def read(self, source: Source) -> Case:
        """The crop around a nodule with its raters, their prompts and the consensus as label."""
        nodule = self._nodules[source.id]
        array, affine, spacing = read_series(nodule.series)
        if affine is None or array.ndim != 4:
            raise SegprefError(
                f"{nodule.series} is no stack of slices: restore the CT series of {source.labels[0]}"
            )
        contours = [c for annotation in nodule.annotations for c in annotation.contours]
        slices = {c.z_mm: (c.z_mm - affine[2, 3]) / affine[2, 2] for c in contours}
        for z_mm, place in slices.items():
            if abs(place - round(place)) > 0.1 or not 0 <= round(place) < array.shape[3]:
                raise SegprefError(
                    f"{source.labels[0]} outlines a nodule at z = {z_mm} mm, where {nodule.series} has "
                    "no slice: restore the missing slice or the right XML"
                )
        points = np.concatenate([c.points for c in contours])
        low = np.round((points.min(axis=0) + points.max(axis=0) + 1) / 2 - self.crop / 2).astype(
            int
        )
        start = np.maximum(low, 0)
        stop = np.minimum(low + self.crop, array.shape[1:3])
        first, last = round(min(slices.values())), round(max(slices.values()))
        shape = (*(stop - start), last - first + 1)
        raters = np.zeros((nodule.raters, 1, *shape), np.uint8)
        for annotation in nodule.annotations:
            drawn = np.zeros(shape, bool)
            for z_mm, plane in _planes(annotation.contours, start, shape[:2]):
                drawn[..., round(slices[z_mm]) - first] = plane
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


def _nodules(file: Path) -> list[_Nodule]:
    """Nodules of one XML file; none where it is of something else than CT outlines."""
    try:
        tree = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise SegprefError(f"{file} is no whole XML file ({error}): download it again") from error
    sessions = [part for part in tree if _tag(part) == "readingSession"]
    if _tag(tree) != "LidcReadMessage" or not sessions:
        return []
    try:
        found = [a for rater, one in enumerate(sessions) for a in _annotations(one, rater)]
    except (ValueError, TypeError, KeyError) as error:
        raise SegprefError(
            f"{file} holds an annotation that can't be read ({error}): download it again"
        ) from error
    groups = list(range(len(found)))
    masks = [_pixels(annotation) for annotation in found]
    for one, other in combinations(range(len(found)), 2):
        if groups[one] != groups[other] and masks[one] & masks[other]:
            joined, gone = sorted((groups[one], groups[other]))
            groups = [joined if group == gone else group for group in groups]
    return [
        _Nodule(
            file.parent,
            tuple(a for a, group in zip(found, groups, strict=True) if group == number),
            len(sessions),
        )
        for number in dict.fromkeys(groups)
    ]


def _annotations(session: ElementTree.Element, rater: int) -> Iterator[_Annotation]:
    for mark in session:
        if _tag(mark) != "unblindedReadNodule":
            continue
        parts = {_tag(part): part for part in mark}
        traits = parts.get("characteristics")
        ratings = {} if traits is None else {_tag(t): int(t.text or 0) for t in traits}
        contours = [_contour(part) for part in mark if _tag(part) == "roi"]
        contours = [contour for contour in contours if len(contour.points) > 2]
        if contours and ratings.keys() >= CHARACTERISTICS.keys():
            try:
                prompt = nodule_prompt(ratings)
            except SegprefError as error:
                raise ValueError(str(error)) from error
            yield _Annotation(rater, prompt, tuple(contours))


def _contour(roi: ElementTree.Element) -> _Contour:
    texts = {_tag(part): (part.text or "").strip() for part in roi}
    edges = [{_tag(c): int(c.text or "") for c in part} for part in roi if _tag(part) == "edgeMap"]
    points = [(edge["xCoord"], edge["yCoord"]) for edge in edges]
    return _Contour(
        z_mm=float(texts["imageZposition"]),
        points=np.array(points, dtype=int).reshape(-1, 2),
        inclusion=texts.get("inclusion", "TRUE").upper() == "TRUE",
    )


def _planes(
    contours: Sequence[_Contour], start: Sequence[int], shape: tuple[int, ...]
) -> Iterator[tuple[float, Bool[np.ndarray, "column row"]]]:
    """The mask of every outlined slice within a window of the scan, axes (column, row)."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 2)
    for z_mm in dict.fromkeys(contour.z_mm for contour in contours):
        plane = np.zeros(shape, bool)
        # Holes last, so that they are cut out of every outline of the slice.
        here = [contour for contour in contours if contour.z_mm == z_mm]
        for contour in sorted(here, key=lambda contour: not contour.inclusion):
            line = contour.points - np.asarray(start)
            inside = Outline(np.vstack([line, line[:1]]), closed=True).contains_points(grid)
            inside = inside.reshape(shape)
            on_grid = line[((line >= 0) & (line < shape)).all(axis=1)]
            edge = np.zeros(shape, bool)
            edge[tuple(on_grid.T)] = True
            plane = plane | (inside & ~edge) if contour.inclusion else plane & ~inside & ~edge
        yield z_mm, plane


def _pixels(annotation: _Annotation) -> set[tuple[float, int, int]]:
    """Every pixel of an annotation as (z in mm, column, row)."""
    points = np.concatenate([contour.points for contour in annotation.contours])
    start = points.min(axis=0)
    found = set()
    for z_mm, plane in _planes(annotation.contours, start, tuple(points.max(axis=0) - start + 1)):
        found |= {(z_mm, int(x), int(y)) for x, y in np.argwhere(plane) + start}
    return found


def _patient(file: Path) -> str:
    """From the DICOM header, for the XML does not say whose scan it is."""
    for path in entries(file.parent):
        if is_dicom(path):
            name = pydicom.dcmread(path, stop_before_pixels=True).get("PatientID")
            if name:
                return source_id(str(name))
    named = re.findall(r"LIDC-IDRI-\d{4}", str(file))
    if named:
        return str(named[-1])
    raise SegprefError(
        f"{file} has no DICOM file beside it that names its patient: put it into its series' folder"
    )


def _tag(element: ElementTree.Element) -> str:
    """Name without the namespace, of which the files have several."""
    return element.tag.rpartition("}")[2]
