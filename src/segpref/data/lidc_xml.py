"""The XML of LIDC: every radiologist's contours and ratings, grouped by nodule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool

from segpref.data.prompts import CHARACTERISTICS, nodule_prompt
from segpref.late import late
from segpref.types import SegprefError

__all__ = ["Annotation", "Contour", "Nodule", "drawn_planes", "is_annotation", "read_nodules"]

outlines = late("matplotlib.path")

_MESSAGE = "LidcReadMessage"
"""The first element of an annotation of a CT; that of a radiograph has another name."""


@dataclass(frozen=True, slots=True)
class Contour:
    """One outline on one slice: the slice's UID and height, points ``[point, 2]`` (column, row)."""

    image: str
    z_mm: float
    points: np.ndarray
    inclusion: bool


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one radiologist said of one nodule; ``prompt`` is None where he rated nothing."""

    rater: int
    prompt: str | None
    contours: tuple[Contour, ...]


@dataclass(frozen=True, slots=True)
class Nodule:
    """The annotations that are of one nodule, and how many raters read the scan."""

    annotations: tuple[Annotation, ...]
    raters: int


def is_annotation(file: Path) -> bool:
    """Whether the first element of an XML file says so; that of a damaged one does not."""
    try:
        with file.open("rb") as stream:
            _, root = next(iter(ElementTree.iterparse(stream, events=("start",))))
    except (ElementTree.ParseError, OSError, ValueError, LookupError, StopIteration):
        return False
    return _tag(root) == _MESSAGE


def read_nodules(file: Path) -> list[Nodule]:
    """Nodules of one XML file; none where it is of something else than CT outlines.

    Outlines are of one nodule where their masks share a pixel; one without a pixel within is left out.

    Raises:
        SegprefError: the file is cut off, or a height, a point or a rating is none.
    """
    try:
        tree = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise SegprefError(
            f"{file} is not a complete XML file ({error}): download it again"
        ) from error
    sessions = [part for part in tree if _tag(part) == "readingSession"]
    if _tag(tree) != _MESSAGE or not sessions:
        return []
    try:
        found = [a for rater, one in enumerate(sessions) for a in _annotations(one, rater)]
    except (ValueError, TypeError, KeyError) as error:
        raise SegprefError(
            f"{file} holds an annotation that can't be read ({error}): download it again"
        ) from error
    drawn = [(annotation, pixels) for annotation in found if (pixels := _pixels(annotation))]
    found, masks = [one for one, _ in drawn], [pixels for _, pixels in drawn]
    groups = list(range(len(found)))
    for one, other in combinations(range(len(found)), 2):
        if groups[one] != groups[other] and masks[one] & masks[other]:
            joined, gone = sorted((groups[one], groups[other]))
            groups = [joined if group == gone else group for group in groups]
    return [
        Nodule(
            tuple(a for a, group in zip(found, groups, strict=True) if group == number),
            len(sessions),
        )
        for number in dict.fromkeys(groups)
    ]


def _annotations(session: ElementTree.Element, rater: int) -> Iterator[Annotation]:
    for mark in session:
        if _tag(mark) != "unblindedReadNodule":
            continue
        # LIDC has nodules of 3 mm or more outlined and rated, while a smaller one is a single point and
        # not rated. Ratings are missing here and there, so the outline distinguishes them.
        contours = [_contour(part) for part in mark if _tag(part) == "roi"]
        contours = [contour for contour in contours if len(contour.points) > 2]
        if contours:
            yield Annotation(rater, _prompt(mark), tuple(contours))


def _prompt(mark: ElementTree.Element) -> str | None:
    """Of the characteristics that were given; None where none was."""
    traits = [trait for part in mark if _tag(part) == "characteristics" for trait in part]
    # No scale has a 0: like a blank it means that nothing was given.
    ratings = {_tag(trait): int((trait.text or "").strip() or 0) for trait in traits}
    given = {name: ratings[name] for name in CHARACTERISTICS if ratings.get(name)}
    try:
        return nodule_prompt(given) if given else None
    except SegprefError as error:
        raise ValueError(str(error)) from error


def _contour(roi: ElementTree.Element) -> Contour:
    texts = {_tag(part): (part.text or "").strip() for part in roi}
    edges = [{_tag(c): int(c.text or "") for c in part} for part in roi if _tag(part) == "edgeMap"]
    points = [(edge["xCoord"], edge["yCoord"]) for edge in edges]
    return Contour(
        image=texts.get("imageSOP_UID", ""),
        z_mm=float(texts["imageZposition"]),
        points=np.array(points, dtype=int).reshape(-1, 2),
        inclusion=texts.get("inclusion", "TRUE").upper() == "TRUE",
    )


def drawn_planes(
    contours: Sequence[Contour], start: Sequence[int], shape: tuple[int, ...]
) -> Iterator[tuple[float, Bool[np.ndarray, "column row"]]]:
    """The mask of every outlined slice within a window of the scan, axes (column, row)."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 2)
    for z_mm in dict.fromkeys(contour.z_mm for contour in contours):
        plane = np.zeros(shape, bool)
        # Holes last, so that they are cut out of every outline of the slice.
        here = [contour for contour in contours if contour.z_mm == z_mm]
        for contour in sorted(here, key=lambda contour: not contour.inclusion):
            line = contour.points - np.asarray(start)
            inside = outlines.Path(np.vstack([line, line[:1]]), closed=True).contains_points(grid)
            inside = inside.reshape(shape)
            on_grid = line[((line >= 0) & (line < shape)).all(axis=1)]
            edge = np.zeros(shape, bool)
            edge[tuple(on_grid.T)] = True
            plane = plane | (inside & ~edge) if contour.inclusion else plane & ~inside & ~edge
        yield z_mm, plane


def _pixels(annotation: Annotation) -> set[tuple[float, int, int]]:
    """Every pixel of an annotation as (z in mm, column, row)."""
    points = np.concatenate([contour.points for contour in annotation.contours])
    start = points.min(axis=0)
    found = set()
    for z_mm, plane in drawn_planes(
        annotation.contours, start, tuple(points.max(axis=0) - start + 1)
    ):
        found |= {(z_mm, int(x), int(y)) for x, y in np.argwhere(plane) + start}
    return found


def _tag(element: ElementTree.Element) -> str:
    """Name without the namespace, of which the files have several."""
    return element.tag.rpartition("}")[2]
