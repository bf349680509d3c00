"""Names that come from files: none becomes a path outside of the folder that it belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written import description, nifti, picture

from segpref.data import Images, Reader, Source, mask_paths, open_dataset, write_pack
from segpref.types import LabelSpace, SegprefError

IMAGE = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
LABEL = (IMAGE > 30).astype(np.uint8)
LABELS = {"0": "background", "1": "x"}

BAD_IDS: list[Any] = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc/x",
    "a\\b",
    "a b",
    "a\x1b[2J",
    "a\nb",
    "a\x00b",
    "\u202eb",
    "x" * 300,
    "é" * 150,
    None,
    3,
    ["a"],
]


@pytest.mark.parametrize("name", BAD_IDS, ids=lambda name: ascii(name)[:20])
def test_no_source_has_an_id_that_is_no_file_name(name: Any) -> None:
    with pytest.raises(SegprefError, match=r"scan\.png has the id "):
        Source(id=name, patient="p", images=(Path("scan.png"),))


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "\u202eb", "\udcff", None, 3, ["a"]])
def test_no_source_has_a_patient_that_is_no_text_in_a_line(name: Any) -> None:
    with pytest.raises(SegprefError, match=r"scan\.png has the patient "):
        Source(id="a", patient=name, images=(Path("scan.png"),))


@pytest.mark.parametrize("name", ["a", "patient 1", "Łódź\u00a03", "患者_1", "a" * 200])
def test_usual_names_are_taken(name: str) -> None:
    assert Source(id=name.replace(" ", "_").replace("\u00a0", "_"), patient=name, images=()).patient


def decathlon(root: Path, entry: Any, key: str = "image") -> Path:
    """The dataset in ``data``; images and labels of the same names lie beside it, too."""
    folder = root / "data"
    for place in (folder, root):
        nifti(place / "imagesTr" / "a.nii.gz", IMAGE)
        nifti(place / "labelsTr" / "a.nii.gz", LABEL)
    row = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz", key: entry}
    description(folder, modality={"0": "MRI"}, labels=LABELS, training=[row])
    return folder


def nnunet(root: Path, ending: Any) -> Path:
    folder = root / "data"
    nifti(folder / "imagesTr" / "a_0000.nii.gz", IMAGE)
    nifti(folder / "labelsTr" / "a.nii.gz", LABEL)
    description(
        folder, channel_names={"0": "MRI"}, labels={"background": 0, "x": 1}, file_ending=ending
    )
    return folder


def packed(root: Path, **changes: Any) -> Path:
    """A pack whose one volume has another id, or patient, than it was packed with."""
    write_pack(open_dataset(nnunet(root / "raw", ".nii.gz")), root / "data")
    volumes = root / "data" / "volumes"
    for place in (root / "x.npz", volumes / "x y.npz"):
        place.write_bytes((volumes / "a.npz").read_bytes())
    index = root / "data" / "pack.json"
    content = json.loads(index.read_text())
    content["volumes"][0] |= changes
    index.write_text(json.dumps(content))
    return root / "data"


OUTSIDE = ["../imagesTr/a.nii.gz", "imagesTr/../../imagesTr/a.nii.gz", "..\\imagesTr\\a.nii.gz"]


@pytest.mark.parametrize("key", ["image", "label"])
@pytest.mark.parametrize("entry", [*OUTSIDE, "C:\\a.nii.gz", "absolute", "a\0b", 3, {"a": 1}])
def test_an_index_lists_nothing_outside_of_its_folder(tmp_path: Path, key: str, entry: Any) -> None:
    if entry == "absolute":
        entry = str(tmp_path / "imagesTr" / "a.nii.gz")
    folder = decathlon(tmp_path, entry, key)
    with pytest.raises(SegprefError, match=r"dataset\.json (lists|has the entry) ") as refused:
        open_dataset(folder)
    assert repr(entry)[:60] in str(refused.value)


@pytest.mark.parametrize(
    "entry", ["./imagesTr/a.nii.gz", "imagesTr/../imagesTr/a.nii.gz", "imagesTr//a.nii.gz"]
)
def test_an_index_may_write_a_path_as_it_likes(tmp_path: Path, entry: str) -> None:
    (source,) = open_dataset(decathlon(tmp_path, entry)).sources()
    assert source.images == (tmp_path / "data" / "imagesTr" / "a.nii.gz",)


def test_a_link_in_a_dataset_is_the_users_own_arrangement(tmp_path: Path) -> None:
    folder = decathlon(tmp_path, "imagesTr/a.nii.gz")
    (folder / "imagesTr" / "a.nii.gz").unlink()
    (folder / "imagesTr").rmdir()
    (folder / "imagesTr").symlink_to(tmp_path / "imagesTr")
    reader = open_dataset(folder)
    assert reader.read(reader.sources()[0]).label is not None


@pytest.mark.parametrize(
    "ending", ["/../a.nii.gz", "", "*", "nii", ".n?i", ".\n", None, 3, [".png"]]
)
def test_the_ending_of_files_is_an_ending(tmp_path: Path, ending: Any) -> None:
    with pytest.raises(SegprefError, match=r'dataset\.json has the "file_ending"'):
        open_dataset(nnunet(tmp_path, ending))


@pytest.mark.parametrize("changes", [{"id": "../../x"}, {"id": "x y"}, {"id": 3}, {"patient": [1]}])
def test_a_pack_is_checked_as_it_is_opened(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SegprefError, match=r"has the (id|patient) "):
        open_dataset(packed(tmp_path, **changes))


@pytest.mark.parametrize("volumes", [[{"id": "a"}], [3], {"a": 1}, None, []])
def test_a_pack_that_is_none_is_one_sentence(tmp_path: Path, volumes: Any) -> None:
    folder = packed(tmp_path)
    content = json.loads((folder / "pack.json").read_text())
    (folder / "pack.json").write_text(json.dumps({**content, "volumes": volumes}))
    with pytest.raises(SegprefError, match=r"pack the dataset again|check the path"):
        open_dataset(folder)


@pytest.mark.parametrize("begun", ["{", "[1]", '"x"'])
def test_a_damaged_pack_is_not_packed_into(tmp_path: Path, begun: str) -> None:
    reader = open_dataset(nnunet(tmp_path, ".nii.gz"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pack.json").write_text(begun)
    with pytest.raises(SegprefError, match=r"pack\.json|holds another packed dataset"):
        write_pack(reader, tmp_path / "out")


def odd_folders(root: Path) -> Reader:
    for place in ("images", "labels"):
        picture(root / place / "..png.png", LABEL[0])
        picture(root / place / "a b;c.png", LABEL[0])
    return open_dataset(root)


def odd_images(root: Path) -> Reader:
    picture(root / "..a\x1b[2J.png", LABEL[0])
    picture(root / "b\nc.png", LABEL[0])
    picture(root / "_0000.png", LABEL[0])
    return Images(root)


def odd_crops(root: Path) -> Reader:
    for place in ("images", "mask-0"):
        picture(root / "A patient; 1" / "nodule-0 b" / place / "slice-0.png", LABEL[0])
    return open_dataset(root)


@pytest.mark.parametrize("make", [odd_folders, odd_images, odd_crops])
def test_odd_names_on_disk_become_ids(tmp_path: Path, make: Callable[[Path], Reader]) -> None:
    for source in make(tmp_path).sources():
        place = tmp_path / "out" / f"{source.id}.npz"
        assert place.resolve().parent == tmp_path / "out"


@pytest.mark.parametrize("names", [("a b", "a_b"), ("a/b", "a|b"), ("×", "÷")])
def test_two_structures_never_share_a_file(names: tuple[str, str]) -> None:
    with pytest.raises(SegprefError, match="would share the file"):
        mask_paths("x.nii.gz", LabelSpace("multi-label", names))


def test_structures_are_told_apart_in_every_script(tmp_path: Path) -> None:
    paths = mask_paths(tmp_path / "x.png", LabelSpace("multi-label", ("肺", "心臓", "../x")))
    assert {path.parent for path in paths} == {tmp_path}
    assert [path.name for path in paths] == ["x_肺.png", "x_心臓.png", "x_.._x.png"]
