"""Settings that several workflows share, besides those of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpref.data import ANY_SERIES, Preparation, SeriesRule
from segpref.settings import Settings

__all__ = ["DataOptions", "ModelOptions", "PoolOptions", "SeriesOptions", "TrainedModel", "Trust"]


@dataclass(frozen=True, kw_only=True)
class DataOptions(Settings):
    """Data."""

    data_options: dict[str, Any] | None = None
    """Passed to the reader, such as as_multilabel, patient_pattern or exclude."""

    labels: dict[str, int | list[int]] | None = None
    """The values of structures in label files, where these are not the model's or have other names:
    "{liver: 5, kidney: [2, 3]}". Values of "ignore" are left out, those that nothing names are
    background. What the model knows and nothing is named for is unknown: neither scored nor judged by
    labels. A model that fit trains has the structures that are named."""

    split: Path | None = None
    """JSON file with the patients of train, judge, validation and test; the model's own if left out, or
    a new one with the default shares."""

    cache: Path | None = None
    """Where prepared images and predictions are kept; SEGPREF_CACHE or the user's cache folder if left
    out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels is not None:
            # One spelling for one meaning: runs keep it, and compare it when they are resumed.
            values = {
                name: value[0] if isinstance(value, list) and len(value) == 1 else value
                for name, value in self.labels.items()
            }
            object.__setattr__(self, "labels", values)


@dataclass(frozen=True, kw_only=True)
class SeriesOptions(Settings):
    """DICOM exports."""

    series: SeriesRule = ANY_SERIES
    """Which series of DICOM exports are images: "{modality: CT, description: *thorax*}", or one option
    each. Several of one study are refused unless series.all is set."""


@dataclass(frozen=True, kw_only=True)
class PoolOptions(DataOptions, SeriesOptions):
    """Images without labels."""


@dataclass(frozen=True, kw_only=True)
class Trust(Settings):
    """Trust."""

    trust: bool = False
    """Whether a model may run code that comes with it and build whatever class it names; a pickled
    nnU-Net checkpoint, an expression in a MONAI bundle and a class from elsewhere can do anything, so
    ask where it comes from."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Trust):
    """Models from elsewhere."""

    preparation: Preparation | None = None
    """How images become the input of a MONAI bundle, where its configuration does not say so as text,
    or of a LiteMedSAM, which takes images of any size where none is given."""


@dataclass(frozen=True, kw_only=True)
class TrainedModel(ModelOptions):
    """Models from elsewhere."""

    labelled: list[str] | None = None
    """Patients that the model was trained with, where it does not say so itself; and the judge, where
    it does not."""
