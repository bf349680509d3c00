"""Reports: one file, no network, the right numbers, nothing that a name could break."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segpref.studies.charts import column, relative_to_start, validation_chart, volume_ratios
from segpref.studies.page import Section, Table, write_page, write_pictures
from segpref.studies.pictures import (
    Overlay,
    SlatePicture,
    overlay_pictures,
    slate_tiles,
    variance_pictures,
)
from segpref.studies.report import write_report
from segpref.studies.study_report import Part, study_report
from segpref.studies.tables import Difference, TableRow
from segpref.studies.verdict import alignment_warnings, verdict
from segpref.training.curves import curve_summary
from segpref.training.folder import RunFolder
from segpref.types import Candidate, LabelSpace, SegprefError, Slate

CLASSES = LabelSpace("multi-class", ("background", "ring", "core"))
STRUCTURES = LabelSpace("multi-label", ("lung", "heart"))
NASTY = "<script>alert('x')</script>&\"<img src=http://evil.example/x>"
VOID = {"meta", "link", "img", "br", "input", "hr"}


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


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


# Figures and sentences


def test_verdict_gives_the_numbers() -> None:
    good, sentence = verdict(curve_summary(history(BETTER)))
    assert good
    assert sentence == (
        "Better than the base on validation: IoU 0.620 after epoch 3 of 5, the base has 0.500 (+0.120)."
    )


@pytest.mark.parametrize(("peak", "good"), [(0.501, True), (0.5004, False), (0.49, False)])
def test_a_gain_that_does_not_show_is_none(peak: float, good: bool) -> None:
    assert verdict(curve_summary(history([0.5, peak, 0.4])))[0] is good


def warned(curve: Sequence[float] = BETTER, **columns: Sequence[float]) -> str:
    rows = history(curve, **{**FLAT, **columns})
    return " ".join(alignment_warnings(curve_summary(rows), rows))


def test_a_good_run_has_no_warning() -> None:
    assert warned() == ""


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"curve": [0.5, 0.49, 0.49, 0.49, 0.49, 0.49]}, "keep using the base"),
        ({"curve": [0.5, 0.6, 0.4, 0.4, 0.4, 0.4]}, r"TailAvg 0.422, base 0.500.*never last"),
        ({"curve": [0.5, 0.7, 0.7, 0.7, 0.55, 0.55]}, "Validation fell by 0.050"),
        (
            {"volume_ratio_ring": [1, 1, 1.3, 1, 1]},
            r"ring is predicted 30% larger at epoch 3 \(best",
        ),
        ({"volume_ratio_ring": [1, 1, 1, 1, 0.7]}, r"30% smaller at epoch 5 \(last"),
        ({"preference_accuracy": [0.9, 0.9, 0.4, 0.4, 0.4]}, "only 40% of the pairs"),
        ({"pair_flip": [0.0, 0.0, 0.6, 0.6, 0.6]}, "wrong in 60% of the pairs"),
        ({"pairs_per_image": [0.05] * 5}, "Only 0.05 pairs per image"),
    ],
)
def test_what_went_wrong_is_said(changed: dict[str, Any], message: str) -> None:
    assert re.search(message, warned(**changed))


def test_a_volume_ratio_within_a_fifth_or_not_known_is_no_warning() -> None:
    assert warned(volume_ratio_ring=[1, 1, 1.19, 1, 0.81]) == ""
    assert warned(volume_ratio_ring=[math.nan] * 5) == ""


def test_harm_is_relative_to_its_first_three_epochs() -> None:
    assert relative_to_start(np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [0.5, 1.0, 1.5, 2.0]
    found = relative_to_start(np.array([math.nan, 2.0, 4.0, 6.0]))
    assert found[1:] == pytest.approx([2 / 3, 4 / 3, 2])
    assert np.isnan(relative_to_start(np.zeros(4))).all()
    assert np.isnan(relative_to_start(np.full(2, math.nan))).all()


def test_columns_leave_out_the_start_and_keep_gaps() -> None:
    rows = history([0.1, 0.2, 0.3])
    rows[2]["volume_ratio_left lung"] = 1.5
    assert column(rows, "val_iou").tolist() == [0.2, 0.3]
    ratios = volume_ratios(rows)["left lung"]
    assert math.isnan(ratios[0])
    assert ratios[1] == 1.5


def test_the_validation_chart_says_what_it_shows() -> None:
    picture = validation_chart(np.array([0.6, 0.7, 0.65]), 0.5, 2, 0.65)
    assert picture.alt == (
        "Validation IoU over 3 epochs; the base has 0.500; the highest value is 0.700 after epoch 2; "
        "the average of the last epochs is 0.650."
    )


# Masks on images


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


@pytest.mark.parametrize("fill", [0, 1])
def test_empty_and_full_masks_can_be_drawn(fill: int) -> None:
    mask = np.full((2, 12, 12), fill, np.uint8)
    one = Overlay(
        name="a", image=np.zeros((1, 12, 12)), masks={"m": mask}, label_space=STRUCTURES, truth=mask
    )
    (picture,) = overlay_pictures([one])
    assert picture.caption == ("IoU 1.000" if fill else "")


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


def test_a_slate_is_ranked_and_its_pair_marked() -> None:
    tiles = slate_tiles(slate_picture())
    assert [tile.title for tile in tiles] == ["0.875", "0.500", "0.250", "no opinion"]
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


# Whole pages


def test_the_report_of_an_alignment_holds_everything(tmp_path: Path) -> None:
    rows = history(
        BETTER,
        **FLAT,
        harmful_mass=[0.2, 0.4, 0.6, 0.4, 0.2],
        skipped_zero=[1.0, 2.0, 3.0, 4.0, 5.0],
    )
    folder = run_folder(tmp_path / "run", rows)
    path = write_report(folder, overlays=[overlay()], slate=slate_picture())
    assert path == tmp_path / "run" / "report.html"
    page = checked(path)
    for words in (
        "Better than the base on validation: IoU 0.620 after epoch 3 of 5",
        "What the judge sees",
        "Before and after",
        "Harmful mass",
        "all scores were 0",
        "learning_rate",
        "segpref 0.1.0",
        "IoU 1.000",
    ):
        assert words in page.text, words
    cells = page.cells
    figures = {"Base": "0.500", "Peak": "0.620", "Unlabelled images": "321", "Seed": "7"}
    for name, value in figures.items():
        assert cells[cells.index(name) + 1] == value
    row = cells.index("all scores were 0")
    assert cells[row + 1 : row + 4] == ["1.00", "3.00", "5.00"]
    assert "Look at this" not in page.text
    assert {one["title"] for one in page.all("abbr")} >= {
        text for name, text in _glossary().items() if name in ("Peak", "TailAvg", "Drift")
    }


def _glossary() -> dict[str, str]:
    from segpref.studies.page import GLOSSARY

    return dict(GLOSSARY)


def test_names_can_not_break_the_page(tmp_path: Path) -> None:
    rows = history(BETTER, **{f"volume_ratio_{NASTY}": [1.5] * 5})
    folder = run_folder(tmp_path / "a <b> run", rows)
    folder.config.write_text(f"data: {NASTY}\n")
    extra = Section(NASTY, NASTY, table=Table((NASTY, NASTY), ((NASTY, NASTY),), NASTY))
    path = write_report(folder, overlays=[overlay(NASTY)], slate=slate_picture(), sections=[extra])
    page = checked(path)
    assert not page.all("b")
    assert NASTY in page.text
    assert "http" not in re.sub(re.escape("http://evil.example"), "", page.text)


def test_the_same_run_gives_the_same_report(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", history(BETTER, **FLAT))
    first = write_report(folder, overlays=[overlay()]).read_bytes()
    assert write_report(folder, overlays=[overlay()]).read_bytes() == first


def test_a_failed_run_says_so(tmp_path: Path) -> None:
    rows = history([0.5, 0.48, 0.45, 0.4, 0.4, 0.4], **FLAT)
    page = checked(write_report(run_folder(tmp_path / "run", rows)))
    assert "Not better than the base on validation: IoU 0.480" in page.text
    assert "Look at this before you use the model" in page.text
    assert [one for one in page.all("p") if one.get("class") == "verdict bad"]


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", history(BETTER, **FLAT), finished=False)
    page = checked(write_report(folder))
    assert "has not come to its end: this is what its first 5 epochs show" in page.text


def test_pseudo_labelling_has_no_pairs_to_report(tmp_path: Path) -> None:
    rows = history(BETTER, loss=[1.0, 0.9, 0.8, 0.7, 0.6])
    page = checked(write_report(run_folder(tmp_path / "run", rows)))
    assert "Training loss" in page.text
    assert "Pairs per image" not in page.text


def test_stage_1_is_reported(tmp_path: Path) -> None:
    rows = history([0.01, 0.3, 0.5, 0.4], train_loss=[1.0, 0.5, 0.4])
    summary = {"kind": "fit", "seed": 1, "labelled_patients": ["p1", "p2"], "labelled_cases": 20}
    folder = run_folder(tmp_path / "run", rows, **summary, best_epoch=2, val_iou=0.5)
    page = checked(write_report(folder))
    assert "validation IoU of 0.500 after epoch 2 of 3" in page.text
    assert page.cells[page.cells.index("Labelled patients") + 1] == "p1, p2"


def test_a_run_without_an_epoch_is_an_error(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(SegprefError, match="has no finished epoch"):
        write_report(folder)
    folder.write_metrics([{"epoch": 0.0, "val_iou": 0.5}])
    with pytest.raises(SegprefError, match="has no finished epoch"):
        write_report(folder)


def table_rows() -> list[TableRow]:
    missing = (math.nan, math.nan)
    return [
        TableRow("Base", 2, {"IoU": (0.457, 0.01), "TailAvg": missing, "Drift": missing}),
        TableRow("DPO", 2, {"IoU": (0.512, 0.02), "TailAvg": (0.39, 0.01), "Drift": (0.06, 0.0)}),
        TableRow(NASTY, 2, {"IoU": (0.539, 0.03), "TailAvg": (0.43, 0.01), "Drift": (0.02, 0.0)}),
    ]


def histories() -> dict[str, list[list[dict[str, float]]]]:
    harm = [0.1, 0.2, 0.3, 0.4, 0.5]
    runs = [history(BETTER, harmful_mass=harm, **FLAT), history(BETTER, harmful_mass=harm, **FLAT)]
    return {"DPO": runs, NASTY: runs}


def test_the_comparison_marks_the_best_of_every_column(tmp_path: Path) -> None:
    claims = [
        Difference(NASTY, "Base", "iou", 0.082, 0.05, 0.11, 2, 2),
        Difference(NASTY, "DPO", "iou", 0.027, -0.004, 0.05, 1, 2),
    ]
    made = study_report(
        [Part("", table_rows(), histories(), claims, reports={"RN-DPO, seed 0": "a/report.html"})],
        overlays=[overlay()],
        details={"Recipe": "name: <x>"},
    )
    path = write_page(tmp_path / "report.html", made)
    text, page = path.read_text(), checked(path)
    bold = re.findall(r"<strong>(.*?)</strong>", text)
    assert bold == ["0.539 ± 0.030", "0.430 ± 0.010", "0.020 ± 0.000"]
    assert "IoU +0.082 (95 % interval +0.050 to +0.110), better in 2 of 2 seeds" in page.text
    assert page.cells[page.cells.index(f"{NASTY} minus DPO") + 5] == "not shown"
    assert "name: <x>" in page.text
    assert '<a href="a/report.html">RN-DPO, seed 0</a>' in text
    titles = [one["alt"] for one in page.all("img")]
    assert sum(str(alt).startswith("Harmful mass") for alt in titles) == 1
    assert "from 0.5 to 2.5" in next(str(alt) for alt in titles if str(alt).startswith("Harm"))


def test_pictures_of_a_page_are_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(b"")
    parts = [Part(title, table_rows(), histories()) for title in ("a/b", "a b")]
    written = write_pictures(tmp_path, study_report(parts))
    names = [path.name for path in written]
    assert "a-b-training-validation.png" in names
    assert len(names) == len(set(names)) == len(list(tmp_path.glob("*.png")))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_the_comparison_does_not_praise_the_base(tmp_path: Path) -> None:
    rows = table_rows()
    lost = [rows[0], TableRow("DPO", 2, {**rows[1].figures, "IoU": (0.4, 0.02)})]
    page = checked(write_page(tmp_path / "r.html", study_report([Part("", lost)])))
    assert "No method is better than Base on test (IoU 0.457)." in page.text
    won = checked(write_page(tmp_path / "w.html", study_report([Part("", rows[:2])])))
    assert "DPO is highest on test: IoU 0.512, Base has 0.457 (+0.055; mean of 2 seeds)" in won.text


def test_metrics_survive_their_file(tmp_path: Path) -> None:
    """The report reads what the run folder wrote, gaps and missing numbers included."""
    rows = history(BETTER, **FLAT)
    rows[2]["margin"] = math.nan
    folder = run_folder(tmp_path / "run", rows)
    assert "nan" in next(csv.reader([folder.metrics.read_text().splitlines()[3]]))
    checked(write_report(folder))


def test_a_study_of_several_parts_has_a_heading_for_each(tmp_path: Path) -> None:
    parts = [Part("weak base, weak judge", table_rows()), Part("oracle", table_rows()[:2])]
    page = checked(
        write_page(tmp_path / "r.html", study_report(parts, warnings=["one run failed"]))
    )
    assert "weak base, weak judge: methods" in page.text
    assert "oracle: methods" in page.text
    assert "one run failed" in page.text
