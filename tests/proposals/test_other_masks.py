"""Masks of other models as candidates: by hand, and of patches of images on disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segpref.data import (
    Cache,
    Dataset,
    LabelPlaces,
    MaskFolder,
    PatchDraw,
    Preparation,
    Reader,
    prepare,
)
from segpref.policies import Segmenter
from segpref.proposals import (
    HoleFilling,
    OtherMasks,
    ProposalContext,
    SlateProposals,
    StoredProposal,
)
from segpref.types import IGNORE, LabelSpace, Region, SegprefError

CARDIAC = LabelSpace("multi-class", ("background", "RV", "MYO"))
CHEST = LabelSpace("multi-label", ("lung", "heart"))


class Named:
    """As much of a folder as a family asks for."""

    def __init__(self, name: str) -> None:
        self.folder = Path(name)


def family(count: int) -> OtherMasks:
    folders: list[Any] = [Named(f"model-{number}") for number in range(count)]
    return OtherMasks(folders)


def proposed(
    anchor: np.ndarray, *others: np.ndarray, space: LabelSpace = CARDIAC
) -> list[tuple[dict[str, Any], list[Any]]]:
    logits = np.zeros((space.channels, *anchor.shape[1:]), np.float32)
    given = {f"other-{number}": mask for number, mask in enumerate(others)}
    context = ProposalContext(logits, anchor, space, predictions=given)
    return [(dict(how), mask.tolist()) for how, mask in family(max(1, len(others)))(context)]


def test_whole_masks_and_then_structure_by_structure() -> None:
    anchor, other = np.uint8([[[0, 1, 1, 2, 0]]]), np.uint8([[[1, 1, 2, 2, 2]]])
    whole, rv, myo = proposed(anchor, other)
    assert whole == ({"source": "model-0"}, other.tolist())
    # Where either holds the structure, it is as the other has it.
    assert rv == ({"source": "model-0", "structure": "RV"}, [[[1, 1, 2, 2, 0]]])
    assert myo == ({"source": "model-0", "structure": "MYO"}, [[[0, 1, 2, 2, 2]]])


def test_all_whole_masks_come_first() -> None:
    anchor = np.zeros((1, 1, 2), np.uint8)
    found = proposed(anchor, anchor + 1, anchor + 2)
    assert [how.get("structure") for how, _ in found] == [None, None, "RV", "MYO", "RV", "MYO"]
    assert [how["source"] for how, _ in found][:3] == ["model-0", "model-1", "model-0"]


def test_structures_that_overlap_are_taken_one_by_one() -> None:
    anchor, other = np.uint8([[[1, 0]], [[1, 1]]]), np.uint8([[[0, 1]], [[0, 1]]])
    _, lung, heart = proposed(anchor, other, space=CHEST)
    assert lung[1] == [[[0, 1]], [[1, 1]]]
    assert heart[1] == [[[1, 0]], [[0, 1]]]


def test_regions_are_taken_as_regions() -> None:
    space = LabelSpace(
        "multi-class",
        ("background", "core", "edema"),
        regions=(Region("tumour", (1, 2)), Region("core", (1,))),
    )
    anchor, other = np.uint8([[[0, 1, 2, 0]]]), np.uint8([[[1, 2, 2, 2]]])
    _, tumour, core = proposed(anchor, other, space=space)
    assert tumour[1] == [[[1, 2, 2, 2]]]
    assert core[1] == [[[1, 2, 2, 0]]]


def test_the_anchor_stands_where_a_mask_says_nothing() -> None:
    anchor = np.uint8([[[1, 2, 0]]])
    (whole, _), *_ = [
        (mask, how) for how, mask in proposed(anchor, np.uint8([[[IGNORE, 1, IGNORE]]]))
    ]
    assert whole == [[[1, 1, 0]]]
    assert proposed(anchor) == []


def test_a_family_without_folders_is_refused() -> None:
    with pytest.raises(SegprefError, match="at least one folder"):
        OtherMasks([])
    assert isinstance(family(1), StoredProposal)
    assert not isinstance(HoleFilling(), StoredProposal)


@pytest.mark.slow
def test_patches_hold_the_part_of_the_mask_that_they_show(
    heart_folder: Path, heart_reader: Reader, tmp_path: Path, store: Cache
) -> None:
    shutil.copytree(heart_folder / "labels", tmp_path / "masks")
    preparation = Preparation(dims=2, size=(32, 32))
    hearts: Dataset = prepare(heart_reader, preparation, store)
    space = hearts.label_space
    next((tmp_path / "masks").glob(f"{hearts[0].volume}.*")).unlink()
    masks = MaskFolder(tmp_path / "masks", [heart_reader], space, preparation, store)
    slates = SlateProposals(4, [OtherMasks([masks]), HoleFilling()])
    slates.prepare(hearts)
    seen = Preparation(dims=2, patch=(20, 24))
    draw = PatchDraw(seen, LabelPlaces(space), mirroring=(0, 1))
    last = len(hearts) - 1
    cases = draw([hearts[0], *(hearts[i] for i in range(last - 5, last))], range(6), 3)
    images = torch.from_numpy(np.stack([case.image for case in cases]))
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, space.channels, 3, padding=1)
    policy = Segmenter(network, space)
    none, *found = slates(policy, policy.forward(images), images, cases, seed=0)
    assert "other" not in {one.family for one in none.candidates}
    assert len({case.window.mirrored for case in cases if case.window}) > 1
    for case, slate in zip(cases[1:], found, strict=True):
        label = np.asarray(case.label)
        assert slate.candidates[1].family == "other"
        known = label != IGNORE
        assert known.any()
        assert (slate.masks[1] == label)[known].all()
