"""Codes of structures: the table that comes with segpref, a user's own, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpref.data import read_csv
from segpref.inference import segments_of
from segpref.types import SegprefError

HEAD = (
    "structure,category_code,category_scheme,category_meaning,type_code,type_scheme,type_meaning,"
    "laterality,colour"
)
ROW = "lesion,49755003,SCT,Morphologically Abnormal Structure,52988006,SCT,Lesion,left,#ff0000"


def table(folder: Path, *rows: str, head: str = HEAD) -> Path:
    path = folder / "own.csv"
    path.write_text("\n".join([head, *rows, ""]), encoding="utf-8")
    return path


def test_structures_of_the_demos_are_known(tmp_path: Path) -> None:
    names = ("RV", "MYO", "LV", "Left_Lung", "right clavicle", "heart", "nodule", "liver", "kidney")
    found = segments_of(names, None, tmp_path / "t.csv")
    assert [one.structure for one in found] == list(names)
    assert {one.source for one in found} == {"built in"}
    assert (found[3].type.meaning, found[3].side) == ("Lung", "left")
    assert not (tmp_path / "t.csv").exists()


def test_a_row_of_the_user_goes_first(tmp_path: Path) -> None:
    found = segments_of(("Lesion", "heart"), table(tmp_path, ROW), tmp_path / "t.csv")
    assert (found[0].side, found[0].colour, found[0].source) == ("left", (255, 0, 0), "own.csv")
    assert found[1].source == "built in"


def test_a_structure_without_a_row_is_refused_with_a_template(tmp_path: Path) -> None:
    template = tmp_path / "out" / "segments.csv"
    with pytest.raises(
        SegprefError, match=r"what 'class 1', 'anterior' are.*--segments .*segments"
    ):
        segments_of(("class 1", "heart", "anterior"), None, template)
    rows = read_csv(template)
    assert [row["structure"] for row in rows] == ["class 1", "heart", "anterior"]
    assert [row["type_code"] for row in rows] == ["", "80891009", ""]
    # What was filled in is not written over, and is enough.
    filled = template.read_text().replace(
        "class 1,,,,,,", ROW.rpartition(",left")[0].replace("lesion", "class 1")
    )
    template.write_text(
        filled.replace("anterior,,,,,,", "anterior,91723000,SCT,A,5366008,SCT,Hippocampus")
    )
    found = segments_of(("class 1", "heart", "anterior"), template, template)
    assert [one.type.meaning for one in found] == ["Lesion", "Heart", "Hippocampus"]
    with pytest.raises(SegprefError, match="'b' is"):
        segments_of(("b",), template, template)
    assert "Hippocampus" in template.read_text()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            ROW.replace("52988006", "52988007"),
            "line 2, has the type_code '52988007', which is no code",
        ),
        (ROW.replace("52988006", ""), "line 2, has no type_code of 'lesion'"),
        (ROW.replace("52988006", "1" * 17), "which DICOM has no room for"),
        (ROW.replace("left", "up"), "the laterality 'up'"),
        (ROW.replace("#ff0000", "red"), "the colour 'red'"),
        (ROW.replace("lesion", " ", 1), "names no structure"),
        (f"{ROW}\n{ROW.replace('lesion', 'LESION', 1)}", "two rows for 'LESION'"),
        (ROW + ",more", "is no table"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path: Path, row: str, said: str) -> None:
    with pytest.raises(SegprefError, match=said):
        segments_of(("lesion",), table(tmp_path, row), tmp_path / "t.csv")


def test_a_table_may_lack_laterality_and_colour_and_nothing_else(tmp_path: Path) -> None:
    short = HEAD.removesuffix(",laterality,colour")
    row = ROW.removesuffix(",left,#ff0000")
    (found,) = segments_of(("lesion",), table(tmp_path, row, head=short), tmp_path / "t.csv")
    assert (found.side, found.colour) == ("", None)
    bare = table(tmp_path, row.rpartition(",")[0], head=short.rpartition(",")[0])
    with pytest.raises(SegprefError, match="lacks the column type_meaning"):
        segments_of(("lesion",), bare, tmp_path / "t.csv")
    with pytest.raises(SegprefError, match="can't be read"):
        segments_of(("lesion",), tmp_path / "none.csv", tmp_path / "t.csv")


def test_a_name_that_is_no_label_is_refused(tmp_path: Path) -> None:
    for name in ("a\\b", "x" * 65):
        with pytest.raises(SegprefError, match="can't be the label of a segment"):
            segments_of((name,), None, tmp_path / "t.csv")
