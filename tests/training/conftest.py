"""A judge of the heart slices."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpref.data import Cache
from segpref.judges import ModelJudge
from segpref.policies import load_model


@pytest.fixture
def model_judge(heart_judge: Path, store: Cache) -> ModelJudge:
    return ModelJudge(load_model(heart_judge)[0], store)
