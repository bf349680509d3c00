"""Exports from a PACS with their segmentations: DICOM series, and DICOM-SEG that refers to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from segpref.checking import checked
from segpref.data.cases import make_case, read_image
from segpref.data.dicom_images import dicom_sources
from segpref.data.dicom_series import Series, found_series
from segpref.data.index import dataset_folder, index, required
from segpref.data.segmentation_headers import Segmentation, is_segmentation, read_segmentation
from segpref.data.segmentations import read_segments, segments_of_structures
from segpref.data.source import Source
from segpref.data.volumes import has_image_name
from segpref.data.walk import Tree
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["Exports", "holds_segmentations"]


@checked()
class Exports:
    """DICOM series with DICOM-SEG files, in any layout of folders and under any names.

    Images are the series that a segmentation refers to; other series are left alone. An image may have
    several files, say one for each structure. Segments are structures by their SegmentLabel, and every
    image has to have all of them: a segment without frames is a structure that is not there. Images of
    one PatientID are of one patient.

    Args:
        root: folder of the series.
        labels: folder of the DICOM-SEG files where it is not below ``root``, such as what ``segpref
            predict --format dicom-seg`` wrote; a relative one is looked for in ``root``.
        names: class names from the background on, or structure names in the order wanted; by default
            the labels of the first image's segments, in the order of their numbers.
        as_multilabel: whether structures may overlap; by default where a file says that they do.

    Raises:
        SegprefError: no segmentation, one that can't be read or refers to no series that is there, or
            segments that are not the structures.
    """

    channels: tuple[str, ...] = ("image",)

    def __init__(
        self,
        root: Path | str,
        labels: str | None = None,
        names: Sequence[str] = (),
        as_multilabel: bool | None = None,
    ) -> None:
        folder = dataset_folder(root, "DICOM series and their segmentations")
        place = folder if labels is None else _folder(folder, labels)
        segmentations = _distinct(read_segmentation(file) for file in _files(Tree(place)))
        if not segmentations:
            raise SegprefError(f"{place} holds no DICOM-SEG: name its folder by the option labels")
        series = [one for one in found_series(folder)[0] if _is_meant(one, segmentations)]
        images = sorted(dicom_sources(folder, series), key=lambda source: source.id)
        segments = _by_image(folder, images, segmentations)
        sources = [
            replace(one, labels=tuple(found.path for found in segments[one.id]))
            for one in images
            if one.id in segments
        ]
        self.patients_known: bool = all(one.patient for one in series)
        labelled = [segments[source.id] for source in sources]
        self.label_space: LabelSpace = _space(labelled, names, as_multilabel)
        self._sources = index(folder, sources, "DICOM series with a segmentation")

    def sources(self) -> Sequence[Source]:
        """One source per series that has segments."""
        return self._sources

    def read(self, source: Source) -> Case:
        """The series and its segments, on its own voxels."""
        image = read_image(source, self.channels)
        assert source.series is not None
        label = read_segments(source.labels, image, source.series, self.label_space)
        return make_case(source, image, label)


def holds_segmentations(tree: Tree, labels: object = None) -> bool:
    """Whether a DICOM-SEG lies below a folder, or in another one that is named."""
    if isinstance(labels, str):
        place = tree.root / Path(labels).expanduser()
        return place.is_dir() and next(_files(Tree(place)), None) is not None
    return next(_files(tree), None) is not None


def _folder(root: Path, labels: str) -> Path:
    place = required(root / Path(labels).expanduser(), "is to hold segmentations", "correct labels")
    return dataset_folder(place, "the DICOM-SEG files")


def _files(tree: Tree) -> Iterator[Path]:
    """The DICOM-SEG files of a folder."""
    for file in tree.files:
        if not has_image_name(file) and is_segmentation(file):
            yield file


def _distinct(found: Iterable[Segmentation]) -> list[Segmentation]:
    """Each file once, however many copies there are."""
    return list({one.header.sop_instance or str(one.path): one for one in found}.values())


def _made_from(segmentation: Segmentation) -> set[str]:
    return {uid for frame in segmentation.frames for uid in frame.sources}


def _is_meant(series: Series, segmentations: Iterable[Segmentation]) -> bool:
    instances = set(series.instances)
    return any(
        series.uid in one.series or not instances.isdisjoint(_made_from(one))
        for one in segmentations
    )


def _by_image(
    root: Path, images: Sequence[Source], segmentations: Sequence[Segmentation]
) -> Mapping[str, list[Segmentation]]:
    """The segmentations of each image, by its id: those that refer to its instances, or its series."""
    by_uid: dict[str, set[str]] = defaultdict(set)
    by_instance: dict[str, str] = {}
    for image in images:
        assert image.series is not None
        by_uid[image.series.uid].add(image.id)
        by_instance |= dict.fromkeys(filter(None, image.series.instances), image.id)
    found: dict[str, list[Segmentation]] = defaultdict(list)
    for one in segmentations:
        meant = {by_instance[uid] for uid in _made_from(one) if uid in by_instance}
        meant = meant or {name for uid in one.series for name in by_uid[uid]}
        if not meant:
            raise SegprefError(
                f"{one.path} refers to the series {', '.join(one.series) or 'of no name'}, which is "
                f"not below {root}: restore it, or remove the segmentation"
            )
        if len(meant) > 1:
            raise SegprefError(
                f"{one.path} refers to {len(meant)} images ({', '.join(sorted(meant))}): export the "
                "segments of each as a file of its own"
            )
        found[meant.pop()].append(one)
    return found


def _space(
    images: Sequence[Sequence[Segmentation]], names: Sequence[str], as_multilabel: bool | None
) -> LabelSpace:
    if as_multilabel is None:
        as_multilabel = any(one.overlap for files in images for one in files)
    if names:
        chosen = tuple(names)
    else:
        labels = dict.fromkeys(label for one in images[0] for label in one.labels)
        chosen = tuple(labels) if as_multilabel else ("background", *labels)
    space = LabelSpace("multi-label" if as_multilabel else "multi-class", chosen)
    for files in images:
        there = [label for one in files for label in one.labels]
        segments_of_structures(files[0].path, there, space)
    return space
