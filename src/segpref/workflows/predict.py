"""Masks of new images in one call."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from segpref.cluster import RayPool
from segpref.data import Reader, images_for
from segpref.folder_kinds import refuse_other_kind
from segpref.inference.attempts import SomeFailed
from segpref.inference.mask_formats import FormatName, mask_format
from segpref.inference.mask_maker import MaskOptions
from segpref.inference.mask_places import check_output
from segpref.inference.predict import predict_folder
from segpref.inference.quality.config import QualityConfig
from segpref.inference.user_prompts import ImagePrompts, UserPrompts, read_prompts
from segpref.judges import NamedJudge
from segpref.locking import alone_in
from segpref.prompts import Prompt
from segpref.report.verdicts import doubt
from segpref.targets import check_outputs
from segpref.types import Judge, SegprefError
from segpref.workflows.loading import open_trained
from segpref.workflows.options import PoolOptions, TrainedModel
from segpref.workflows.quality import open_quality
from segpref.workflows.readers import refuse_labels_of_nothing
from segpref.workflows.runs import Run, chosen

__all__ = ["predict"]

log = logging.getLogger(__name__)

_LONGEST_NAME = 64
"""Signs of a name in DICOM."""


def predict(
    model: Path | str | Run,
    input: Path | str,
    output: Path | str,
    *,
    patch: tuple[int, ...] | None = None,
    overlap: float = 0.5,
    batch_size: int = 8,
    overwrite: bool = False,
    box: tuple[float, float, float, float] | None = None,
    points: Sequence[tuple[float, float, int]] | None = None,
    text: str | None = None,
    slice: int | None = None,
    prompts: Path | None = None,
    carry: bool = False,
    reorient: bool = True,
    format: FormatName = "image",
    segments: Path | None = None,
    judge: Judge | NamedJudge | Sequence[str] | Path | str | Run | None = None,
    validation: Reader | Path | str | None = None,
    report: Path | str | None = None,
    quality: QualityConfig | None = None,
    **options: Any,
) -> list[Path]:
    """Write masks of new images, in the images' own geometry.

    A promptable model makes its own prompts; what is given here takes their place. Warns where the
    model is of a run of stage 2 that is not shown to be better than its base.

    Args:
        model: segpref's file or run folder, a trained nnU-Net folder (or one fold of it), a MONAI
            bundle, or a ``.yaml`` that describes plain weights.
        input: an image, the folder of a DICOM series, a folder of images or series, a table of images
            (.csv or .parquet with a column image of paths and, if wanted, a column id), or a folder
            written by segpref pack.
        output: folder for the masks.
        patch: window in voxels for images that are too large for one pass, where the model's
            preparation has none; not for one with a fixed size.
        overlap: share of a window that it has in common with the next.
        batch_size: images, slices or windows per pass.
        overwrite: make masks anew that are there already.
        box: of a promptable model of one structure: where it is in every image, in pixels of the file
            ``(x_min, y_min, x_max, y_max)``; x counts columns and y rows, from 0.
        points: likewise ``(x, y, 1)`` on the structure and ``(x, y, 0)`` beside it.
        text: likewise, what the structure is, for a model that was made with a text encoder.
        slice: of a volume, the slice (from 0) that box and points are drawn on; from there they are
            carried to the slices on both sides, as far as the structure reaches.
        prompts: JSON file with prompts by name of image.
        carry: in volumes, carry the model's own prompts, too, from the slice where it is surest.
        reorient: turn volumes as those of the training, and their masks back; otherwise they are
            used unchanged.
        format: image: NIfTI for volumes, pictures for pictures; dicom-seg: of images that are DICOM
            series, one DICOM-SEG file each, with a segment per structure, that refers to the series;
            seg.nrrd: of volumes, for 3D Slicer.
        segments: CSV file with the codes of structures for dicom-seg, where those that come with
            segpref do not suit.
        judge: scores the masks for a quality report, as in :func:`~segpref.audit`; needs ``validation``
            and ``report``.
        validation: labelled images, or their reader, of patients that neither model nor judge was
            trained with (others are left out), which show what the judge's scores are worth; or the
            ``calibration.json`` of an earlier report.
        report: folder for the quality report: all masks that are in ``output``, the first to look at
            first.
        quality: settings of the report.
        options: fields of :class:`TrainedModel`, :class:`RayPool` and :class:`PoolOptions`, such as
            ``trust=True`` and ``ray="auto"``; data, split and cache are those of ``validation``.

    Returns:
        The masks that were written.

    Raises:
        SegprefError: no images, no place for masks, prompts that the model does not take, or a judge,
            labelled images or a report without the others.
    """
    opening, pool, where = chosen(options, TrainedModel(), RayPool(), PoolOptions())
    output = Path(output)
    place = None if report is None else Path(report).expanduser()
    check_outputs(folders=[output.expanduser(), place, where.cache])
    for folder in (output, place):
        if folder is not None:
            refuse_other_kind(folder.expanduser(), None)
    if len({judge is None, validation is None, place is None}) > 1:
        raise SegprefError(
            "a quality report needs --judge, --validation and --report: give all three, or none"
        )
    refuse_labels_of_nothing(where, validation, "--validation")
    given = box is not None or bool(points) or text is not None
    if given and prompts is not None:
        raise SegprefError("give prompts by --prompts or by --box, --points and --text, not both")
    one = (
        ImagePrompts((Prompt(box, tuple(points or ()), text=text),), slice)
        if given
        else ImagePrompts()
    )
    if slice is not None and not given:
        raise SegprefError("--slice says where prompts are drawn: give --box, --points or --text")
    if place is not None and (given or prompts is not None):
        raise SegprefError(
            "a quality report needs masks that the model makes by itself, as it makes those of the "
            "labelled images: leave prompts out"
        )
    if place is not None and format == "seg.nrrd":
        raise SegprefError(
            "a quality report does not read seg.nrrd: leave format out, and write those by a command "
            "of their own"
        )
    if why := doubt(Path(model)):
        log.warning("%s", why)
    opened = open_trained(Path(model), opening)
    files = mask_format(
        format,
        opened.card.label_space,
        output.expanduser(),
        segments,
        _name(opened.path),
        where.series,
    )
    reader = images_for(input, opened.card.channels, where.series)
    predicted = partial(
        predict_folder,
        opened,
        input,
        output,
        patch=patch,
        overlap=overlap,
        batch_size=batch_size,
        overwrite=overwrite,
        prompts=UserPrompts(one, None if prompts is None else read_prompts(prompts)),
        carry=carry,
        reorient=reorient,
        pool=pool,
        series=where.series,
        reader=reader,
        format=files,
    )
    if place is None or judge is None or validation is None:
        return predicted()
    # Not after the calibration, which takes its time.
    check_output(output.expanduser(), reader, Path(input).expanduser())
    making = MaskOptions(patch, overlap, batch_size, carry=carry, reorient=reorient)
    with alone_in(place):
        later = open_quality(
            opened, reader, judge, validation, place, where, pool, quality or QualityConfig(),
            making, opening.trust,
        )  # fmt: skip
        try:
            written = predicted()
        except SomeFailed:
            later.write(reader, output.expanduser(), files)
            raise
        later.write(reader, output.expanduser(), files)
        return written


def _name(model: Path) -> str:
    """What a model is called in its masks: as its run's folder, or as its file in its folder."""
    path = model.resolve()
    if path.is_dir() and not path.name.startswith("fold_"):
        parts = [path.name]
    elif path.stem in ("best", "last", "model"):
        parts = [path.parent.name]
    else:
        parts = [path.parent.name, path.stem]
    name = "/".join(parts).replace("\\", "_")
    return name if len(name) <= _LONGEST_NAME else name[-_LONGEST_NAME:]
