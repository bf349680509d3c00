"""Curves, masks and run folders to report, and the checks that hold for every page."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segpref.report import Overlay, SlatePicture, VolumeScore
from segpref.training import RunFolder, curve_summary
from segpref.types import Candidate, LabelSpace, Slate

CLASSES = LabelSpace("multi-class", ("background", "ring", "core"))
NASTY = "<script>alert('x')</script>&\"<img src=http://evil.example/x>"
VOID = {"meta", "link", "img", "br", "wbr", "input", "hr"}


class Checked(HTMLParser):
    """Collects what a page holds and fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def checked(path: Path) -> Checked:
    """The page, after the checks that hold for every page."""
    text = path.read_text()
    page = Checked(text)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            if name in attributes:
                value = str(attributes[name])
                # A link may lead to a file beside the page; nothing may be loaded from elsewhere.
                beside = tag == "a" and not re.match(r"[a-z]+:|/", value)
                assert beside or value.startswith("data:"), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not page.all("script")
    assert "@import" not in text
    assert "url(" not in text
    for picture in page.all("img"):
        assert len(str(picture["alt"])) > 10
        png = base64.b64decode(str(picture["src"]).removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(png)).format == "PNG"
    (policy,) = [one for one in page.all("meta") if one.get("http-equiv")]
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:")
    return page


def history(curve: Sequence[float], **columns: Sequence[float]) -> list[dict[str, float]]:
    """Row 0 is the base; columns have a value for every later epoch."""
    rows = [{"epoch": float(i), "val_iou": value} for i, value in enumerate(curve)]
    for name, values in columns.items():
        for row, value in zip(rows[1:], values, strict=True):
            row[name] = value
    return rows


BETTER = [0.5, 0.55, 0.6, 0.62, 0.61, 0.615]
FLAT = {
    "preference_accuracy": [0.6] * 5,
    "pairs_per_image": [0.9] * 5,
    "margin": [0.1, 0.2, 0.3, 0.4, 0.5],
    "pair_flip": [0.3] * 5,
    "volume_ratio_ring": [1.0, 1.05, 1.1, 0.95, 0.9],
}


def run_folder(
    place: Path, rows: list[dict[str, float]], finished: bool = True, **summary: Any
) -> RunFolder:
    folder = RunFolder(place)
    folder.open({"learning_rate": 0.0001, "data": NASTY}, resume=False)
    folder.write_metrics(rows)
    if finished:
        folder.write_summary(
            summary or {"kind": "align", "seed": 7, "pool_cases": 321, **curve_summary(rows)}
        )
    return folder


def volume_scores(folder: RunFolder, scores: Sequence[VolumeScore] = ()) -> None:
    """Keep scores of validation volumes in a run folder: of eight patients where none are given."""
    shown = scores or [
        VolumeScore(f"p{n}", f"p{n}", name, 0.5, 0.6, 0.66, 0.7 + n / 100, 8.0, 9.0, 8.5, "ml")
        for n in range(8)
        for name in CLASSES.structures
    ]
    rows = [asdict(one) for one in shown]
    with folder.validation.open("w", newline="") as file:
        table = csv.DictWriter(file, [*rows[0]])
        table.writeheader()
        table.writerows(rows)


def disc(centre: int, size: int = 24, radius: float = 5.0) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    far = np.hypot(rows - 12, columns - centre)
    return np.where(far < radius / 2, 2, np.where(far < radius, 1, 0)).astype(np.uint8)[None]


def grey(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=mask.shape)
    return (mask + 0.1 * noise).astype(np.float32)


def overlay(name: str = "patient 1") -> Overlay:
    truth = disc(12)
    masks = {"base": disc(14), "tuned": truth}
    return Overlay(name=name, image=grey(truth), masks=masks, label_space=CLASSES, truth=truth)


def slate_picture(pair: tuple[int, int] | None = (2, 0)) -> SlatePicture:
    masks = np.stack([disc(12), disc(13), disc(18), disc(14)])
    families = ("anchor", "boundary", "topology", "extent")
    return SlatePicture(
        name=NASTY,
        image=grey(disc(12)),
        slate=Slate(masks, tuple(Candidate(name, {"step": 1.5}) for name in families)),
        scores=np.array([0.25, math.nan, 0.875, 0.5]),
        label_space=CLASSES,
        pair=pair,
    )
