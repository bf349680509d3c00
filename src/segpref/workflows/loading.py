"""Loads what every workflow needs: datasets, splits, models and judges."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpref.cluster import RayPool
from segpref.data import (
    Cache,
    Dataset,
    MaskFolder,
    Preparation,
    Reader,
    Split,
    preparation_key,
    prepare,
    split_patients,
)
from segpref.data.cache import key_digest
from segpref.data.index import image_files
from segpref.data.splits import PARTS
from segpref.inference.windows import whole_images
from segpref.judges import Committee, MasksJudge, ModelJudge, NamedJudge, OracleJudge
from segpref.policies import ModelCard
from segpref.policies.model_formats import OpenModel, holds_model, open_model
from segpref.preferences import PreferenceFolder, StandingJudge
from segpref.progress import console
from segpref.proposals import Families, OtherMasks, families_of, given_families
from segpref.training import RunFolder, is_regressor, load_regressor
from segpref.types import Judge, SegprefError
from segpref.workflows.options import DataOptions, TrainedModel
from segpref.workflows.readers import fitting_reader

__all__ = [
    "check_masks",
    "families_with",
    "keep_split",
    "open_judge",
    "open_split",
    "open_trained",
    "part_of",
    "patients_of",
    "prepared_for",
    "refuse_itself",
    "refuse_own_weights",
]

DEFAULT_SPLIT = {"judge": 0.125, "validation": 0.125, "test": 0.2}


def open_trained(model: Path, options: TrainedModel) -> OpenModel:
    """A model in any format, with what the options say of it."""
    return open_model(
        model, trust=options.trust, labelled=options.labelled, preparation=options.preparation
    )


def open_split(
    reader: Reader, path: Path | None, seed: int = 0, seen: Collection[str] = ()
) -> Split:
    """The split of a file, or a new one with the default shares.

    Args:
        reader: the dataset.
        path: of the file; None draws a split.
        seed: of the draw.
        seen: patients that a model was trained with, who go to train.

    Raises:
        SegprefError: the file is no split, or too few patients are left to draw one.
    """
    if path is not None:
        return Split.load(path)
    labelled = {source.patient for source in reader.sources() if source.labels}
    if labelled and labelled <= set(seen):
        raise SegprefError(
            f"all {len(labelled)} labelled patients were used to train the model, one of its folds, or "
            "the judge, so no patient is left for validation or testing: of an ensemble name one fold "
            "(.../fold_0), or add labelled cases to the data"
        )
    split = split_patients(reader, DEFAULT_SPLIT, seed, seen)
    if not split.by_patient:
        console.print(
            "Nothing links volumes to patients here, so the split is by volume. If patients have "
            "several volumes, give --data_options.patient_pattern."
        )
    return split


def prepared_for(
    opened: OpenModel,
    data: Reader | Path | str,
    options: DataOptions,
    cache: Cache,
    workers: RayPool | None = None,
) -> tuple[ModelCard, Reader, Dataset]:
    """A dataset prepared as a model wants it; label space and channels must agree.

    Returns:
        The card, which names the dataset's patients that the model was trained with; reader; dataset.

    Raises:
        SegprefError: dataset and model do not fit, or the model's training patients are unknown.
    """
    reader, card = fitting_reader(opened, data, options)
    card = replace(card, labelled=patients_of(opened, reader))
    dataset = prepare(reader, card.preparation, cache, orientation=card.orientation, pool=workers)
    return card, reader, dataset


def patients_of(opened: OpenModel, reader: Reader) -> tuple[str, ...]:
    """Patients that a model was trained with, which may be given by the names of their images.

    Raises:
        SegprefError: the model does not say.
    """
    if (labelled := opened.patients(reader)) is None:
        raise SegprefError(
            f"{opened.path} does not say which patients it was trained with, who must stay out of "
            "alignment and testing: name them with --labelled '[...]' ([] where none of them is in the "
            "data)"
        )
    return labelled


def keep_split(run: RunFolder, split: Split) -> None:
    """Write the split of a run into its folder, or refuse another one where it goes on.

    Raises:
        SegprefError: the run was begun with another split, or the folder has one of something else.
    """
    parts = {part: list(getattr(split, part)) for part in PARTS}
    run.keep_digest(
        "split",
        key_digest(parts),
        "another split of the patients: restore the dataset and its split",
    )
    split.keep(run.path / "split.json")


def part_of(dataset: Dataset, split: Split, part: str) -> Dataset:
    """The cases of one part of a split."""
    if part not in PARTS:
        raise SegprefError(f"a split has the parts {', '.join(PARTS)}, not {part!r}")
    return dataset.of_patients(getattr(split, part))


def open_judge(
    judge: Judge | NamedJudge | Sequence[Any] | os.PathLike[str] | str,
    card: ModelCard,
    reader: Reader,
    cache: Cache,
    trust: bool = False,
    pool: Reader | None = None,
    labelled: Collection[str] | None = None,
) -> tuple[Judge, tuple[str, ...]]:
    """A judge and the patients whose labels it was trained with, as far as it states them.

    By name: ``oracle``, ``oracle-dice``, an IoU regressor's run folder, a segmenter in any format, or a
    folder of masks. All of these score by IoU, except for ``oracle-dice`` (MAPO ranks by Dice); of
    several names the mean counts (RN-DPO, Eq. 14).

    Args:
        judge: which.
        card: of the model whose candidates it scores.
        reader: the dataset.
        cache: where predictions and prepared masks are kept.
        trust: whether code that comes with it may be run.
        pool: images besides those of the dataset that it will be asked about.
        labelled: patients that a model was trained with which does not say so itself.
    """
    if isinstance(judge, list | tuple):
        each = [open_judge(one, card, reader, cache, trust, pool, labelled) for one in judge]
        seen = {patient for _, patients in each for patient in patients}
        return Committee([one for one, _ in each], by="score"), tuple(sorted(seen))
    if isinstance(judge, os.PathLike):
        judge = os.fspath(judge)
    if not isinstance(judge, str):
        scorer: Any = judge
        if isinstance(scorer, StandingJudge):
            raise _votes(", ".join(map(str, getattr(scorer, "paths", ["votes"]))))
        return scorer, tuple(getattr(scorer, "labelled", ()))
    if judge in ("oracle", "oracle-dice"):
        space = reader.label_space or card.label_space
        return OracleJudge(space, "iou" if judge == "oracle" else "dice"), ()
    folder = Path(judge).expanduser()
    if (folder / "study.json").is_file() or PreferenceFolder.is_one(folder):
        raise _votes(judge)
    if folder.is_dir() and not holds_model(folder) and image_files(folder):
        readers = [reader] if pool is None else [reader, pool]
        masks = MaskFolder(folder, readers, card.label_space, card.preparation, cache)
        return MasksJudge(masks), ()
    own = card.preparation if isinstance(card.preparation, Preparation) else None
    opened = open_model(judge, trust=trust, preparation=own)
    if opened.labelled is None and labelled is not None:
        opened = replace(opened, labelled=tuple(sorted(labelled)))
    judge_card, labelled = opened.card, patients_of(opened, reader)
    if judge_card.label_space != card.label_space:
        known = judge_card.label_space.structures
        missing = [name for name in card.label_space.structures if name not in known]
        if missing and set(known) < set(card.label_space.structures):
            raise SegprefError(
                f"the judge {judge} knows {', '.join(known)} alone, and the masks that it would "
                f"compare differ in {', '.join(missing)}, too: train it on labels of all of these"
            )
        raise SegprefError(
            f"the judge {judge} scores {judge_card.label_space.names} but the model of "
            f"{card.label_space.names}: train it on the same labels"
        )
    if _prepared_as(judge_card) != _prepared_as(card):
        raise SegprefError(
            f"the judge {judge} was trained on images prepared in another way than the model's: "
            "train both with the same preparation, or give a folder of masks that it predicted"
        )
    if None not in (judge_card.orientation, card.orientation) and (
        judge_card.orientation != card.orientation
    ):
        raise SegprefError(
            f"the judge {judge} was trained on volumes with axes to {judge_card.orientation}, the "
            f"model on axes to {card.orientation}: train both with one orientation in the preparation"
        )
    if is_regressor(judge_card):
        return load_regressor(Path(judge)), labelled
    predictor = whole_images(opened.policies(), judge_card.preparation, opened.mirroring)
    return ModelJudge(predictor, cache), labelled


def _votes(where: str) -> SegprefError:
    return SegprefError(
        f"{where} holds votes, which are about the masks that people saw and can't judge others: give "
        "it as --votes to align or audit"
    )


def _prepared_as(card: ModelCard) -> dict[str, Any]:
    return preparation_key(card.preparation, card.channels)


def refuse_itself(judge: object, model: Path) -> None:
    """Refuse a model as its own judge: what it would say is known, that its own mask is the best.

    Raises:
        SegprefError: every judge that is named is the model, or a copy of its file.
    """
    judges = judge if isinstance(judge, list | tuple) else [judge]
    if judges and all(_is_model(one, model) for one in judges):
        raise _itself(model)


def refuse_own_weights(scorer: Judge, opened: OpenModel) -> None:
    """The same of a judge that is open, whatever it was made from.

    Raises:
        SegprefError: it predicts with the model's weights, as do all members of a committee.
    """
    members = scorer.judges if isinstance(scorer, Committee) else [scorer]
    digests = {one.digest() for one in members if isinstance(one, ModelJudge)}
    if len(digests) != 1 or not all(isinstance(one, ModelJudge) for one in members):
        return
    preparation, mirroring = opened.card.preparation, opened.mirroring
    if digests == {whole_images(opened.policies(), preparation, mirroring).digest()}:
        raise _itself(opened.path)


def _itself(model: Path) -> SegprefError:
    return SegprefError(
        f"{model} is to be its own judge, which prefers its own masks to all others and teaches it "
        "nothing: train a judge on other patients (segpref fit --part judge)"
    )


def _is_model(judge: object, model: Path) -> bool:
    if not isinstance(judge, str | os.PathLike) or judge in ("oracle", "oracle-dice"):
        return False
    here, there = _file_of(Path(judge).expanduser()), _file_of(model.expanduser())
    if here.resolve() == there.resolve():
        return True
    # Of other formats the file that is named may be a page that leads to the weights: two models may
    # share its text.
    weights = all(one.suffix == ".safetensors" and one.is_file() for one in (here, there))
    return weights and filecmp.cmp(here, there, shallow=False)


def _file_of(model: Path) -> Path:
    return best if (best := model / "best.safetensors").is_file() else model


def families_with(
    families: Families,
    others: Sequence[Path] | None,
    candidates: int,
    card: ModelCard,
    readers: Sequence[Reader],
    cache: Cache,
) -> Families:
    """Families of so many candidates, with the masks of these folders.

    Raises:
        SegprefError: one of them is no folder, or holds no mask of any image.
    """
    if not others:
        return families
    folders = []
    for one in map(Path.expanduser, others):
        if not one.is_dir():
            raise SegprefError(f"there is no folder {one}: give folders of masks as others")
        folders.append(MaskFolder(one, readers, card.label_space, card.preparation, cache))
    return [
        OtherMasks(folders),
        *families_of(families, card.label_space, candidates, card.preparation.dims),
    ]


def check_masks(judge: Judge, families: Families, dataset: Dataset) -> None:
    """Check that the masks of a mask judge or of candidate folders are there for these images.

    Raises:
        SegprefError: all masks of a folder are missing, or the masks that judge are candidates, too.
    """
    judging = judge.masks.folder.resolve() if isinstance(judge, MasksJudge) else None
    for family in given_families(families):
        if isinstance(family, OtherMasks):
            for folder in family.folders:
                if folder.folder.resolve() == judging:
                    raise SegprefError(
                        f"the masks of {folder.folder} are the judge and a candidate, which would "
                        "always be its favourite: leave them out of --others, or judge by other masks"
                    )
                folder.require(dataset, "these have no candidate from there")
    for one in judge.judges if isinstance(judge, Committee) else [judge]:
        if isinstance(one, MasksJudge):
            one.require(dataset)
