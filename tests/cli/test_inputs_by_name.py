"""What the commands open by name: judges, and splits that are drawn."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segpref.data import Cache, Folders, Preparation, Reader
from segpref.judges import OracleJudge
from segpref.policies import ModelCard, NetworkSpec
from segpref.types import Candidate, Case, LabelSpace, SegprefError, Slate
from segpref.workflows import open_judge, open_split

SPACE = LabelSpace("multi-class", ("background", "core"))
CARD = ModelCard(NetworkSpec("any"), SPACE, Preparation())


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Ten labelled images, and two without a label."""
    for number in range(12):
        for name in ("images", "labels")[: 1 + (number < 10)]:
            (tmp_path / name).mkdir(exist_ok=True)
            path = tmp_path / name / f"p{number}.nii.gz"
            nib.save(nib.Nifti1Image(np.ones((4, 4), np.uint8), np.eye(4)), path)
    return Folders(tmp_path, names=SPACE.names)


def test_a_split_needs_somebody_whom_no_model_has_seen(reader: Reader, tmp_path: Path) -> None:
    everybody = [f"p{number}" for number in range(10)]
    with pytest.raises(SegprefError, match=r"all 10 labelled patients .* name one fold .*fold_0"):
        open_split(reader, None, seen=everybody)
    split = open_split(reader, None, seen=everybody[:4])
    assert set(everybody[:4]) <= set(split.train)
    assert not set(everybody[:4]) & {*split.validation, *split.test}
    split.save(tmp_path / "split.json")
    assert open_split(reader, tmp_path / "split.json", seen=everybody) == split


@pytest.mark.parametrize(("name", "score"), [("oracle", 1 / 3), ("oracle-dice", 1 / 2)])
def test_the_oracle_tells_iou_or_dice(
    reader: Reader, tmp_path: Path, name: str, score: float
) -> None:
    judge, labelled = open_judge(name, CARD, reader, Cache(tmp_path / "cache"))
    assert isinstance(judge, OracleJudge)
    assert labelled == ()
    label, mask = np.zeros((2, 1, 1, 4), np.uint8)
    label[..., :2], mask[..., 1:3] = 1, 1
    case = Case(id="a", patient="a", volume="a", image=label.astype(np.float32), label=label)
    slate = Slate(mask[None], (Candidate("anchor"),))
    assert judge.score(case, slate)[0, 0] == pytest.approx(score)
