"""Studies and packs of data whose label files have other values, and more of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small_studies import HEARTS

from relabelled_hearts import FOREIGN, foreign, rewritten, valued
from segpref.cli.main import main
from segpref.data import open_dataset
from segpref.data.phantoms import PATIENT_PATTERN

pytestmark = pytest.mark.slow

NAMES = ["background", "MYO", "RV", "LV"]
"""In the order of the values that the mapping names."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, heart_folder: Path) -> Path:
    """The same images with other values, and with those that the mapping means; and a recipe."""
    root = tmp_path_factory.mktemp("studies")
    rewritten(heart_folder, root / "foreign", foreign)
    recipe: dict[str, Any] = {**HEARTS, "methods": {"RN-DPO": {}}, "seeds": [0], "audits": False}
    recipe["judges"] = {"weak": HEARTS["judges"]["weak"]}
    recipe.pop("grid")
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return root


def study(root: Path, data: Path, out: str, **options: Any) -> int:
    """The exit status of a study of a dataset."""
    line = ["study", "--recipe", str(root / "recipe.yaml"), "--data", str(data), "--workers", "0"]
    own = {"patient_pattern": PATIENT_PATTERN, **options.pop("data_options", {})}
    given = {"out": str(root / out), "data_options": json.dumps(own), **options}
    return main([*line, *(part for name, value in given.items() for part in (f"--{name}", value))])


def test_a_study_is_that_of_a_dataset_written_anew(
    root: Path, heart_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewritten(heart_folder, root / "anew", valued({2: 1, 1: 2, 3: 3}))
    assert study(root, root / "anew", "plain", data_options={"names": NAMES}) == 0
    assert study(root, root / "foreign", "mapped", labels=json.dumps(FOREIGN)) == 0
    tables = [(root / name / "tables.csv").read_bytes() for name in ("plain", "mapped")]
    assert tables[0]
    assert tables[0] == tables[1]
    capsys.readouterr()
    # Finished runs are those of their mapping and their files.
    for labels in (None, {"LV": [9, 4]}, {**FOREIGN, "LV": 9}):
        given = {} if labels is None else {"labels": json.dumps(labels)}
        assert study(root, root / "foreign", "mapped", **given) == 1
        assert "was begun with other data (" in capsys.readouterr().err
    assert study(root, root / "anew", "mapped", data_options={"names": NAMES}) == 1
    assert "(images and labels, labels): restore" in capsys.readouterr().err
    assert study(root, root / "foreign", "mapped", labels=json.dumps(FOREIGN)) == 0


def test_a_pack_has_the_structures_that_are_named(root: Path, heart_folder: Path) -> None:
    line = ["pack", "--data", str(root / "foreign"), "--out", str(root / "packed")]
    line += ["--data_options.patient_pattern", PATIENT_PATTERN]
    assert main([*line, "--labels", json.dumps({"wall": 2, "blood": [4, 9, 5]})]) == 0
    packed, whole = open_dataset(root / "packed"), open_dataset(heart_folder)
    space = packed.label_space
    assert space is not None
    assert space.names == ("background", "wall", "blood")
    for source, original in zip(packed.sources(), whole.sources(), strict=True):
        label, known = packed.read(source).label, whole.read(original).label
        assert label is not None
        assert known is not None
        assert np.array_equal(label, np.array([0, 2, 1, 2])[known])


def test_a_mapping_that_does_not_fit_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(root, root / "foreign", "other", labels='{"LV": 77}') == 1
    assert "names the value 77 for LV" in capsys.readouterr().err
    assert not (root / "other").exists()
