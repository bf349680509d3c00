"""What structures are called in codes: a table that people edit, and the one of segpref."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from pathlib import Path

from segpref.data.csv_files import read_csv, write_csv
from segpref.disk import refuse_scarcity
from segpref.targets import refuse_special
from segpref.types import SegprefError

__all__ = ["Code", "Segment", "colours_of", "print_segments", "segments_of"]

_BUILT_IN = Path(__file__).with_name("segments.csv")

_CODES = ("category", "type")
_COLUMNS = (
    "structure",
    *(f"{kind}_{part}" for kind in _CODES for part in ("code", "scheme", "meaning")),
    "laterality",
    "colour",
)
_LONGEST = {"code": 16, "scheme": 16, "meaning": 64}
"""Signs that DICOM has room for."""

_SIDES = ("left", "right", "both")


@dataclass(frozen=True)
class Code:
    """A term of a coding scheme, such as SNOMED CT (SCT)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Segment:
    """A structure in codes.

    Args:
        structure: its name in the dataset, which becomes the label of its segment.
        category: what kind of thing it is, such as an anatomical structure.
        type: what it is.
        side: left, right or both; empty where that does not matter, or is part of the type.
        colour: red, green and blue up to 255, or None.
        source: where its row stands.
    """

    structure: str
    category: Code
    type: Code
    side: str = ""
    colour: tuple[int, int, int] | None = None
    source: str = ""


def segments_of(
    structures: Sequence[str], table: Path | None, template: Path
) -> tuple[Segment, ...]:
    """The rows of these structures, in their order.

    A row of the user's table goes before one that comes with segpref. Names are compared without regard
    to capitals, and ``_`` and ``-`` count as blanks; nothing else is guessed.

    Args:
        structures: of the model.
        table: the user's, with the columns of the template.
        template: what is written where a structure has no row: a table with a row for each, whose
            missing cells are empty. A file that is there is left as it is.

    Raises:
        SegprefError: a structure without a row, or a table with a mistake.
    """
    for name in structures:
        if len(name) > _LONGEST["meaning"] or "\\" in name or not name.isprintable():
            raise SegprefError(
                f"the structure {name!r} can't be the label of a segment, which has at most 64 signs, "
                "none of them a backslash: rename it in the dataset and train the model again"
            )
    rows = _rows(_BUILT_IN, "built in") | (_rows(table, table.name) if table is not None else {})
    missing = [name for name in structures if _key(name) not in rows]
    if not missing:
        return tuple(
            Segment(name, row.category, row.type, row.side, row.colour, row.source)
            for name in structures
            for row in (rows[_key(name)],)
        )
    names = ", ".join(map(repr, missing))
    if not template.exists():
        write_csv(template, [_cells(name, rows.get(_key(name))) for name in structures], _COLUMNS)
    raise SegprefError(
        f"DICOM-SEG needs codes that say what {names} {'is' if len(missing) == 1 else 'are'}, and "
        f"{table or 'the built-in table'} has none: fill in {template} (SNOMED CT is the scheme SCT) "
        f"and give it as --segments {template}"
    )


def colours_of(structures: Sequence[str]) -> list[tuple[int, int, int]]:
    """A colour of each structure: that of the table which comes with segpref, else one that differs."""
    rows = _rows(_BUILT_IN, "built in")
    found = []
    for number, name in enumerate(structures):
        row = rows.get(_key(name))
        # Steps of the golden ratio along the colour circle never come close to an earlier one.
        red, green, blue = hsv_to_rgb((number + 1) * 0.618034 % 1, 0.75, 0.9)
        made = (round(red * 255), round(green * 255), round(blue * 255))
        found.append(row.colour if row is not None and row.colour is not None else made)
    return found


def print_segments(segments: Sequence[Segment]) -> None:
    """Show once how structures are coded, so that a wrong row is seen before its files are sent."""
    from rich.table import Table

    from segpref.progress import console

    shown = Table(title="segments")
    for column in ("structure", "category", "type", "code", "row"):
        shown.add_column(column)
    for one in segments:
        kind = f"{one.type.meaning}, {one.side}" if one.side else one.type.meaning
        code = f"{one.type.scheme} {one.type.value}"
        shown.add_row(one.structure, one.category.meaning, kind, code, one.source)
    console.print(shown)


