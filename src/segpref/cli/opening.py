"""What several commands open in the same way: datasets, splits, judges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segpref.data import Cache, Dataset, Reader, Split, open_dataset, prepare, split_patients
from segpref.data.splits import PARTS
from segpref.judges import ModelJudge, OracleJudge
from segpref.policies import ModelCard, load_model, read_card
from segpref.progress import console
from segpref.training import is_regressor, load_regressor
from segpref.types import Judge, SegprefError

__all__ = ["open_judge", "open_split", "part_of", "prepared_for"]

DEFAULT_SPLIT = {"judge": 0.125, "validation": 0.125, "test": 0.2}


def open_split(reader: Reader, path: Path | None, seed: int = 0) -> Split:
    """The split of a file, or a new one with the default shares."""
    if path is not None:
        return Split.load(path)
    split = split_patients(reader, DEFAULT_SPLIT, seed)
    if not split.by_patient:
        console.print(
            "Nothing links volumes to patients here, so the split is by volume. If patients have "
            "several volumes, give --data_options.patient_pattern."
        )
    return split


def prepared_for(
    model: Path, data: Path, options: Mapping[str, Any] | None, cache: Cache
) -> tuple[ModelCard, Reader, Dataset]:
    """A dataset prepared as a model wants it; label space and channels must agree."""
    card = read_card(model)
    reader = open_dataset(data, **(options or {}))
    if reader.label_space != card.label_space:
        raise SegprefError(
            f"{data} has the labels {reader.label_space} but the model {model} predicts "
            f"{card.label_space}: use the dataset that the model was made for"
        )
    if len(reader.channels) != len(card.channels):
        raise SegprefError(
            f"{data} has {len(reader.channels)} image channels but the model {model} takes "
            f"{len(card.channels)}: use images with the same channels"
        )
    return card, reader, prepare(reader, card.preparation, cache)


def part_of(dataset: Dataset, split: Split, part: str) -> Dataset:
    """The cases of one part of a split."""
    if part not in PARTS:
        raise SegprefError(f"a split has the parts {', '.join(PARTS)}, not {part!r}")
    return dataset.of_patients(getattr(split, part))


def open_judge(judge: Judge | str, card: ModelCard, cache: Cache) -> Judge:
    """A judge by name: ``oracle``, or the file or run folder of a segmenter or an IoU regressor."""
    if not isinstance(judge, str):
        return judge
    if judge == "oracle":
        return OracleJudge(card.label_space)
    judge_card = read_card(Path(judge))
    if judge_card.label_space != card.label_space:
        raise SegprefError(
            f"the judge {judge} speaks of {judge_card.label_space.names} but the model of "
            f"{card.label_space.names}: train it on the same labels"
        )
    if judge_card.preparation != card.preparation:
        raise SegprefError(
            f"the judge {judge} was trained on images prepared in another way than the model's: "
            "train both with the same preparation"
        )
    if is_regressor(judge_card):
        return load_regressor(Path(judge))
    return ModelJudge(load_model(Path(judge))[0], cache)
