from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written import picture

from segpref.data import (
    CHARACTERISTICS,
    LIDC,
    Cache,
    Preparation,
    Reader,
    consensus_label,
    draw_prompt,
    middle_slices,
    nodule_prompt,
    prepare,
    prompts_of,
)
from segpref.types import Case, SegprefError

SHAPE = (12, 16)
RATINGS = {
    "subtlety": 5, "internalStructure": 1, "calcification": 6, "sphericity": 5, "margin": 4,
    "lobulation": 1, "spiculation": 5, "texture": 4, "malignancy": 4,
}  # fmt: skip


def square(side: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2 : 2 + side, 3 : 3 + side] = 255
    return mask


def nodule(folder: Path, sides: Sequence[Sequence[int]]) -> None:
    """``sides[rater][slice]``: a square per slice; 0 is an empty mask."""
    for number in range(len(sides[0])):
        image = np.full(SHAPE, 10 * number, np.uint8)
        picture(folder / "images" / f"slice-{number}.png", image)
        for rater, of_rater in enumerate(sides):
            picture(folder / f"mask-{rater}" / f"slice-{number}.png", square(of_rater[number]))


def attributes(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    standard = {
        **RATINGS, "pixel_spacing_mm": 0.7, "slice_thickness_mm": 2.5, "n_inexact_slices": 0,
        "mixed_scans": 0,
    }  # fmt: skip
    with (folder / "attributes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["patient", "nodule", "mask_index", *standard])
        writer.writeheader()
        writer.writerows({**standard, **row} for row in rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # Eleven slices, so that slice-10 must not come between slice-1 and slice-2.
    nodule(tmp_path / "LIDC-IDRI-0001" / "nodule-0", [[4] * 11, [2] * 10 + [0], [0] * 11, [0] * 11])
    nodule(tmp_path / "LIDC-IDRI-0001" / "nodule-1", [[3], [3], [3], [3]])
    nodule(tmp_path / "LIDC-IDRI-0002" / "nodule-0", [[0, 5], [5, 0], [5, 5], [0, 0]])
    one, two = {"patient": "LIDC-IDRI-0001"}, {"patient": "LIDC-IDRI-0002"}
    attributes(
        tmp_path,
        [
            {**one, "nodule": 0, "mask_index": 0},
            {**one, "nodule": 0, "mask_index": 1, "spiculation": 1},
            *({**one, "nodule": 1, "mask_index": k} for k in range(3)),
            {**one, "nodule": 1, "mask_index": 3, "n_inexact_slices": 1},
            *({**two, "nodule": 0, "mask_index": k, "mixed_scans": int(k == 1)} for k in range(3)),
        ],
    )
    return tmp_path


def test_a_nodule_with_its_raters(folder: Path) -> None:
    reader: Reader = LIDC(folder)
    names = ["LIDC-IDRI-0001_nodule-0", "LIDC-IDRI-0001_nodule-1", "LIDC-IDRI-0002_nodule-0"]
    assert [source.id for source in reader.sources()] == names
    assert reader.patients_known
    case = reader.read(reader.sources()[0])
    assert (case.id, case.volume, case.patient) == (names[0], names[0], "LIDC-IDRI-0001")
    assert case.image.shape == (1, *SHAPE, 11)
    assert case.image.dtype == np.float32
    assert case.image[0, 0, 0].tolist() == [10.0 * number for number in range(11)]
    assert case.raters is not None
    assert case.raters.shape == (4, 1, *SHAPE, 11)
    assert case.raters[..., 0].sum(axis=(1, 2, 3)).tolist() == [16, 4, 0, 0]
    assert case.raters[1, 0, ..., 10].sum() == 0
    assert case.raters.max() == 1
    # At least half of four: two of them mark the small square, one the rest.
    assert case.label is not None
    assert case.label[0].sum(axis=(0, 1)).tolist() == [4] * 10 + [0]
    assert case.spacing_mm is not None
    assert case.spacing_mm[:2] == (0.7, 0.7)
    assert np.isnan(case.spacing_mm[2])
    assert prompts_of(case) == (
        nodule_prompt(RATINGS),
        nodule_prompt({**RATINGS, "spiculation": 1}),
    )


def test_padding_is_an_opinion_unless_told_otherwise(folder: Path) -> None:
    reader = LIDC(folder, padded=False)
    case = reader.read(reader.sources()[0])
    assert case.raters is not None
    assert len(case.raters) == 2
    # Both remaining raters have half of the say.
    assert case.label is not None
    assert case.label[0, ..., 0].sum() == 16
    # A rater who described the nodule stays where he ends it.
    other = reader.read(reader.sources()[2])
    assert other.raters is not None
    assert other.raters.sum(axis=(1, 2, 3)).tolist() == [[0, 25], [25, 0], [25, 25]]


def test_imperfect_copies_are_marked(folder: Path) -> None:
    reader = LIDC(folder)
    assert reader.imperfect == {"LIDC-IDRI-0001_nodule-1", "LIDC-IDRI-0002_nodule-0"}
    assert [s.id for s in LIDC(folder, exact=True).sources()] == ["LIDC-IDRI-0001_nodule-0"]
    nodule(folder / "LIDC-IDRI-0003" / "nodule-0", [[3], [3], [3], [3]])
    assert "LIDC-IDRI-0003_nodule-0" in LIDC(folder).imperfect


def test_without_a_table(folder: Path) -> None:
    (folder / "attributes.csv").unlink()
    reader = LIDC(folder)
    case = reader.read(reader.sources()[0])
    assert case.text is None
    assert case.spacing_mm is None
    assert reader.imperfect == frozenset()
    with pytest.raises(SegprefError, match=r"attributes\.csv is needed"):
        LIDC(folder, exact=True)


def test_prepared_slices_and_the_middle_ones(folder: Path, tmp_path: Path) -> None:
    dataset = prepare(LIDC(folder), Preparation(dims=2, crop=(8, 8)), Cache(tmp_path / "store"))
    assert len(dataset) == 11 + 1 + 2
    assert dataset[0].image.shape == (1, 8, 8)
    assert [case.id for case in middle_slices(dataset)] == [
        "LIDC-IDRI-0001_nodule-0/s005", "LIDC-IDRI-0001_nodule-1", "LIDC-IDRI-0002_nodule-0/s001",
    ]  # fmt: skip


@pytest.mark.parametrize("order", [(None, 0.7, 0.8), (0.8, 0.7, None)])
def test_what_is_prepared_follows_the_table(
    folder: Path, tmp_path: Path, order: Sequence[float | None]
) -> None:
    store = Cache(tmp_path / "store")
    for pixel_mm in order:
        (folder / "attributes.csv").unlink(missing_ok=True)
        if pixel_mm is not None:
            # Mask 2 is empty, but described.
            row = {"patient": "LIDC-IDRI-0001", "nodule": 0, "pixel_spacing_mm": pixel_mm}
            attributes(folder, [{**row, "mask_index": number} for number in range(3)])
        dataset = prepare(LIDC(folder, padded=False), Preparation(dims=2, crop=(8, 8)), store)
        spacing = dataset[0].spacing_mm
        assert spacing == (None if pixel_mm is None else pytest.approx((pixel_mm, pixel_mm)))
        assert dataset[0].raters is not None
        assert len(dataset[0].raters) == (2 if pixel_mm is None else 3)
        assert len(prompts_of(dataset[0])) == (0 if pixel_mm is None else 3)


def test_consensus_by_hand() -> None:
    raters = np.array([[[1, 1, 0]], [[1, 0, 0]], [[1, 0, 1]]], np.uint8)
    for share, expected in [(0.3, [1, 1, 1]), (1 / 3, [1, 1, 1]), (0.5, [1, 0, 0]), (1, [1, 0, 0])]:
        label = consensus_label(raters, share)
        assert label is not None
        assert label.tolist() == [expected]
    assert consensus_label(raters, 0) is None


def break_mask(folder: Path) -> None:
    (folder / "LIDC-IDRI-0001" / "nodule-0" / "mask-2" / "slice-3.png").unlink()


def break_name(folder: Path) -> None:
    picture(folder / "LIDC-IDRI-0001" / "nodule-1" / "images" / "scan.png", square(1))


def break_table(folder: Path) -> None:
    (folder / "attributes.csv").write_text("patient,nodule\nLIDC-IDRI-0001,0\n")


def break_rating(folder: Path) -> None:
    attributes(
        folder, [{"patient": "LIDC-IDRI-0001", "nodule": 0, "mask_index": 0, "spiculation": 9}]
    )


def break_images(folder: Path) -> None:
    for path in (folder / "LIDC-IDRI-0001" / "nodule-1" / "images").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_mask, "mask-2 does not hold one mask per slice"),
        (break_name, "not named slice-0.png"),
        (break_table, "attributes.csv can't be read"),
        (break_rating, "spiculation is rated 9"),
        (break_images, "holds no picture"),
    ],
)
def test_damage_is_named(folder: Path, damage: Any, said: str) -> None:
    damage(folder)
    with pytest.raises(SegprefError, match=said):
        LIDC(folder)


