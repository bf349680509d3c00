"""The gallery shows a small picture of every page that the script takes one of."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tools import screenshots

SHOWN = re.findall(r"\]\(gallery/(\w+)\.webp\)", (screenshots.ROOT / "docs/gallery.md").read_text())
MOST = 1_500_000


def test_every_page_of_the_script_is_shown_once() -> None:
    files = [path.stem for path in screenshots.GALLERY.iterdir()]
    assert sorted(SHOWN) == sorted(screenshots.PAGES) == sorted(files)


def test_pictures_are_small() -> None:
    sizes = [path.stat().st_size for path in screenshots.GALLERY.iterdir()]
    assert max(sizes) < screenshots.LARGEST
    assert sum(sizes) < MOST


def test_a_new_picture_takes_the_place_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs" / "gallery").mkdir(parents=True)
    listed = tmp_path / "docs" / "pictures.yaml"
    listed.write_text("# Of all.\n- path: docs/other.png\n  shows: x\n  sha256: a\n")
    monkeypatch.setattr(screenshots, "ROOT", tmp_path)
    monkeypatch.setattr(screenshots, "GALLERY", tmp_path / "docs" / "gallery")
    for content in (b"first", b"second"):
        screenshots.note("run", "the report", content)
    entries = yaml.safe_load(listed.read_text())
    assert [one["path"] for one in entries] == ["docs/other.png", "docs/gallery/run.webp"]
    assert entries[1]["source"] == "phantoms"
    assert (tmp_path / "docs/gallery/run.webp").read_bytes() == b"second"
    assert listed.read_text().startswith("# Of all.")


def test_what_is_kept_is_the_first_screen_as_webp() -> None:
    for name in SHOWN:
        content = (screenshots.GALLERY / f"{name}.webp").read_bytes()
        picture = Image.open(io.BytesIO(content))
        assert (picture.format, picture.width) == ("WEBP", 1280)
