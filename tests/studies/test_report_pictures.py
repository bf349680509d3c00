"""Masks on images: overlays, ranked slates, and where candidates differ."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_reports import CLASSES, grey, overlay, slate_picture
from PIL import Image

from segpref.report import (
    Overlay,
    SlatePicture,
    lines_chart,
    overlay_pictures,
    slate_tiles,
    variance_pictures,
)
from segpref.types import Candidate, LabelSpace, Slate

STRUCTURES = LabelSpace("multi-label", ("lung", "heart"))


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_a_volume_is_shown_by_its_slice_with_most_foreground() -> None:
    image = np.random.default_rng(0).random((1, 20, 16, 5)).astype(np.float32)
    mask = np.zeros((1, 20, 16, 5), np.uint8)
    mask[0, 5:9, 4:8, 1] = 1
    mask[0, 4:12, 4:12, 3] = 1
    whole = Overlay(name="a", image=image, masks={"m": mask}, label_space=CLASSES)
    (shown,) = overlay_pictures([whole])
    changed = image.copy()
    changed[..., [0, 1, 2, 4]] = changed[..., [4, 0, 1, 2]]  # the same grey levels, other slices
    again = Overlay(name="a", image=changed, masks={"m": mask}, label_space=CLASSES)
    assert overlay_pictures([again])[0].png == shown.png
    changed[..., 3] = changed[..., 3][:, ::-1]
    assert overlay_pictures([again])[0].png != shown.png


def test_proportions_follow_the_voxel_size() -> None:
    mask = np.zeros((1, 20, 20), np.uint8)
    one = {"name": "a", "image": grey(mask), "masks": {"m": mask}, "label_space": CLASSES}
    (square,) = overlay_pictures([Overlay(**one)])
    (tall,) = overlay_pictures([Overlay(**one, spacing_mm=(1.5, 1.0))])
    assert pixels(square.png).shape[:2] == (390, 390)
    assert pixels(tall.png).shape[:2] == (585, 390)


def test_overlays_tell_the_mean_iou_over_structures() -> None:
    one = overlay()
    base, tuned = overlay_pictures([one])
    scores = []
    for value in (1, 2):
        a, b = one.masks["base"] == value, one.truth == value
        scores.append((a & b).sum() / (a | b).sum())
    assert base.caption == f"IoU {np.mean(scores):.3f}"
    assert tuned.caption == "IoU 1.000"
    assert (base.title, tuned.title) == ("patient 1: base", "patient 1: tuned")
    assert base.png != tuned.png


def test_overlays_leave_out_structures_without_labels() -> None:
    space = LabelSpace("multi-class", ("background", "a", "b"), unlabelled=("b",))
    truth = np.zeros((1, 20, 20), np.uint8)
    truth[0, 4:8, 4:8] = 1
    mask = truth.copy()
    mask[0, 10:14, 10:14] = 2
    one = Overlay(name="a", image=grey(mask), masks={"m": mask}, label_space=space, truth=truth)
    assert overlay_pictures([one])[0].caption == "IoU 1.000"


@pytest.mark.parametrize("fill", [0, 1])
def test_empty_and_full_masks_can_be_drawn(fill: int) -> None:
    mask = np.full((2, 12, 12), fill, np.uint8)
    one = Overlay(
        name="a", image=np.zeros((1, 12, 12)), masks={"m": mask}, label_space=STRUCTURES, truth=mask
    )
    (picture,) = overlay_pictures([one])
    assert picture.caption == ("IoU 1.000" if fill else "")


def test_a_slate_is_ranked_and_its_pair_marked() -> None:
    tiles = slate_tiles(slate_picture())
    assert [tile.title for tile in tiles] == ["0.875", "0.500", "0.250", "abstains"]
    assert [tile.badge for tile in tiles] == ["winner", "", "loser = anchor", ""]
    assert [tile.kind for tile in tiles] == ["winner", "", "loser", ""]
    assert tiles[0].caption == "topology (step 1.5)"
    plain = slate_tiles(slate_picture(pair=None))
    tinted = [a.png != b.png for a, b in zip(tiles, plain, strict=True)]
    assert tinted == [True, False, True, False]
    assert "score 0.875, winner" in tiles[0].alt


def test_the_tint_lies_where_winner_and_loser_differ() -> None:
    """Black image, no structure drawn but the tint: its box is that of the differing pixels."""
    masks = np.zeros((2, 1, 20, 20), np.uint8)
    masks[1, 0, 8:12, 4:16] = 1
    shown = SlatePicture(
        name="a",
        image=np.zeros((1, 20, 20), np.float32),
        slate=Slate(masks, (Candidate("anchor"), Candidate("other"))),
        scores=np.array([1.0, 0.5]),
        label_space=CLASSES,
        pair=(0, 1),
    )
    winner = pixels(slate_tiles(shown)[0].png)
    # The anchor is empty, so all colour in its picture is tint. Shown are 4 voxels of room around.
    rows, columns = np.nonzero(winner.sum(axis=-1) > 100)
    height, width = winner.shape[:2]
    scale = width / 20
    assert (columns.min() / scale, (columns.max() + 1) / scale) == pytest.approx((4, 16), abs=0.2)
    assert (rows.min() + height - rows.max() - 1) == pytest.approx(height - 4 * scale, abs=3)


def test_without_a_pair_only_the_anchor_is_marked() -> None:
    tiles = slate_tiles(slate_picture(pair=None))
    assert [tile.badge for tile in tiles] == ["", "", "anchor", ""]


def test_the_picture_of_variance_is_bright_where_candidates_differ() -> None:
    masks = np.zeros((4, 1, 20, 20), np.uint8)
    masks[2:, 0, 8:12, 4:16] = 1
    shown = SlatePicture(
        name="a",
        image=np.zeros((1, 20, 20), np.float32),
        slate=Slate(masks, tuple(Candidate(str(k)) for k in range(4))),
        scores=np.zeros(4),
        label_space=CLASSES,
    )
    (picture,) = variance_pictures([shown])
    # Of the six pairs two are equal and full, the four others share nothing; empty pairs count 1.
    assert picture.caption == "pairwise Dice 0.333"
    bright = pixels(picture.png).sum(axis=-1) > 300
    rows, columns = np.nonzero(bright)
    scale = bright.shape[1] / 20
    assert (columns.min() / scale, (columns.max() + 1) / scale) == pytest.approx((4, 16), abs=0.3)
    assert bright[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].mean() > 0.95
    alike = replace(shown, slate=Slate(masks[:2], shown.slate.candidates[:2]), scores=np.zeros(2))
    (dark,) = variance_pictures([alike])
    assert dark.caption == "all empty"
    assert pixels(dark.png).sum() == 0
    # Side by side they show the same part of the image.
    both = variance_pictures([alike, shown])
    assert {pixels(one.png).shape for one in both} == {pixels(picture.png).shape}
    np.testing.assert_array_equal(pixels(both[1].png), pixels(picture.png))


NAMES = {
    "short": ["a", "b", "c", "d"],
    "long": [f"RN-DPO, candidates of the paper, random preferences {n}" for n in range(8)],
    "longest": ["A method whose name tells all of its settings, " * 4, "b"],
    "one word": ["W" * 70, "b"],
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_legend_stays_within_its_chart_and_leaves_room_for_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def kept(figure: Any, transparent: bool) -> bytes:
        figure.savefig(io.BytesIO())  # places everything
        seen.append(figure)
        return b""

    monkeypatch.setattr("segpref.report.charts.png_of", kept)
    lines_chart("Margin", "mean margin", {name: np.arange(5) / 10 for name in NAMES[kind]})
    (figure,) = seen
    (legend,) = figure.legends
    told = ["".join(text.get_text().split()) for text in legend.get_texts()]
    assert told == ["".join(name.split()) for name in NAMES[kind]]
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height
    axes = figure.axes[0].get_window_extent()
    assert axes.y1 < box.y0
    assert axes.height > 0.55 * 3.4 * figure.dpi


def test_the_chart_of_the_knob_shows_every_method(monkeypatch: pytest.MonkeyPatch) -> None:
    import segpref.studies.ambiguity.figures as figures

    seen: list[Any] = []
    monkeypatch.setattr(figures, "png_of", lambda figure: seen.append(figure) or b"")
    points = (0.0, 1.0), np.array([0.4, 0.5]), np.array([0.3, 0.2])
    figures.interpolation_chart({f"method {number}": points for number in range(9)})
    lines = seen[0].axes[0].get_lines()
    assert [line.get_label() for line in lines] == [f"method {number}" for number in range(9)]
    assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines}) == 9
