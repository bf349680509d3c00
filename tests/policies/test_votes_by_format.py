"""Votes and models of other kinds: bundles come back tuned, who draws many masks is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from made_bundle import write

from segpref.cli.main import main
from segpref.collect import Assignment, Rules, StudyFolder, VoteStore
from segpref.data import Preparation, open_dataset
from segpref.data.phantoms import write_phantoms
from segpref.policies import (
    ModelCard,
    NetworkSpec,
    PolicySpec,
    load_policy,
    open_model,
    save_model,
)
from segpref.policies.diffusion import DIFFUSION
from segpref.preferences import Preference, content_id, save_mask, write_preferences
from segpref.types import SegprefError
from segpref.workflows import align, audit, init_study
from vote_studies import vote_all, welcome

ORACLE = {"class_path": "segpref.studies.judging.Oracle"}
NAMES = ("background", "liver", "tumour")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of three sizes, larger than the 16 x 16 of the bundle's windows."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for number in range(10):
        shape = np.array([22 + number % 3, 20])
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        distance = np.linalg.norm(grid - shape / 2 - rng.uniform(-2, 2, 2), axis=-1)
        label = ((distance < 7).astype(np.uint8) + (distance < 4)).astype(np.uint8)
        image = (label + rng.normal(0, 0.4, shape)).astype(np.float32)
        for name, array in (("images", image), ("labels", label)):
            (root / name).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / name / f"p{number}.nii.gz")
    return root


def larger(given: Assignment) -> str:
    first, second = (mask.candidate for mask in given.masks)
    return "left" if first > second else "right"


@pytest.mark.slow
def test_a_bundle_learns_from_votes_and_comes_back_as_a_bundle(data: Path, tmp_path: Path) -> None:
    bundle, out = write(tmp_path / "spleen"), tmp_path / "study"
    given = [
        "--data", str(data), "--data_options", json.dumps({"names": NAMES}),
        "--cache", str(tmp_path / "cache"), "--labelled", '["p0", "p1"]',
        "--preparation.dims", "2", "--preparation.normalise", "z-score",
    ]  # fmt: skip
    made = ["--images", "4", "--candidates", "6", "--practice", "0", "--gold", "0"]
    model = ["--model", str(bundle)]
    assert main(["collect", "init", *model, *given, "--out", str(out), *made]) == 0
    study = StudyFolder(out)
    with VoteStore(study.database) as store:
        store.create(study.contents(), Rules(repeats=0.0))
        assert vote_all(store, welcome(store), larger)
    learned = ["--epochs", "1", "--batch_size", "2", "--learning_rate", "0.01", "--keep_tuned"]
    run = ["align", *given, "--votes", str(out), *learned, "--out"]
    assert main([*run, str(tmp_path / "run"), *model]) == 0
    tuned = tmp_path / "run" / "tuned" / "spleen"
    again = open_model(tuned, labelled=[], preparation=Preparation(dims=2, normalise="z-score"))
    assert again.policies()[0].digest() == load_policy(tmp_path / "run")[0].digest()
    assert again.policies()[0].digest() != study.note.model_digest
    # Without the model, its copy in the study is taken, which is of segpref's own format.
    assert main([*run, str(tmp_path / "own")]) == 0
    assert not (tmp_path / "own" / "tuned").exists()


DIFFUSES = {
    "channels": [8, 16], "cross": 16, "heads": 2, "latent": 2, "latent_channels": 8,
    "text_encoder": None, "middle_attention": False, "attention": [False, False],
}  # fmt: skip


@pytest.mark.parametrize(
    ("network", "arguments", "policy"),
    [
        ("segpref.policies.diffusion.AmbiSegNetwork", DIFFUSES, DIFFUSION),
        (
            "segpref.networks.ProbabilisticUNet",
            {"channels": [4, 8], "out_channels": 2},
            PolicySpec("segpref.policies.LatentSegmenter"),
        ),
    ],
    ids=["diffusion", "latent"],
)
def test_people_cannot_vote_on_masks_of_a_model_that_draws_many(
    tmp_path: Path,
    network: str,
    arguments: Mapping[str, Any],
    policy: PolicySpec,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reader = open_dataset(write_phantoms(tmp_path / "data", "chest", (32, 32), 10, seed=0))
    assert reader.label_space is not None
    card = ModelCard(
        network=NetworkSpec(network, arguments),
        label_space=reader.label_space,
        preparation=Preparation(dims=2, crop=(16, 16)),
        labelled=(),
        policy=policy,
    )
    torch.manual_seed(0)
    model = tmp_path / "model.safetensors"
    save_model(model, card.network.build(), card)
    masks = [np.full((2, 16, 16), value, np.uint8) for value in (0, 1)]
    names = tuple(map(content_id, masks))
    for mask, name in zip(masks, names, strict=True):
        save_mask(tmp_path / "told", mask, name)
    told = Preference(case="a", candidates=names, choice="first", source="votes", field=0)
    write_preferences(
        tmp_path / "told", [told], model_digest="its", cases=["a"], anchors={"a": names[0]}
    )
    settings = {"cache": tmp_path / "cache"}
    for call in (
        lambda: init_study(model, reader, out=tmp_path / "study", **settings),
        lambda: align(model, reader, votes=tmp_path / "told", out=tmp_path / "run", **settings),
        lambda: audit(model, reader, votes=tmp_path / "told", **settings),
    ):
        with pytest.raises(SegprefError, match="on which people can't vote yet"):
            call()
    recipe = tmp_path / "recipe.yaml"
    told = {"name": "r", "description": "d", "split": {"test": 2, "validation": 2, "judge": 2}}
    form = {"preparation": {"dims": 2, "crop": [16, 16]}, "bases": {"ours": {"model": str(model)}}}
    recipe.write_text(
        json.dumps({**told, **form, "judges": {"truth": ORACLE}, "methods": {"M": {}}})
    )
    given = [
        "--recipe",
        str(recipe),
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "s"),
    ]
    assert main(["study", *given]) == 1
    said = " ".join("".join(capsys.readouterr()).split())
    assert "such models are what segpref ambiguity studies" in said
