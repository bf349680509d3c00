"""The true quality of masks on a page, from labels that are found by what the page shows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import nibabel as nib
import numpy as np
import pytest
from benchmarks.votes.truth import AXES, Truth, along, below_own, mask_scores, spread_of, true_flips
from tests.collect.studies import small_study, untrained

from segpref.collect import StudyFolder, VoteRow, layout_of, native_of, packed_mask, slice_of
from segpref.data import open_dataset


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """With the scores of a judge."""
    folder = tmp_path_factory.mktemp("truth")
    judge = untrained(folder / "judge" / "best.safetensors", "phantom001", seed=1)
    return small_study(folder, judge=judge, practice=0, gold=0.0, images=3)


@pytest.fixture(scope="module")
def truth(study: StudyFolder) -> Truth:
    return Truth(study.path.parent / "data")


@pytest.mark.slow
def test_an_image_leads_to_its_label(study: StudyFolder, truth: Truth) -> None:
    contents, numbers = study.contents(), set[int]()
    for item in contents.items:
        image = slice_of(study.read_display(item.display.asset), "axial", 0)
        label = truth.label(image)
        assert label.shape == image.shape
        assert truth.quality(image, label, None) == 1
        here = sorted(set(np.unique(label).tolist()) - {0})
        if not here:
            continue
        # One structure is right, the others are missing, and the background is none of them.
        alone = np.where(label == here[0], label, 0)
        assert truth.quality(image, alone, here[0]) == 1
        assert all(truth.quality(image, alone, value) == 0 for value in here[1:])
        assert truth.quality(image, alone, None) == pytest.approx(1 / len(here))
        numbers.add(len(here))
        # Half of a structure has half of its overlap.
        rows, columns = np.nonzero(label == here[0])
        half = np.zeros_like(label)
        half[rows[::2], columns[::2]] = here[0]
        share = len(rows[::2]) / len(rows)
        assert truth.quality(image, half, here[0]) == pytest.approx(share)
    assert max(numbers) > 1
    with pytest.raises(KeyError):
        truth.label(image + 1)


@pytest.mark.slow
def test_scores_and_spread_are_over_the_masks_that_are_shown(
    study: StudyFolder, truth: Truth
) -> None:
    contents = study.contents()
    masks = {one.id: one for one in contents.masks}
    items = {one.id: one for one in contents.items}
    names = study.note.label_space.names
    qualities = []
    for pair in contents.pairs:
        shown = slice_of(study.read_display(items[pair.item].display.asset), "axial", 0)
        for one in pair.masks:
            mask = slice_of(study.read_display(masks[one].asset), "axial", 0)
            assert pair.structure is not None
            qualities.append(truth.quality(shown, mask, names.index(pair.structure)))
    assert spread_of(study, truth) == pytest.approx(np.std(qualities))
    scored = [one.score for one in contents.masks if one.score is not None]
    assert scored
    assert set(mask_scores(study).values()) == set(scored)


@pytest.mark.slow
def test_a_flip_is_a_choice_of_the_worse_mask(study: StudyFolder, truth: Truth) -> None:
    contents = study.contents()
    masks = {one.id: one for one in contents.masks}
    items = {one.id: one for one in contents.items}
    names = study.note.label_space.names
    rows, better = [], []
    for pair in contents.pairs:
        assert pair.structure is not None
        item, value = items[pair.item], names.index(pair.structure)
        shown = slice_of(study.read_display(item.display.asset), "axial", 0)
        own = [masks[one] for one in pair.masks]
        first, second = (
            truth.quality(shown, slice_of(study.read_display(one.asset), "axial", 0), value)
            for one in own
        )
        if first == second:
            better.append(None)
        else:
            better.append(int(second > first))
        for rater, wrong in (("right", False), ("wrong", True)):
            chosen = None if better[-1] is None else better[-1] ^ wrong
            rows.append(
                SimpleNamespace(
                    rater=rater, counts=True, chosen=chosen, pair=pair, item=item, masks=tuple(own)
                )
            )
    unequal = sum(one is not None for one in better)
    assert unequal
    found = true_flips(study, truth, cast("list[VoteRow]", rows))
    assert found == {"right": [0, unequal], "wrong": [unequal, unequal]}
    for row in rows:
        row.counts = False
    assert true_flips(study, truth, cast("list[VoteRow]", rows)) == {}


@pytest.mark.slow
def test_chosen_masks_are_compared_with_the_models_own(study: StudyFolder, truth: Truth) -> None:
    contents = study.contents()
    masks = {one.id: one for one in contents.masks}
    items = {one.id: one for one in contents.items}
    own = {one.item: one for one in contents.masks if one.family == "anchor"}
    names = study.note.label_space.names
    rows, gains = [], []
    for pair in (one for one in contents.pairs if one.use == "normal"):
        assert pair.structure is not None
        item, shown = items[pair.item], [masks[one] for one in pair.masks]
        image = slice_of(study.read_display(item.display.asset), "axial", 0)
        row = SimpleNamespace(counts=True, chosen=1, pair=pair, item=item, masks=tuple(shown))
        rows.append(row)
        if item.id in own:
            better, before = (
                truth.quality(
                    image,
                    slice_of(study.read_display(one.asset), "axial", 0),
                    names.index(pair.structure),
                )
                for one in (shown[1], own[item.id])
            )
            gains.append(better - before)
    assert gains
    assert below_own(study, truth, cast("list[VoteRow]", rows)) == {
        "votes": len(gains),
        "worse": pytest.approx(np.mean(np.array(gains) < 0)),
        "mean_gain": pytest.approx(np.mean(gains)),
    }


def test_any_slice_of_a_volume_leads_to_its_whole_label(tmp_path: Path) -> None:
    """A page shows a volume slice by slice; masks are judged over all slices, along any axis."""
    rng = np.random.default_rng(0)
    label = np.zeros((8, 7, 6), np.uint8)
    label[2:6, 2:5, 1:5] = 1
    for folder, values in (("images", rng.normal(size=label.shape)), ("labels", label)):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "a.nii.gz"
        nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0])), file)
    reader = open_dataset(tmp_path)
    (source,) = reader.sources()
    case = reader.read(source)
    assert case.label is not None
    layout = layout_of(case, None)
    image = layout(native_of(source, case).values)
    shown = packed_mask(case.label, layout, reader.label_space)
    truth = Truth(tmp_path)
    for axis in AXES:
        whole = along(shown, axis)
        assert whole.sum() == label.sum()
        # Half of the slices that hold the structure: half of its voxels.
        half = whole.copy()
        half[np.flatnonzero(whole.any((1, 2)))[::2]] = 0
        share = half.sum() / whole.sum()
        assert 0 < share < 1
        for number in range(len(whole)):
            seen = slice_of(image, axis, number)
            assert truth.quality(seen, whole, 1) == 1
            assert truth.quality(seen, half, 1) == pytest.approx(share)
