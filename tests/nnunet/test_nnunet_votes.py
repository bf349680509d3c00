"""People vote on masks of a trained nnU-Net fold, which learns from what they said."""

from __future__ import annotations

from pathlib import Path

import pytest
from nnunet_workplace import Workplace, needs_nnunet, split_file

from segpref.policies import load_model
from segpref.policies.nnunet import read_nnunet
from segpref.preferences import WholeSlates
from segpref.workflows import align, init_study

pytest.importorskip("sqlalchemy", reason="votes need a database, which comes with the extra votes")


@needs_nnunet
@pytest.mark.slow
def test_a_fold_learns_from_votes_on_its_masks(workplace: Workplace, tmp_path: Path) -> None:
    from segpref.collect import Rules, VoteStore
    from vote_studies import vote_all, welcome

    fold = workplace.trained("3d_fullres") / "fold_0"
    split = Path(split_file(tmp_path / "split.json", ["case1", "case2", "case3", "case4"]))
    settings = {"cache": tmp_path / "cache", "split": split, "trust": True}
    study = init_study(
        fold, workplace.made, out=tmp_path / "study", images=2, candidates=6, pairs_per_image=2,
        practice=0, gold=0.0, choose=0.0, least_voxels=2, **settings,
    ).folder  # fmt: skip
    assert WholeSlates(study.slates).cases
    with VoteStore(study.database) as store:
        store.create(study.contents(), Rules(repeats=0.0))
        assert vote_all(store, welcome(store))
    made = align(
        fold, workplace.made, votes=study.path, out=tmp_path / "run", epochs=1, batch_size=1,
        learning_rate=0.01, keep_tuned=True, log_with=(), **settings,
    )  # fmt: skip
    (run,) = made.runs.values()
    assert [row["skipped_elsewhere"] for row in run.read_metrics()[1:]] == [0]
    # It is written back as it came, with other weights.
    assert made.tuned is not None
    digests = [
        read_nnunet(one, trust=True).policy("0").digest() for one in (fold.parent, made.tuned)
    ]
    assert digests[0] != digests[1] == load_model(run.path)[0].digest()
