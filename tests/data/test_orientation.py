"""Volumes that are turned for the network, and what was computed turned back."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Orientation

from segpref.data import Preparation, is_orientation, turned
from segpref.types import Case, SegprefError

EVERY = [
    "".join(codes)
    for axes in permutations(("LR", "PA", "IS"))
    for codes in product(*axes)
]  # fmt: skip
SPACING = (0.5, 2.0, 3.0)


def case(codes: str, seed: int = 0) -> Case:
    """A volume whose axes point so on disk."""
    rng = np.random.default_rng(seed)
    shape = (4, 5, 6)
    ornt = nib.orientations.axcodes2ornt(codes)
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(ornt):
        affine[int(world), axis] = sign * SPACING[axis]
    affine[:3, 3], affine[3, 3] = rng.normal(0, 30, 3), 1
    return Case(
        id="c", patient="p", volume="c",
        image=rng.normal(size=(2, *shape)).astype(np.float32),
        label=rng.integers(0, 3, (1, *shape)).astype(np.uint8),
        raters=rng.integers(0, 2, (2, 1, *shape)).astype(np.uint8),
        spacing_mm=SPACING, affine=affine,
    )  # fmt: skip


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL", "PIR"])
@pytest.mark.parametrize("wanted", ["RAS", "LPS", "ASR"])
def test_as_monai_turns(codes: str, wanted: str) -> None:
    one = case(codes)
    turn = Orientation(axcodes=wanted, labels=(("L", "R"), ("P", "A"), ("I", "S")))
    monai = turn(MetaTensor(torch.from_numpy(one.image), affine=torch.from_numpy(one.affine)))
    ours = turned(one, wanted)
    np.testing.assert_array_equal(ours.image, np.asarray(monai))
    np.testing.assert_allclose(np.asarray(ours.affine), np.asarray(monai.affine), atol=1e-9)
    assert ours.spacing_mm == pytest.approx(nib.affines.voxel_sizes(np.asarray(ours.affine)))
    assert "".join(nib.aff2axcodes(ours.affine)) == wanted
    # Masks go with the image.
    label = turn(MetaTensor(torch.from_numpy(one.label), affine=torch.from_numpy(one.affine)))
    np.testing.assert_array_equal(ours.label, np.asarray(label))
    assert ours.raters is not None
    np.testing.assert_array_equal(ours.raters[1], turned_alone(one, 1, wanted))


def turned_alone(one: Case, rater: int, wanted: str) -> np.ndarray:
    assert one.raters is not None
    alone = Case(
        id="r", patient="p", volume="r", image=one.raters[rater].astype(np.float32),
        spacing_mm=SPACING, affine=one.affine,
    )  # fmt: skip
    return turned(alone, wanted).image.astype(np.uint8)


@given(st.sampled_from(EVERY), st.sampled_from(EVERY), st.sampled_from([2, 3]), st.booleans())
def test_there_and_back(codes: str, wanted: str, dims: int, crop: bool) -> None:
    one = case(codes)
    size = (3, 9, 9)[:dims] if crop else None
    preparation = Preparation(dims=dims, crop=size, normalise="none", orientation=wanted)  # type: ignore[arg-type]
    prepared = preparation.apply(one)
    assert len(prepared.images) == preparation.count(one)
    back = preparation.restore(torch.from_numpy(prepared.images), one, torch.tensor([-9.0, -9.0]))
    known = back.numpy() != -9.0
    assert back.shape == one.image.shape
    assert known.any()
    np.testing.assert_array_equal(back.numpy()[known], one.image[known])
    assert known.all() or crop
    # What the network sees is where it points to, whatever the file.
    assert prepared.spacing_mm == turned(one, wanted).spacing_mm[:dims]  # type: ignore[index]


def test_the_same_patient_looks_the_same_whatever_the_file() -> None:
    one = case("LPS")
    preparation = Preparation(dims=3, orientation="RAS")
    for codes in EVERY:
        again = turned(one, codes)
        np.testing.assert_array_equal(
            preparation.apply(again).images, preparation.apply(one).images
        )
        np.testing.assert_array_equal(
            preparation.apply(again).labels, preparation.apply(one).labels
        )


def test_what_can_not_be_turned() -> None:
    for codes in ("", "RA", "RAA", "RAX", "ras", "RLS"):
        assert not is_orientation(codes)
        with pytest.raises(SegprefError, match="such as RAS"):
            Preparation(orientation=codes)
    picture = Case(id="picture", patient="p", volume="v", image=np.zeros((1, 4, 4), np.float32))
    with pytest.raises(SegprefError, match="picture does not state where its axes point"):
        Preparation(orientation="RAS").apply(picture)
    with pytest.raises(SegprefError, match="turns images can't be moved"):
        Preparation(crop=(2, 2), orientation="RAS").around((1, 1))


def test_a_setting_that_is_not_used_changes_no_key() -> None:
    assert "orientation" not in Preparation().as_key()
    turned_key = Preparation(orientation="LPS").as_key()
    assert Preparation.from_key(turned_key).orientation == "LPS"
