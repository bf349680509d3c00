"""A run goes on only from what it was begun with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from short_align import POOL, run

from segpref.contrib.judges import (
    ConfidenceJudge,
    ConsistencyJudge,
    ReverseClassificationJudge,
)
from segpref.data import Cache, Dataset
from segpref.judges import (
    Committee,
    DiversityJudge,
    EnsembleJudge,
    ModelJudge,
    NoisyJudge,
    VirtualAnnotator,
)
from segpref.policies import load_model
from segpref.training import FitConfig, RunFolder, fit
from segpref.types import SegprefError


def test_another_judge_or_other_images_are_refused(
    tmp_path: Path, heart_base: Path, heart_judge: Path, hearts: Dataset, store: Cache
) -> None:
    base, good = (load_model(one)[0] for one in (heart_base, heart_judge))
    judges = {
        "model": [ModelJudge(one, store) for one in (good, base)],
        "ensemble": [EnsembleJudge([one], cache=store) for one in (good, base)],
        "committee": [Committee([ModelJudge(one, store)], by="score") for one in (good, base)],
        "noisy": [NoisyJudge(ModelJudge(one, store), noise=0.1) for one in (good, base)],
        "diversity": [
            DiversityJudge(ModelJudge(one, store), one.label_space) for one in (good, base)
        ],
        "annotator": [VirtualAnnotator(ModelJudge(one, store)) for one in (good, base)],
        "consistency": [ConsistencyJudge(one, cache=store) for one in (good, base)],
        "confidence": [ConfidenceJudge(one, cache=store) for one in (good, base)],
        "reverse classification": [
            ReverseClassificationJudge(hearts, hearts.patients[part], cases=2)
            for part in (slice(0, 2), slice(1, 3))
        ],
    }
    for name, (first, other) in judges.items():
        run(tmp_path / name, heart_base, hearts, first, store)
        run(tmp_path / name, heart_base, hearts, first, store, resume=True)
        with pytest.raises(SegprefError, match="another judge than there is now: restore"):
            run(tmp_path / name, heart_base, hearts, other, store, resume=True)
    pool = hearts.of_patients(hearts.patients[POOL][1:])
    with pytest.raises(SegprefError, match="other images or labels than there are now"):
        run(
            tmp_path / "model",
            heart_base,
            hearts,
            judges["model"][0],
            store,
            resume=True,
            pool=pool,
        )


def test_stage_1_goes_on_from_the_same_start_and_images(
    tmp_path: Path, heart_base: Path, heart_judge: Path, hearts: Dataset
) -> None:
    card = load_model(heart_base)[1]
    people = hearts.patients
    start = tmp_path / "start.safetensors"
    shutil.copy(heart_base / "best.safetensors", start)

    def go_on(learned: slice = slice(0, 3), validated: slice = slice(8, 12)) -> None:
        folder = RunFolder(tmp_path / "run")
        folder.open({}, resume=True)
        cases, others = (hearts.of_patients(people[one]) for one in (learned, validated))
        fit(cases, others, card, folder, FitConfig(epochs=1, images_per_epoch=4), start=start)

    go_on()
    go_on()
    for changed, said in (
        ({"learned": slice(0, 4)}, "begun with other images or labels"),
        ({"validated": slice(9, 12)}, "begun with other validation images or labels"),
    ):
        with pytest.raises(SegprefError, match=said):
            go_on(**changed)
    shutil.copy(heart_judge / "best.safetensors", start)
    with pytest.raises(
        SegprefError, match=r"begun with other weights than .*start.safetensors has"
    ):
        go_on()
