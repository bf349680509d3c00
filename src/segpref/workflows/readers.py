"""Readers of datasets, whose labels are read as the structures of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from segpref.data import Reader, Relabelled, open_dataset
from segpref.policies import ModelCard
from segpref.policies.model_formats import OpenModel
from segpref.progress import console
from segpref.types import LabelSpace, SegprefError
from segpref.workflows.options import DataOptions

__all__ = ["fitting_reader", "reader_of", "refuse_labels_of_nothing"]


def reader_of(
    data: Reader | Path | str, options: DataOptions, space: LabelSpace | None = None
) -> Reader:
    """The reader of a folder, or one that is open already, whose labels are read as the options say.

    Args:
        data: folder or reader.
        options: of the data.
        space: structures of the model that the labels are for; those that the options name where None.

    Raises:
        SegprefError: no dataset, or a mapping of labels that does not fit it or the model.
    """
    reader, named = data, "the data"
    if isinstance(reader, Path | str):
        reader, named = open_dataset(reader, **(options.data_options or {})), str(data)
    if options.labels is None:
        return reader
    found = Relabelled(reader, options.labels, space, named)
    if left := found.label_space.unlabelled:
        console.print(
            f"The labels of {named} say nothing of {', '.join(left)}: scores and reports leave "
            f"{'it' if len(left) == 1 else 'them'} out.",
            soft_wrap=True,
        )
    return found


def fitting_reader(
    opened: OpenModel, data: Reader | Path | str, options: DataOptions
) -> tuple[Reader, ModelCard]:
    """The reader of a dataset for a model, and the model's card with the values that masks get.

    Raises:
        SegprefError: label space or channels do not agree.
    """
    card = opened.card
    reader = reader_of(data, options, card.label_space)
    opened.check_dataset(
        reader,
        data,
        "use the dataset that the model was made for, or name the values of its structures in the "
        "label files with --labels",
    )
    space = card.label_space
    if reader.label_space is not None and not space.on_disk:
        # What is written goes beside the labels of this dataset.
        card = replace(card, label_space=replace(space, on_disk=reader.label_space.on_disk))
    return reader, card


def refuse_labels_of_nothing(options: DataOptions, data: object, option: str = "--data") -> None:
    """Refuse values of label files where no data has any.

    Args:
        options: of the data.
        data: None where there is none.
        option: what gives it.

    Raises:
        SegprefError: labels are named, and there is none.
    """
    if options.labels is not None and data is None:
        raise SegprefError(
            f"labels names values in the label files of {option}, and masks have those of the model: "
            f"give {option}, or leave labels out"
        )
