"""Label values that are read as the structures of a model, and what such a mapping may not say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from relabelled_hearts import FOREIGN, HEART, HEART_INPUT, foreign, rewritten
from segpref.data import (
    Cache,
    Folders,
    NnUNetRaw,
    Reader,
    Relabelled,
    check_foreground,
    open_dataset,
    prepare,
    write_pack,
)
from segpref.types import IGNORE, LabelSpace, Region, SegprefError

SPACE = LabelSpace("multi-class", HEART)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory, heart_folder: Path) -> Path:
    return rewritten(heart_folder, tmp_path_factory.mktemp("others") / "data", foreign)


@pytest.fixture(scope="module")
def reader(others: Path) -> Reader:
    return Folders(others)


def labels_of(reader: Reader) -> list[np.ndarray]:
    return [np.asarray(reader.read(source).label) for source in reader.sources()]


def test_renamed_merged_and_surplus_values_are_the_models(
    reader: Reader, heart_reader: Reader
) -> None:
    assert reader.label_space is not None
    assert reader.label_space.disk_values == (0, 2, 4, 5, 7, 9)
    found = Relabelled(reader, FOREIGN, SPACE)
    assert found.label_space == SPACE
    assert found.label_space.unlabelled == ()
    for one, same in zip(labels_of(found), labels_of(heart_reader), strict=True):
        np.testing.assert_array_equal(one, same)


def test_what_is_named_ignore_is_ignored(reader: Reader, heart_reader: Reader) -> None:
    found = Relabelled(reader, {**FOREIGN, "ignore": 7}, SPACE)
    for one, plain in zip(labels_of(found), labels_of(heart_reader), strict=True):
        aside = np.zeros_like(plain, bool)
        aside[0, :3] = plain[0, :3] == 0
        assert aside.any()
        np.testing.assert_array_equal(one, np.where(aside, IGNORE, plain))


def test_what_the_dataset_ignores_stays_ignored(others: Path, heart_reader: Reader) -> None:
    found = Relabelled(Folders(others, ignore=7), FOREIGN, SPACE)
    ignored = Relabelled(Folders(others), {**FOREIGN, "ignore": 7}, SPACE)
    for one, same in zip(labels_of(found), labels_of(ignored), strict=True):
        np.testing.assert_array_equal(one, same)


def test_structures_without_a_value_are_unknown(reader: Reader) -> None:
    found = Relabelled(reader, {"LV": [4, 9]}, SPACE)
    assert found.label_space == SPACE
    assert found.label_space.unlabelled == ("RV", "MYO")
    labelled = found.label_space.labelled
    assert labelled is not None
    assert labelled.tolist() == [False, False, True]
    assert set(np.unique(np.stack(labels_of(found)))) == {0, 3}


def test_the_models_values_are_those_of_masks(reader: Reader) -> None:
    written = LabelSpace("multi-class", HEART, on_disk=(0, 11, 12, 13))
    assert Relabelled(reader, {"LV": 9}, written).label_space.on_disk == (0, 11, 12, 13)


def test_without_a_model_the_names_make_the_structures(reader: Reader) -> None:
    space = Relabelled(reader, {"lumen": [9, 4], "wall": 2}).label_space
    assert space == LabelSpace("multi-class", ("background", "wall", "lumen"))
    assert space.on_disk == (0, 2, 9)
    again = Relabelled(reader, {"wall": 2, "lumen": [9, 4]}).label_space
    assert (again, again.on_disk) == (space, space.on_disk)
    assert Relabelled(Folders(reader_folder(reader)), {"a": 2}).label_space.on_disk == (0, 2)


def reader_folder(reader: Reader) -> Path:
    return reader.sources()[0].images[0].parents[1]


def test_two_mappings_never_share_what_is_prepared(reader: Reader, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    mappings: list[dict[str, Any]] = [FOREIGN, {"RV": 2, "MYO": 5, "LV": [9, 4]}]
    one, other = (prepare(Relabelled(reader, m, SPACE), HEART_INPUT, cache) for m in mappings)
    assert any(
        (np.asarray(a.label) != np.asarray(b.label)).any() for a, b in zip(one, other, strict=True)
    )


def test_raters_are_mapped_as_labels_are(reader: Reader) -> None:
    class Rated(Folders):
        def read(self, source: Any) -> Any:
            case = super().read(source)
            assert case.label is not None
            return replace(case, raters=np.stack([case.label, case.label]))

    found = Relabelled(Rated(reader_folder(reader)), FOREIGN, SPACE)
    case = found.read(found.sources()[0])
    assert case.raters is not None
    np.testing.assert_array_equal(case.raters, np.stack([case.label, case.label]))


def test_a_structure_that_nothing_is_named_for_is_not_missing(
    reader: Reader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = prepare(Relabelled(reader, {"LV": [9, 4]}, SPACE), HEART_INPUT, Cache(tmp_path))
    check_foreground(cases, cases.label_space, "validation")
    assert "shows" not in capsys.readouterr().err


def test_a_structure_with_a_value_that_no_label_shows_is_missing(
    reader: Reader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = LabelSpace("multi-class", HEART, unlabelled=("MYO",))
    cases = prepare(Relabelled(reader, {"LV": [9, 4]}, SPACE), HEART_INPUT, Cache(tmp_path))
    check_foreground(cases, space, "validation")
    assert "labels shows RV: it does not count" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({"liver": 5}, "names liver, but the structures of the model are RV, MYO, LV"),
        ({"LV": 9, "class 7": 7}, "names class 7, but the structures of the model are"),
        ({"LV": 3}, "names the value 3 for LV, but the labels of the data have 0 background, "
                    "2 class 2, 4 class 4, 5 class 5, 7 class 7, 9 class 9: correct it"),
        ({"LV": 9, "RV": 9}, "names the value 9 twice, for LV and RV"),
        ({"LV": [9, 9]}, "names the value 9 twice, for LV and LV"),
        ({"LV": 9, "ignore": 9}, "names the value 9 twice, for LV and ignore"),
        ({"LV": []}, "names no value for LV"),
        ({}, "names no structure: give the values of RV or MYO or LV"),
        ({"ignore": 7}, "names no structure"),
        ({"LV": [0, 9]}, "names the value 0 for LV, but it is the background of the data"),
    ],
)  # fmt: skip
def test_a_mapping_that_contradicts_model_or_files(
    reader: Reader, labels: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SegprefError) as error:
        Relabelled(reader, labels, SPACE)
    assert sentence in str(error.value)


def test_background_may_be_named(reader: Reader) -> None:
    plain, named = (
        Relabelled(reader, {**FOREIGN, **more}, SPACE) for more in ({}, {"background": [0, 7]})
    )
    assert plain.key == named.key


@pytest.fixture
def raw(tmp_path: Path) -> Any:
    """An nnU-Net dataset with these labels and no images of its own making."""

    def make(labels: dict[str, Any], **more: Any) -> NnUNetRaw:
        content = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", **more}
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        for folder, name in (("imagesTr", "a_0000"), ("labelsTr", "a")):
            (tmp_path / folder).mkdir()
            array = np.arange(16, dtype=np.uint8).reshape(4, 4, 1) % 3
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / folder / f"{name}.nii.gz")
        return NnUNetRaw(tmp_path)

    return make


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({"LV": 1}, "names the value 1 for LV, but the data calls it RV"),
        ({"RV": 2}, "names the value 2 for RV, but in the data RV is 1"),
        ({"LV": [1, 2]}, "names the value 1 for LV, but the data calls it RV"),
        ({"background": 1, "LV": 2}, "names the value 1 for background, but the data calls it RV"),
    ],
)
def test_names_of_the_dataset_that_disagree(raw: Any, labels: Any, sentence: str) -> None:
    with pytest.raises(SegprefError) as error:
        Relabelled(raw({"background": 0, "RV": 1, "cavity": 2}), labels, SPACE)
    assert sentence in str(error.value)


def test_names_of_the_dataset_that_the_model_does_not_know(raw: Any) -> None:
    found = Relabelled(raw({"background": 0, "RV": 1, "cavity": 2}), {"LV": 2}, SPACE)
    assert found.label_space.unlabelled == ("RV", "MYO")
    assert set(np.unique(labels_of(found)[0])) == {0, 3}


def test_nnunets_ignored_label_stays_ignored(raw: Any) -> None:
    found = Relabelled(raw({"background": 0, "cavity": 1, "ignore": 2}), {"LV": 1}, SPACE)
    assert set(np.unique(labels_of(found)[0])) == {0, 3, IGNORE}


def test_regions_of_the_dataset(raw: Any) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    with pytest.raises(SegprefError, match=r"the data has regions \(whole, core\)"):
        Relabelled(raw(labels, regions_class_order=[1, 2]), {"LV": 1}, SPACE)


def test_regions_of_the_model(reader: Reader) -> None:
    regions = LabelSpace("multi-class", HEART, (Region("heart", (1, 2, 3)),))
    with pytest.raises(SegprefError, match=r"the model has regions \(heart\)"):
        Relabelled(reader, {"LV": 9}, regions)


def test_structures_that_may_overlap(reader: Reader) -> None:
    with pytest.raises(SegprefError, match=r"the model has structures that may overlap \(lung\)"):
        Relabelled(reader, {"lung": 9}, LabelSpace("multi-label", ("lung",)))


def test_data_whose_structures_may_overlap(raw: Any, tmp_path: Path) -> None:
    raw({"background": 0, "RV": 1, "cavity": 2})
    independent = NnUNetRaw(tmp_path, as_multilabel=True)
    with pytest.raises(SegprefError, match=r"the data has structures that may overlap \(RV, cav"):
        Relabelled(independent, {"LV": 2}, SPACE)


def test_data_without_labels(reader: Reader) -> None:
    class Unlabelled(Folders):
        label_space: Any = None

        def __init__(self, root: Path) -> None:
            super().__init__(root)
            self.label_space = None

    with pytest.raises(SegprefError, match="the data has no labels whose values could be named"):
        Relabelled(Unlabelled(reader_folder(reader)), {"LV": 9}, SPACE)


def test_no_pack_forgets_what_is_unknown(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match="nothing is known of RV, MYO"):
        write_pack(Relabelled(reader, {"LV": 9}, SPACE), tmp_path / "pack")
    write_pack(Relabelled(reader, FOREIGN, SPACE), tmp_path / "pack")
    assert open_dataset(tmp_path / "pack").label_space == SPACE


@pytest.mark.parametrize("unlabelled", [("kidney",), ("RV", "MYO", "LV")])
def test_a_label_space_in_which_other_structures_are_unlabelled(unlabelled: Any) -> None:
    with pytest.raises(SegprefError, match="the unlabelled structures are some, not all"):
        LabelSpace("multi-class", HEART, unlabelled=unlabelled)


def test_of_independent_structures_none_is_unlabelled() -> None:
    with pytest.raises(SegprefError, match="the unlabelled structures"):
        LabelSpace("multi-label", ("a", "b"), unlabelled=("a",))


def test_labels_of_a_whole_body_are_read_by_their_values(tmp_path: Path) -> None:
    """More than a hundred classes, one of them beyond a byte."""
    label = np.zeros((12, 12, 12), np.uint16)
    label.reshape(-1)[: 12 * 118 : 12] = np.arange(118)
    label[-1, -1, -1] = 2035
    for folder, array in (("images", label.astype(np.float32)), ("labels", label)):
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / folder / "a.nii.gz")
    reader = Relabelled(open_dataset(tmp_path), {"liver": 5, "bones": [91, 117], "cortex": 2035})
    (source,) = reader.sources()
    found = reader.read(source).label
    assert reader.label_space.names == ("background", "liver", "bones", "cortex")
    for value, meant in enumerate(([5], [91, 117], [2035]), start=1):
        np.testing.assert_array_equal(found[0] == value, np.isin(label, meant))


def test_grey_levels_of_a_volume_are_no_classes(tmp_path: Path) -> None:
    grey = np.arange(12**3, dtype=np.int16).reshape(12, 12, 12)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(grey, np.eye(4)), tmp_path / folder / "a.nii.gz")
    with pytest.raises(SegprefError, match=r"a\.nii\.gz holds values up to 1727.*grey levels"):
        open_dataset(tmp_path)