def test_slices_of_different_sizes(folder: Path) -> None:
    place = folder / "LIDC-IDRI-0002" / "nodule-0"
    for name in ("images", "mask-0", "mask-1", "mask-2", "mask-3"):
        picture(place / name / "slice-1.png", np.zeros((5, 5), np.uint8))
    reader = LIDC(folder)
    with pytest.raises(SegprefError, match="different sizes"):
        reader.read(reader.sources()[2])


def test_the_prompt_is_that_of_the_paper() -> None:
    """The sentences of Figure 5 that describe characteristics."""
    assert nodule_prompt(RATINGS) == (
        "The Subtlety is Obvious. The InternalStructure is Soft Tissue. The Calcification is Absent. "
        "The Sphericity is Round. The Margin is Near Sharp. The Lobulation is No Lobulation. "
        "The Spiculation is Marked Spiculation. The Texture is Solid/Mixed. "
        "The Malignancy is Moderately Suspicious."
    )
    shuffled = dict(sorted(RATINGS.items()))
    assert nodule_prompt(shuffled) == nodule_prompt(RATINGS)
    assert nodule_prompt({"margin": 1}) == "The Margin is Poorly Defined."
    assert [len(wording) for wording in CHARACTERISTICS.values()] == [5, 4, 6, 5, 5, 5, 5, 5, 5]
    for wrong in ({"margin": 0}, {"internalStructure": 5}, {}):
        with pytest.raises(SegprefError):
            nodule_prompt(wrong)