def _key(name: str) -> str:
    return " ".join(re.sub(r"[_-]", " ", name).casefold().split())


def _cells(name: str, row: Segment | None) -> dict[str, str]:
    cells = dict.fromkeys(_COLUMNS, "") | {"structure": name}
    if row is not None:
        for kind in _CODES:
            code: Code = getattr(row, kind)
            parts = (code.value, code.scheme, code.meaning)
            cells |= dict(zip((f"{kind}_{part}" for part in _LONGEST), parts, strict=True))
        cells["laterality"] = row.side
        cells["colour"] = "" if row.colour is None else "#" + bytes(row.colour).hex()
    return cells


def _rows(path: Path, source: str) -> dict[str, Segment]:
    refuse_special(path)
    try:
        cells = read_csv(path)
    except OSError as error:
        refuse_scarcity(path, error)
        raise SegprefError(
            f"{path} can't be read ({error.strerror}): correct --segments"
        ) from error
    except ValueError as error:
        raise SegprefError(
            f"{path} is no table ({error}): save it as CSV with the columns {', '.join(_COLUMNS)}"
        ) from error
    if lacking := [name for name in _COLUMNS[:7] if cells and name not in cells[0]]:
        raise SegprefError(
            f"{path} lacks the column {', '.join(lacking)}: a table of segments has "
            f"{', '.join(_COLUMNS)}"
        )
    found: dict[str, Segment] = {}
    for number, row in enumerate(cells, start=2):
        one = _segment(f"{path}, line {number},", source, row)
        if (key := _key(one.structure)) in found:
            raise SegprefError(
                f"{path} has two rows for {one.structure!r} (line {number} and before): remove one"
            )
        found[key] = one
    return found


def _segment(where: str, source: str, row: Mapping[str, str]) -> Segment:
    name = row["structure"].strip()
    if not name:
        raise SegprefError(f"{where} names no structure: give its name in the dataset")
    category, kind = (_code(where, name, row, one) for one in _CODES)
    side = row.get("laterality", "").strip().lower()
    if side and side not in _SIDES:
        raise SegprefError(
            f"{where} has the laterality {side!r}: choose {', '.join(_SIDES)}, or leave it empty"
        )
    colour = row.get("colour", "").strip()
    if colour and not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        raise SegprefError(
            f"{where} has the colour {colour!r}: write it as #dd8265, or leave it empty"
        )
    red, green, blue = bytes.fromhex(colour[1:] or "000000")
    return Segment(name, category, kind, side, (red, green, blue) if colour else None, source)


def _code(where: str, name: str, row: Mapping[str, str], kind: str) -> Code:
    cells = {part: row[f"{kind}_{part}"].strip() for part in _LONGEST}
    for part, text in cells.items():
        if not text:
            raise SegprefError(f"{where} has no {kind}_{part} of {name!r}: fill it in")
        if len(text) > _LONGEST[part] or "\\" in text or not text.isprintable():
            raise SegprefError(
                f"{where} has the {kind}_{part} {text!r}, which DICOM has no room for: at most "
                f"{_LONGEST[part]} signs, none of them a backslash"
            )
    if cells["scheme"] == "SCT" and not _is_snomed(cells["code"]):
        raise SegprefError(
            f"{where} has the {kind}_code {cells['code']!r}, which is no code of SNOMED CT (its check "
            "digit does not fit): correct it"
        )
    return Code(cells["code"], cells["scheme"], cells["meaning"])


def _is_snomed(code: str) -> bool:
    """Whether digits are an identifier of SNOMED CT: the last one checks the others, by Verhoeff."""
    if not re.fullmatch(r"[1-9][0-9]{5,15}", code):
        return False
    check = 0
    for place, digit in enumerate(reversed(code)):
        check = _times(check, _turned(int(digit), place % 8))
    return check == 0


def _times(one: int, other: int) -> int:
    """In the group of the turns and reflections of a pentagon."""
    if one < 5:
        return (one + other) % 5 if other < 5 else (one + other - 5) % 5 + 5
    return (one - other) % 5 + 5 if other < 5 else (one - other) % 5


def _turned(digit: int, times: int) -> int:
    for _ in range(times):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit
