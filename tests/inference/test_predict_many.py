"""A folder with good and bad images: every good one gets its mask, every bad one its sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from test_predict import (
    STRUCTURES,
    card_of,
    folder,
    model_file,
    noise,
    save_nifti,
    write_series,
)

from segpref.data import Images, Preparation, write_pack
from segpref.inference import case_masks, mask_formats, predict_folder
from segpref.types import SegprefError


def truncated(path: Path) -> None:
    save_nifti(path, noise((4, 4, 4)))
    path.write_bytes(path.read_bytes()[:-40])


def of_two_channels(path: Path) -> None:
    save_nifti(path, noise((4, 4, 4, 2)))


def not_a_number(path: Path) -> None:
    save_nifti(path, np.full((4, 4, 4), np.nan, np.float32))


BAD: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "truncated": ("a.nii", truncated, r"a\.nii is cut off.*export it again"),
    "empty": ("a.nii.gz", Path.touch, r"a\.nii\.gz is empty: copy or export it again"),
    "empty DICOM": ("a.dcm", Path.touch, r"a\.dcm is empty: copy or export it again"),
    "empty picture": ("a.png", Path.touch, r"a\.png is empty: copy or export it again"),
    "two channels": ("a.nii", of_two_channels, r"a\.nii has 2 channels but 1 are expected"),
    "NaN": ("a.nii", not_a_number, r"a\.nii is NaN or infinite in 64 of 64 pixels: replace"),
    "link": ("a.nii", lambda path: path.symlink_to("nowhere"), r"a\.nii is a link that leads no"),
    "circle": ("a.nii", lambda path: path.symlink_to(path), r"a\.nii is a link that leads no"),
    "text": ("a.png", lambda path: path.write_text("no image"), r"a\.png is cut off, damaged or"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_bad_image_does_not_keep_the_others_from_their_masks(
    tmp_path: Path, kind: str, place: str
) -> None:
    images, out = folder(tmp_path / "images"), tmp_path / "out"
    name, spoil, sentence = BAD[kind]
    good = {"first": ("b", "c"), "middle": ("Z", "b"), "last": ("Y", "Z")}[place]
    for stem in good:
        save_nifti(images / f"{stem}.nii", noise((4, 4, 4)))
    spoil(images / name)
    model = model_file(tmp_path, card_of())
    with pytest.raises(SegprefError, match=sentence) as caught:
        predict_folder(model, images, out)
    assert str(caught.value).startswith(f"2 of 3 images were segmented into {out}, 1 failed: ")
    assert "\n" not in str(caught.value)
    assert sorted(path.stem for path in out.iterdir()) == sorted(good)


def test_all_bad(tmp_path: Path) -> None:
    images = folder(tmp_path / "images")
    for number in range(7):
        (images / f"{number}.png").touch()
    model = model_file(tmp_path, card_of(thresholds=(0.5, 0.5), channels=3))
    with pytest.raises(
        SegprefError, match=r"^0 of 7 images .* 7 failed: .*; and 2 more$"
    ) as caught:
        predict_folder(model, images, tmp_path / "out")
    assert "channels" not in str(caught.value)


def test_each_failure_is_told_of_at_once_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = folder(tmp_path / "images" / ("a long name [b] " * 6))
    for name in ("a", "b"):
        (images / f"{name}.png").touch()
    with pytest.raises(SegprefError):
        predict_folder(model_file(tmp_path, card_of()), images, tmp_path / "out")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{images}/{name}.png is empty: copy or export it again" for name in "ab"]


@pytest.mark.parametrize("error", [KeyError("x"), AssertionError(), MemoryError(), TypeError("y")])
def test_whatever_an_image_raises_the_others_are_segmented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    images, out = folder(tmp_path / "images"), tmp_path / "out"
    for name in "abc":
        save_nifti(images / f"{name}.nii", noise((4, 4, 4)))
    write = mask_formats.write_mask

    def clumsy(path: Path, *args: Any) -> Any:
        if path.name == "a.nii":
            raise error
        return write(path, *args)

    monkeypatch.setattr(mask_formats, "write_mask", clumsy)
    with pytest.raises(
        SegprefError, match=r"2 of 3 .*a\.nii could not be segmented( \(.+\)$|: .+memory)"
    ):
        predict_folder(model_file(tmp_path, card_of()), images, out)
    assert sorted(path.name for path in out.iterdir()) == ["b.nii", "c.nii"]


def test_the_same_call_goes_on_once_the_file_is_mended(tmp_path: Path) -> None:
    images, out = folder(tmp_path / "images"), tmp_path / "out"
    save_nifti(images / "b.nii", noise((4, 4, 4)))
    truncated(images / "a.nii")
    model = model_file(tmp_path, card_of())
    with pytest.raises(SegprefError, match="1 of 2"):
        predict_folder(model, images, out)
    first = (out / "b.nii").stat().st_mtime_ns
    save_nifti(images / "a.nii", noise((4, 4, 4)))
    assert predict_folder(model, images, out) == [out / "a.nii"]
    assert (out / "b.nii").stat().st_mtime_ns == first


def test_damaged_dicom_among_series(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 1001, (3, 6, 8))
    for name in "abc":
        write_series(tmp_path / "study" / name, stack)
    (tmp_path / "study" / "a" / "001.dcm").write_bytes(b"")
    whole = (tmp_path / "study" / "b" / "002.dcm").read_bytes()
    (tmp_path / "study" / "b" / "002.dcm").write_bytes(whole[:500])
    model = model_file(tmp_path, card_of(Preparation(normalise="min-max")))
    with pytest.raises(SegprefError, match=r"1 of 3 .*a/001\.dcm is .*b/002\.dcm is "):
        predict_folder(model, tmp_path / "study", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["c.nii.gz", "series.csv"]


def test_a_missing_channel_file(tmp_path: Path) -> None:
    images = folder(tmp_path / "images")
    for name in ("a_0001", "b_0000", "b_0001", "c_0000"):
        save_nifti(images / f"{name}.nii", noise((4, 4, 4)))
    with pytest.raises(SegprefError, match=r"1 of 3 .*a_0000\.nii does not.*c_0001\.nii does not"):
        predict_folder(model_file(tmp_path, card_of(channels=2)), images, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.nii"]


def test_the_number_of_the_only_channel_is_no_part_of_the_name(tmp_path: Path) -> None:
    images, model = folder(tmp_path / "images"), model_file(tmp_path, card_of())
    for name in ("a_0000", "b_0000"):
        save_nifti(images / f"{name}.nii", noise((4, 4, 4)))
    written = predict_folder(model, images, tmp_path / "out")
    assert [path.name for path in written] == ["a.nii", "b.nii"]
    save_nifti(images / "c.nii", noise((4, 4, 4)))
    written = predict_folder(model, images, tmp_path / "mixed")
    assert [path.name for path in written] == ["a_0000.nii", "b_0000.nii", "c.nii"]


def test_coloured_pictures_are_grey_to_a_model_of_one_channel(tmp_path: Path) -> None:
    images = folder(tmp_path / "images")
    colour = np.zeros((6, 7, 3), np.uint8)
    colour[:3] = 255, 250, 255
    Image.fromarray(colour).save(images / "a.png")
    Image.fromarray(colour[..., 0]).save(images / "b.png")
    model = model_file(tmp_path, card_of(Preparation(normalise="min-max")))
    for path in predict_folder(model, images, tmp_path / "out"):
        assert np.array_equal(np.asarray(Image.open(path)), colour[..., 0] > 0)


def test_one_time_point(tmp_path: Path) -> None:
    image = noise((5, 6, 4, 1))
    path = save_nifti(folder(tmp_path / "images") / "a.nii.gz", image)
    (written,) = predict_folder(
        model_file(tmp_path, card_of()), tmp_path / "images", tmp_path / "out"
    )
    mask = nib.load(written)
    assert np.array_equal(np.asarray(mask.dataobj), image[..., 0] > 0.5)
    assert np.array_equal(mask.affine, nib.load(path).affine)


def test_names_of_every_script_stay(tmp_path: Path) -> None:
    images = folder(tmp_path / "my images é")
    names = ["été 1.nii.gz", "肺部.nii.gz", "心脏.nii.gz", "a b (2) [3].nii.gz", "SCAN.NII"]
    for name in names:
        save_nifti(images / name, noise((4, 4, 4)))
    written = predict_folder(model_file(tmp_path, card_of()), images, tmp_path / "Ergebnis ü")
    assert {path.name for path in written} == set(names)
    assert all(path.exists() for path in written)


# Where masks go


@pytest.mark.parametrize("space", ["classes", "structures"])
@pytest.mark.parametrize("given", ["folder", "file", "link", "dots"])
def test_masks_do_not_go_among_the_images(tmp_path: Path, space: str, given: str) -> None:
    images = folder(tmp_path / "images")
    path = save_nifti(images / "a.nii", noise((4, 4, 4)))
    (tmp_path / "link").symlink_to(images)
    card = card_of(space=STRUCTURES, thresholds=(0.3, 0.6)) if space == "structures" else card_of()
    source = path if given == "file" else images
    out = {"link": tmp_path / "link", "dots": tmp_path / "x" / ".." / "images"}.get(given, images)
    folder(tmp_path / "x")
    with pytest.raises(SegprefError, match=r"holds the images, .*: choose another output folder"):
        predict_folder(model_file(tmp_path, card), source, out, overwrite=True)
    assert [path.name for path in images.iterdir()] == ["a.nii"]


def test_masks_do_not_go_among_the_slices_of_a_series(tmp_path: Path) -> None:
    series = write_series(tmp_path / "study" / "s", np.zeros((3, 6, 8), int))
    model = model_file(tmp_path, card_of())
    for images in (tmp_path / "study", series):
        for out in (images, series):
            with pytest.raises(SegprefError, match="choose another output folder"):
                predict_folder(model, images, out)
    assert len(list(series.iterdir())) == 3


def test_a_folder_below_the_images_may_hold_the_masks(tmp_path: Path) -> None:
    images = folder(tmp_path / "images")
    save_nifti(images / "a.nii", noise((4, 4, 4)))
    model = model_file(tmp_path, card_of())
    for expected in ([images / "masks" / "a.nii"], []):
        assert predict_folder(model, images, images / "masks") == expected


def test_a_place_that_can_not_hold_masks_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = folder(tmp_path / "images")
    save_nifti(images / "a.nii", noise((4, 4, 4)))
    (tmp_path / "file").write_text("in the way")
    model = model_file(tmp_path, card_of())
    monkeypatch.setattr(case_masks.CaseMasks, "ready", lambda *_: pytest.fail("it was segmented"))
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(
            SegprefError, match="not a folder that you may write to: choose another"
        ):
            predict_folder(model, images, out)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SegprefError, match="not a folder that you may write to: choose another"):
        predict_folder(model, images, tmp_path / "new" / "deep")


# Tables and packs


def test_masks_of_a_table_are_named_by_its_ids(tmp_path: Path) -> None:
    for place in ("x", "y"):
        save_nifti(folder(tmp_path / place) / "scan 1.nii.gz", noise((4, 4, 4), ord(place)))
    picture = folder(tmp_path / "z") / "photo.jpg"
    Image.fromarray(np.zeros((6, 7), np.uint8)).save(picture)
    table = tmp_path / "pool.csv"
    table.write_text("id,image\nb,x/scan 1.nii.gz\na,y/scan 1.nii.gz\nc,z/photo.jpg\n")
    model = model_file(tmp_path, card_of())
    written = predict_folder(model, table, tmp_path / "out")
    assert [path.name for path in written] == ["a.nii.gz", "b.nii.gz", "c.png"]
    for name, place in (("b", "x"), ("a", "y")):
        (alone,) = predict_folder(model, tmp_path / place, tmp_path / f"alone-{place}")
        assert alone.name == "scan 1.nii.gz"
        assert (tmp_path / "out" / f"{name}.nii.gz").read_bytes() == alone.read_bytes()
    assert predict_folder(model, table, tmp_path / "out") == []


def test_masks_of_a_table_without_ids_are_named_as_those_of_a_folder(tmp_path: Path) -> None:
    images = folder(tmp_path / "images")
    for name in ("été 1.nii.gz", "b_0000.nii"):
        save_nifti(images / name, noise((4, 4, 4)))
    table = tmp_path / "pool.csv"
    table.write_text("image\nimages/été 1.nii.gz\nimages/b_0000.nii\n")
    model = model_file(tmp_path, card_of())
    written = predict_folder(model, table, tmp_path)  # beside the table there is no image
    assert {path.name for path in written} == {"été 1.nii.gz", "b_0000.nii"}


def test_masks_of_a_pack_keep_the_geometry(tmp_path: Path) -> None:
    images = folder(tmp_path / "images")
    save_nifti(images / "a.nii", np.round(noise((4, 5, 6))).astype(np.float32))
    write_pack(Images(images), tmp_path / "pack")
    model = model_file(tmp_path, card_of())
    (unpacked,) = predict_folder(model, images, tmp_path / "out")
    (written,) = predict_folder(model, tmp_path / "pack", tmp_path / "packed")
    assert written.name == "a.nii.gz"
    one, other = nib.load(unpacked), nib.load(written)
    assert np.array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    assert np.allclose(one.affine, other.affine, atol=1e-5)


def test_masks_of_packed_pictures_are_pictures(tmp_path: Path) -> None:
    images = folder(tmp_path / "images")
    grey = np.random.default_rng(0).integers(0, 256, (6, 7), dtype=np.uint8)
    Image.fromarray(grey).save(images / "a.png")
    write_pack(Images(images), tmp_path / "pack")
    model = model_file(tmp_path, card_of(Preparation(normalise="min-max")))
    (unpacked,) = predict_folder(model, images, tmp_path / "out")
    (written,) = predict_folder(model, tmp_path / "pack", tmp_path / "packed")
    assert written.name == "a.png"
    assert written.read_bytes() == unpacked.read_bytes()
