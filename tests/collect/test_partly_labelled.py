"""Pairs with a known answer where labels know some of the model's structures alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segpref.collect import StudyFolder
from segpref.types import SegprefError
from segpref.workflows import init_study
from studies import heart_data, small_study, untrained

EVERY = {"RV": 1, "MYO": 2, "LV": 3}


def known(study: StudyFolder) -> list[Any]:
    return [pair for pair in study.contents().pairs if pair.use != "normal"]


@pytest.mark.slow
def test_a_label_that_leaves_structures_out_is_not_shown(tmp_path: Path) -> None:
    """The model is untrained: where anything is good, it is the label."""
    whole = small_study(tmp_path / "whole", labels=EVERY)
    families = {mask.family for mask in whole.contents().masks}
    assert known(whole)
    assert "label" in families
    part = small_study(tmp_path / "part", labels={"LV": 3})
    assert not known(part)
    assert "label" not in {mask.family for mask in part.contents().masks}
    assert part.note.label_space == whole.note.label_space


def test_labels_of_a_folder_of_images_alone(tmp_path: Path) -> None:
    model = untrained(tmp_path / "base.safetensors")
    images = heart_data(tmp_path / "data").sources()[0].images[0].parent
    with pytest.raises(SegprefError, match="names values in the label files of --data"):
        init_study(model, pool=images, out=tmp_path / "study", labels={"LV": 3})
