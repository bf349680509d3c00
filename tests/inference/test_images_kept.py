"""Masks never take the place of an image, wherever links lead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from test_predict import card_of, folder, model_file, noise, save_nifti

from segpref.inference import predict_folder
from segpref.types import SegprefError


def links_to_a_store(place: Path) -> tuple[Path, Path]:
    """Images that are links, and masks that go to where these lead."""
    store, images = folder(place / "store"), folder(place / "images")
    (images / "a.nii").symlink_to(save_nifti(store / "a.nii", noise((4, 4, 4))))
    return images, store


def links_into_several_stores(place: Path) -> tuple[Path, Path]:
    images, _ = links_to_a_store(place)
    other = folder(place / "other")
    (images / "b.nii").symlink_to(save_nifti(other / "c.nii", noise((4, 4, 4))))
    return images, other


def linked_store(place: Path) -> tuple[Path, Path]:
    images, store = links_to_a_store(place)
    (place / "again").symlink_to(store)
    return images, place / "again"


def hard_links(place: Path) -> tuple[Path, Path]:
    """An output folder in which an image has a second name."""
    images, out = folder(place / "images"), folder(place / "out")
    save_nifti(images / "a.nii", noise((4, 4, 4)))
    os.link(images / "a.nii", out / "a.nii")
    return images, out


def bound_by_a_link_above(place: Path) -> tuple[Path, Path]:
    images = folder(place / "deep" / "images")
    save_nifti(images / "a.nii", noise((4, 4, 4)))
    (place / "short").symlink_to(place / "deep")
    return images, place / "short" / "images"


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize(
    "layout",
    [links_to_a_store, links_into_several_stores, linked_store, hard_links, bound_by_a_link_above],
)
def test_no_image_is_overwritten(
    tmp_path: Path, layout: Callable[[Path], tuple[Path, Path]], overwrite: bool
) -> None:
    images, out = layout(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.nii")}
    with pytest.raises(SegprefError, match="choose another output folder"):
        predict_folder(model_file(tmp_path, card_of()), images, out, overwrite=overwrite)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.nii")} == before


def test_masks_may_lie_below_the_images(tmp_path: Path) -> None:
    images = folder(tmp_path / "images")
    save_nifti(images / "a.nii", noise((4, 4, 4)))
    model = model_file(tmp_path, card_of())
    for _ in range(2):
        predict_folder(model, images, images / "masks", overwrite=True)
    assert [path.name for path in (images / "masks").iterdir()] == ["a.nii"]
