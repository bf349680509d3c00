"""People vote on masks of a promptable model, which learns from what they said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segpref.collect import Rules, VoteStore
from segpref.data import Preparation, open_dataset
from segpref.policies import save_model
from segpref.policies.promptable import promptable_card, small_sam
from segpref.workflows import align, init_study
from vote_studies import vote_all, welcome

SIDE = 32
PROMPTER = {
    "class_path": "segpref.prompts.FixedPrompts",
    "init_args": {"prompts": [{"box": [2.5, 2.5, 28.5, 28.5]}]},
}


def pictures(folder: Path) -> Path:
    """Twelve pictures of a bright disc."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    for number in range(12):
        middle = rng.uniform(10, 22, 2)
        disc = ((y - middle[0]) ** 2 + (x - middle[1]) ** 2 < 36).astype(np.uint8)
        image = (disc * 80 + rng.normal(90, 15, disc.shape)).clip(0, 255).astype(np.uint8)
        for name, array in (("images", image), ("masks/lesion", disc * 255)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / name / f"p{number}.png")
    return folder


@pytest.mark.slow
def test_a_promptable_model_learns_from_votes(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    torch.manual_seed(0)
    network = small_sam(SIDE, patch=4, width=32, layers=2, heads=2, prompt_width=32)
    preparation = Preparation(dims=2, size=(SIDE, SIDE))
    space = open_dataset(data).label_space
    assert space is not None
    base = tmp_path / "base.safetensors"
    save_model(base, network, promptable_card(network, space, preparation, prompter=PROMPTER))
    study = init_study(
        base, data, out=tmp_path / "study", images=5, candidates=8, practice=0, gold=0.0,
        cache=tmp_path / "cache",
    ).folder  # fmt: skip
    with VoteStore(study.database) as store:
        store.create(study.contents(), Rules(repeats=0.0))
        assert vote_all(store, welcome(store))
    made = align(
        data=data, votes=study.path, out=tmp_path / "run", epochs=1, batch_size=2,
        learning_rate=1e-3, cache=tmp_path / "cache", log_with=(),
    )  # fmt: skip
    (run,) = made.runs.values()
    row = run.read_metrics()[1]
    assert (row["skipped_elsewhere"], row["images_with_pair"]) == (0, 1)