def test_prompts_are_drawn_by_rater() -> None:
    case = Case(id="a", patient="a", volume="a", image=np.zeros((1, 2, 2)), text="x\n\n y \nx")
    assert prompts_of(case) == ("x", "y", "x")
    rng = np.random.default_rng(0)
    drawn = [draw_prompt(case, rng) for _ in range(3000)]
    assert drawn.count("x") / 3000 == pytest.approx(2 / 3, abs=0.03)
    bare = Case(id="a", patient="a", volume="a", image=np.zeros((1, 2, 2)))
    assert draw_prompt(bare, rng) is None


@pytest.fixture
def real() -> Path:
    root = Path(os.environ.get("SEGPREF_DATA", "")) / "lidc"
    if not (root / "attributes.csv").is_file():
        pytest.skip("SEGPREF_DATA names no folder with LIDC crops")
    return root


@pytest.mark.slow
@pytest.mark.data
def test_real_crops(real: Path) -> None:
    reader = LIDC(real)
    assert len(reader.sources()) == 915
    assert len(reader.imperfect) == 24
    for source in reader.sources()[::150]:
        case = reader.read(source)
        assert case.raters is not None
        assert case.raters.shape == (4, 1, *case.image.shape[1:])
        described = len(prompts_of(case))
        drawn = (case.raters.reshape(4, -1).sum(axis=1) > 0).sum()
        assert described == drawn or source.id in reader.imperfect
        assert case.spacing_mm is None or 0.4 < case.spacing_mm[0] < 1
