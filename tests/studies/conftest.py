"""A base of the heart slices and images that it has not seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpref.data import Dataset
from segpref.policies import Segmenter, load_model


@pytest.fixture(scope="module")
def policy(heart_base: Path) -> Segmenter:
    """A fresh copy of the base, for a module."""
    return load_model(heart_base)[0]


@pytest.fixture(scope="module")
def unseen(hearts: Dataset) -> Dataset:
    """Patients that the base was not trained on."""
    return hearts.of_patients(hearts.patients[8:])
