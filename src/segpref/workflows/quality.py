"""A quality report beside predicted masks: what labelled images teach, and the list, worst first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segpref.cluster import RayPool
from segpref.data import Cache, MaskFolder, Reader, SeriesRule, Source, prepare
from segpref.data.splits import split_beside
from segpref.inference.mask_formats import MaskFormat
from segpref.inference.mask_maker import MaskOptions
from segpref.inference.quality.config import QualityConfig
from segpref.inference.quality.disagreement import SelfAssessment
from segpref.inference.quality.measuring import measured
from segpref.inference.quality.ranking import RankedMask, image_order, ranked, worst_images
from segpref.inference.quality.reference import QualityReference
from segpref.judges import Committee, MasksJudge, NamedJudge
from segpref.policies.model_formats import OpenModel
from segpref.progress import console
from segpref.report.pictures import Overlay
from segpref.report.quality_files import FIRST, PAGE, write_quality
from segpref.types import Judge, LabelSpace, SegprefError
from segpref.workflows.loading import (
    open_judge,
    patients_of,
    refuse_itself,
    refuse_own_weights,
)
from segpref.workflows.options import PoolOptions
from segpref.workflows.quality_learning import calibration_part, learned
from segpref.workflows.readers import fitting_reader

__all__ = ["QualityReport", "open_quality"]

CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class QualityReport:
    """A report that is to be written; made by :func:`open_quality`, when all is known to fit.

    Args:
        opened: the model.
        judge: scores its masks.
        known: what labelled images taught.
        pool: whose workers prepare the images.
        cache: where prepared images are kept.
        config: of the report.
        folder: of the report.
        judged_by: what the page calls the judge.
        series: which series of a folder that a table names is its image.
    """

    opened: OpenModel
    judge: Judge
    known: QualityReference
    pool: RayPool
    cache: Cache
    config: QualityConfig
    folder: Path
    judged_by: str
    series: SeriesRule

    def write(self, reader: Reader, output: Path, form: MaskFormat) -> list[RankedMask]:
        """Measure and rank the masks that are there, and write list and page; nothing without a mask.

        Args:
            reader: of the images.
            output: folder of their masks.
            form: how these are named.
        """
        card = self.opened.card
        space = card.label_space
        there = [one for one in reader.sources() if _made(output, one, form, space)]
        if not there:
            return []
        sources = {one.id: one for one in there}
        lost = [one.id for one in reader.sources() if one.id not in sources]
        dataset = prepare(
            reader, card.preparation, self.cache, space, card.orientation, self.pool, there,
            alike=False,
        )  # fmt: skip
        folder = MaskFolder(output, [reader], space, card.preparation, self.cache, self.series)
        again = SelfAssessment(self.opened, self.config.reruns)
        found = measured(dataset, folder, self.judge, again, "measuring masks")
        masks = ranked((figures for figures, _ in found), self.known)
        first = [one.volume for one in image_order(masks)[: self.config.pictures]]
        colours = {volume.source.id: volume.colour for volume, _ in dataset.by_volume()}
        write_quality(
            self.folder,
            masks,
            self.known,
            sources,
            (_outlined(folder, sources[name], colours[name]) for name in first),
            lost,
            self.judged_by,
        )
        self.known.save(self.folder / CALIBRATION)
        flagged = len(worst_images(masks))
        console.print(
            f"{self.folder / PAGE}: {flagged} of {len(there)} images to look at first; the list for "
            f"segpref collect init is {self.folder / FIRST}",
            highlight=False,
            soft_wrap=True,
        )
        return masks


def open_quality(
    opened: OpenModel,
    reader: Reader,
    judge: Judge | NamedJudge | Sequence[Any] | os.PathLike[str] | str,
    validation: Reader | Path | str,
    folder: Path,
    where: PoolOptions,
    pool: RayPool,
    config: QualityConfig,
    making: MaskOptions,
    trust: bool = False,
) -> QualityReport:
    """Open the judge, and learn from labelled images or read what was learned from them.

    Of labelled images those count whose patients neither the model nor the judge was trained with: of
    the validation part of the split that was given, or that lies beside the model and knows patients of
    the data; else all.

    Args:
        opened: the model.
        reader: of the images whose masks will be reported on.
        judge: as in :func:`~segpref.audit`.
        validation: labelled images, or the ``calibration.json`` of an earlier report.
        folder: of the report.
        where: data, split and cache.
        pool: whose workers prepare the images.
        config: of the report.
        making: how masks are made.
        trust: whether code that comes with the judge may be run.

    Raises:
        SegprefError: what does not fit together, before any masks are made; or too few labelled images.
    """
    refuse_itself(judge, opened.path)
    cache = Cache(where.cache)
    kept = isinstance(validation, Path | str) and Path(validation).suffix.lower() == ".json"
    card, model = opened.card, " ".join(policy.digest() for policy in opened.policies())
    if kept:
        known = QualityReference.load(Path(str(validation)).expanduser(), card.label_space)
        scorer, _ = open_judge(judge, card, reader, cache, trust)
        _check(scorer, opened)
        for what, now, then in (
            ("model", model, known.model),
            ("judge", _digest(scorer), known.judge),
        ):
            if now != then:
                raise SegprefError(
                    f"{validation} was made with another {what}: give --validation the labelled "
                    "images, so that it is made anew"
                )
    else:
        labelled, card = fitting_reader(opened, validation, where)
        scorer, judged = open_judge(judge, card, labelled, cache, trust, reader)
        _check(scorer, opened)
        seen = {*patients_of(opened, labelled), *judged}
        split = where.split or split_beside(opened.path)
        part = calibration_part(labelled, seen, split, where.split is not None, validation)
        found = learned(opened, labelled, part, seen, scorer, cache, config, making, pool)
        known = QualityReference.of(
            found,
            labelled.label_space or card.label_space,
            model,
            _digest(scorer),
            config.coverage,
            config.flag_rate,
        )
    if not any(one.calibration.known for one in known.structures.values()):
        raise SegprefError(
            f"the judge gives too few single masks of {validation} a score: a quality report needs one "
            "that scores a mask by itself, such as another model"
        )
    return QualityReport(
        opened, scorer, known, pool, cache, config, folder, _name(judge), where.series
    )


def _check(judge: Judge, opened: OpenModel) -> None:
    if judge.needs_label:
        raise SegprefError(
            "this judge reads labels, which new images do not have: give --judge another model or an "
            "IoU regressor"
        )
    refuse_own_weights(judge, opened)


def _outlined(folder: MaskFolder, source: Source, colour: bool) -> Overlay:
    case = folder.case(source)
    assert case is not None
    assert case.label is not None
    return Overlay(
        name=source.id,
        image=case.image,
        masks={"prediction": np.asarray(case.label)},
        label_space=folder.label_space,
        spacing_mm=case.spacing_mm,
        colour=colour,
    )


def _made(output: Path, source: Source, form: MaskFormat, space: LabelSpace) -> bool:
    return all(file.exists() for file in form.files(output / form.name(source), space))


def _digest(judge: Any) -> str:
    """Name of what a judge learned; masks of a folder are of other images every time."""
    if isinstance(judge, Committee):
        return " ".join(map(_digest, judge.judges))
    if isinstance(judge, MasksJudge) or not hasattr(judge, "digest"):
        return type(judge).__name__
    return str(judge.digest())


def _name(judge: object) -> str:
    if isinstance(judge, list | tuple):
        return ", ".join(map(_name, judge))
    if isinstance(judge, str | os.PathLike):
        return os.fspath(judge)
    return type(judge).__name__
