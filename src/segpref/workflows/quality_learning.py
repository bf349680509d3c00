"""What labelled images teach about a model and a judge: who they are, their masks, their figures."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from segpref.cluster import RayPool
from segpref.data import Cache, MaskFolder, Reader, Split, prepare
from segpref.data.splits import refuse_leakage
from segpref.inference.mask_maker import MaskMaker, MaskOptions
from segpref.inference.mask_places import mask_name
from segpref.inference.predict import each_image
from segpref.inference.quality.calibration import LEAST
from segpref.inference.quality.config import QualityConfig
from segpref.inference.quality.disagreement import SelfAssessment
from segpref.inference.quality.measuring import image_figures, measured, shapes_of
from segpref.inference.quality.reference import LabelledImages
from segpref.metrics import dice, overlap_counts
from segpref.policies.model_formats import OpenModel
from segpref.progress import console
from segpref.types import Judge, SegprefError

__all__ = ["calibration_part", "learned"]


def calibration_part(
    reader: Reader, seen: set[str], split: Path | None, given: bool, validation: object
) -> set[str]:
    """The patients that the calibration is made of: all known is looked at before any image is read.

    Args:
        reader: of labelled images.
        seen: patients that model or judge were trained with.
        split: its validation part is taken, where it knows patients of the data; all others where not.
        given: whether the user named the split, which then must know some.
        validation: what messages call the data.

    Raises:
        SegprefError: too few, patients in two places, or none where the user named a split.
    """
    sources = [one for one in reader.sources() if one.labels]
    patients = {one.patient for one in sources}
    part = set() if split is None else set(Split.load(split).validation) & patients
    if given and not part:
        raise SegprefError(
            f"no labelled patient of {validation} is in the validation part of {split}: give another "
            "--split, or none for all patients that were not used for training"
        )
    if part:
        refuse_leakage({"the labelled cases of model and judge": seen, "validation": part})
    else:
        part = patients - seen
    count = sum(one.patient in part for one in sources)
    if count < LEAST or len(part) < 2:
        raise SegprefError(
            f"{validation} has {count} labelled images of {len(part)} patients that neither model nor "
            f"judge was trained with: a quality report needs {LEAST} of 2 patients at least, better 20"
        )
    more = len(patients & seen)
    console.print(
        f"Calibrating on {count} labelled images of {len(part)} patients"
        + (f"; {more} patients that model or judge were trained with are left out" * bool(more))
        + ".",
        highlight=False,
        soft_wrap=True,
    )
    return part


def learned(
    opened: OpenModel,
    reader: Reader,
    part: set[str],
    seen: set[str],
    judge: Judge,
    cache: Cache,
    config: QualityConfig,
    making: MaskOptions,
    pool: RayPool,
) -> LabelledImages:
    """Make masks of labelled images as those of new ones are made, and measure both."""
    card = opened.card
    known = [one for one in reader.sources() if one.labels and one.patient in part | seen]
    dataset = prepare(
        reader, card.preparation, cache, None, card.orientation, pool, known, alike=False
    )
    chosen = dataset.of_patients(part)
    sources = [volume.source for volume, _ in chosen.by_volume()]
    with TemporaryDirectory(prefix="segpref-") as place:
        todo = [(one, Path(place) / mask_name(one)) for one in sources]
        each_image(reader, todo, MaskMaker(opened, making), Path(place), making.sizes)
        folder = MaskFolder(place, [reader], card.label_space, card.preparation, cache)
        itself = SelfAssessment(opened, config.reruns)
        figures, truth = [], []
        by_id = {one.id: one for one in sources}
        for one, case in measured(chosen, folder, judge, itself, "measuring labelled images"):
            label = reader.read(by_id[one.volume]).label
            assert label is not None
            assert case.label is not None
            figures.append(one)
            counts = overlap_counts(np.asarray(case.label)[None], label, card.label_space)
            truth.append(dice(counts)[0])
        shapes, images = [], []
        for volume, items in dataset.by_volume():
            shapes.append(shapes_of(reader.read(volume.source), folder))
            images.append(image_figures(volume, items))
    return LabelledImages(figures, np.stack(truth), list(zip(*shapes, strict=True)), images)
