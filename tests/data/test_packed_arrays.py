"""Arrays of a packed dataset that are none of those that were written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written import grey, labels, nifti

from segpref.cli.main import main
from segpref.data import Packed, open_dataset, write_pack
from segpref.types import SegprefError

SHAPE = (4, 5, 6)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    nifti(tmp_path / "data" / "images" / "a.nii", grey(SHAPE))
    nifti(tmp_path / "data" / "labels" / "a.nii", labels(SHAPE, 2))
    write_pack(open_dataset(tmp_path / "data"), tmp_path / "pack")
    return tmp_path / "pack"


def changed(pack: Path, name: str, change: Callable[[np.ndarray], Any]) -> Any:
    path = pack / "volumes" / "a.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[name] = change(arrays[name])
    np.savez(path, **arrays)
    reader = Packed(pack)
    return reader.read(reader.sources()[0])


def as_objects(array: np.ndarray) -> np.ndarray:
    return array.astype(object)


@pytest.mark.parametrize("turn", [np.asfortranarray, lambda array: array.astype(">f8")])
@pytest.mark.parametrize("name", ["scale", "offset", "affine", "spacing_mm"])
def test_order_of_items_and_bytes_does_not_matter(pack: Path, name: str, turn: Any) -> None:
    case = changed(pack, name, turn)
    np.testing.assert_array_equal(case.image[0], grey(SHAPE))
    np.testing.assert_array_equal(case.label[0], labels(SHAPE, 2))
    assert case.spacing_mm == (1.5, 1.5, 8)


REFUSED: list[tuple[str, Callable[[np.ndarray], Any], str]] = [
    *[(name, as_objects, "pack the dataset again") for name in ("image", "label", "spacing_mm")],
    *[
        ("spacing_mm", lambda sizes, bad=bad: sizes * [1, bad, 1], "no geometry")
        for bad in (0.0, -1.0, np.inf)
    ],
    ("spacing_mm", lambda sizes: sizes * 1j, "no geometry"),
    ("spacing_mm", lambda sizes: sizes.astype(str), "no geometry"),
    *[("affine", lambda affine, by=by: affine * by, "no geometry") for by in (0.0, np.nan)],
    ("affine", lambda affine: affine.astype(str), "no geometry"),
    ("image", lambda image: image * (1 + 1j), "is damaged"),
    ("image", lambda image: image > 3, "is damaged"),
    ("image", lambda image: image + 0.25, "is damaged"),
    ("image", lambda image: image[..., :0], "has an image of shape"),
    ("label", lambda label: label[..., :-1], "has a label of shape"),
    ("label", lambda label: label * 7, "has a label that holds"),
    ("label", lambda label: label.astype(np.float32), "has a label that holds"),
]


@pytest.mark.parametrize(("name", "change", "said"), REFUSED)
def test_arrays_that_are_no_image_label_or_geometry(
    pack: Path, name: str, change: Callable[[np.ndarray], Any], said: str
) -> None:
    with pytest.raises(SegprefError, match=said) as refused:
        changed(pack, name, change)
    assert str(pack / "volumes" / "a.npz") in str(refused.value)
    assert "pack the dataset again" in str(refused.value)


def test_an_id_twice(pack: Path) -> None:
    index = json.loads((pack / "pack.json").read_text())
    index["volumes"] *= 2
    (pack / "pack.json").write_text(json.dumps(index))
    with pytest.raises(SegprefError, match="both get the id a"):
        Packed(pack)


def test_a_dataset_is_not_packed_into_itself(
    pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pack.parent / "data"
    (pack.parent / "link").symlink_to(data)
    before = sorted(data.rglob("*"))
    for out in (data, pack.parent / "link"):
        assert main(["pack", "--data", str(data), "--out", str(out)]) == 1
        assert "is the folder of the dataset" in " ".join(capsys.readouterr().err.split())
    assert sorted(data.rglob("*")) == before
