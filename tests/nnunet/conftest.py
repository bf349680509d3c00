"""Models that stock nnU-Net trained, once for all tests."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nnunet_workplace import CASES, NAME, Workplace, shrink, write_case


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = Workplace(tmp_path_factory.mktemp("nnunet"))
    place.enter()
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (place.made / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*CASES, "new"):
        write_case(place.made, name, rng)
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "rind": 1, "core": 2},
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
    }
    (place.made / "dataset.json").write_text(json.dumps(description))
    splits = [{"train": CASES[1:3], "val": CASES[:1]}, {"train": CASES[3:4], "val": CASES[2:3]}]
    place.plan(NAME, ("2d", "3d_fullres"), shrink, splits)
    for configuration, fold in (("3d_fullres", 0), ("3d_fullres", 1), ("2d", 0)):
        # Long enough that slates hold masks of which one is better.
        place.train(NAME, configuration, fold, SHORT_ITERATIONS=100)
    return place
