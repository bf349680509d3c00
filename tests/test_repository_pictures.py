"""Every picture in the repository is listed with its source, and its licence allows it to be here."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PLACES = ("docs", "src", "tests", "benchmarks")
ALLOWED = {
    "scores": "Apache-2.0",
    "phantoms": "Apache-2.0",
    "LIDC-IDRI": "CC BY 3.0",
    "BUSI": "CC BY 4.0",
}
"""Sources of pictures and the licence of each; ACDC and the Decathlon's hippocampus are none."""

MARKS = (
    (0, b"\x89PNG"),
    (0, b"\xff\xd8\xff"),
    (0, b"GIF8"),
    (0, b"II*\x00"),
    (0, b"MM\x00*"),
    (0, b"BM"),
    (0, b"%PDF"),
    (0, b"\x1f\x8b"),  # gzip, such as NIfTI
    (0, b"\x93NUMPY"),
    (0, b"\x89HDF"),
    (8, b"WEBP"),
    (128, b"DICM"),
    (344, b"n+1\x00"),
)
EMBEDDED = re.compile(
    rb"data:(image|application)/[\w.+-]+;base64,[A-Za-z0-9+/]{64}"
    rb"|(iVBORw0KGgo|/9j/[24]|R0lGOD)[A-Za-z0-9+/]{64}|<svg[\s>]"
)


def pictures_in(data: bytes, name: str) -> Iterator[str]:
    """Names of what is a picture or holds one, down into archives."""
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield from pictures_in(archive.read(member), f"{name}/{member}")
    elif any(data[at : at + len(mark)] == mark for at, mark in MARKS):
        yield name
    elif EMBEDDED.search(data):
        yield f"{name} (embedded)"


def found() -> set[str]:
    files = [
        path
        for place in PLACES
        for path in (ROOT / place).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    names = ((path, path.relative_to(ROOT).as_posix()) for path in files)
    return {one for path, name in names for one in pictures_in(path.read_bytes(), name)}


def listed() -> list[dict[str, str]]:
    entries: list[dict[str, str]] = yaml.safe_load((ROOT / "docs" / "pictures.yaml").read_text())
    return entries


def test_the_list_names_every_picture_and_no_other() -> None:
    names = [entry["path"] for entry in listed()]
    assert len(names) == len(set(names))
    assert found() == set(names)


@pytest.mark.parametrize("entry", listed(), ids=lambda entry: entry["path"])
def test_a_picture_is_what_the_list_says_and_may_be_shown(entry: dict[str, str]) -> None:
    assert set(entry) == {"path", "shows", "source", "licence", "sha256"}
    assert entry["licence"] == ALLOWED[entry["source"]]
    content = (ROOT / entry["path"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]


@pytest.mark.parametrize(
    "entry", [one for one in listed() if one["source"] != "scores"], ids=lambda entry: entry["path"]
)
def test_where_an_image_is_shown_its_source_is_named(entry: dict[str, str]) -> None:
    name = "/".join(Path(entry["path"]).parts[-2:])
    shown = [
        text[place : place + 300]
        for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
        for text in [page.read_text()]
        for place in [text.find(f"{name})")]
        if place >= 0
    ]
    assert shown, "no page shows it"
    if entry["source"] != "phantoms":
        for text in shown:
            assert entry["source"] in text
            assert entry["licence"] in text


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n",
        b'<img src="data:image/png;base64,' + b"iVBORw0KGgo" * 10 + b'">',
        b'{"image/png": "' + b"iVBORw0KGgo" * 10 + b'"}',
        b"<p><" + b"svg width='3'>",
    ],
)
def test_pictures_are_found_in_pages_and_archives(data: bytes) -> None:
    inner, outer = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a/report.html", data)
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("runs.zip", inner.getvalue())
    for content in (data, inner.getvalue(), outer.getvalue()):
        assert len([*pictures_in(content, "x")]) == 1
