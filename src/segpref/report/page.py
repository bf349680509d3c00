"""Elements of a report page, and its rendering into one self-contained file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from markupsafe import Markup

from segpref.data.cache import write_atomically
from segpref.late import late
from segpref.terminal import visible
from segpref.version import __version__

if TYPE_CHECKING:
    import jinja2
else:
    jinja2 = late("jinja2")

__all__ = [
    "GLOSSARY",
    "Cell",
    "Details",
    "Key",
    "Page",
    "Picture",
    "Section",
    "Table",
    "write_page",
    "write_pictures",
]

_LONGEST = 200
"""Bytes of a picture's name."""

GLOSSARY: Mapping[str, str] = {
    "IoU": "Overlap of the predicted and the true area: 0 is none, 1 is perfect. The mean "
    "over structures.",
    "Dice": "Another measure of overlap, from 0 (none) to 1 (perfect); always at least the IoU.",
    "Base": "The model before tuning. A frozen copy of it is what the tuned model is compared with.",
    "Peak": "The highest validation IoU of all epochs. The weights of that epoch are saved as "
    "best.safetensors. In a table of test results: the test IoU of these weights.",
    "TailAvg": "How good the model still is at the end of training: the validation curve is averaged "
    "over three epochs, and the last six of these averages are averaged again.",
    "Drift": "What was reached and lost again: the highest point of the smoothed validation curve "
    "minus TailAvg. Near 0 is good.",
    "Judge": "Decides which of two masks is better. It may be wrong.",
    "Slate": "The candidate masks of one image, scored by the judge. The anchor is the model's own "
    "prediction.",
    "Pair": "Two candidates of one slate: the winner, which the judge scores higher, and the loser.",
    "Margin": "How much more the tuned model prefers winners to losers than the base does; 0 at the "
    "start.",
    "Preference accuracy": "Share of pairs whose winner the tuned model prefers more than the base "
    "does. 0.5 is chance.",
    "PairFlip": "Share of pairs in which the judge is wrong: by the true outline, the loser is the "
    "better one.",
    "Harmful mass": "How strongly the model is pushed towards masks that are truly worse (paper: "
    "Eq. 13, Fig. 3). Relative to the mean of its first three epochs: below 1 it shrinks, above 1 it "
    "grows.",
    "Volume ratio": "Predicted size of a structure divided by what the base predicts. 1 is unchanged.",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG with what it shows in words.

    Args:
        png: the image.
        alt: what one sees, for those who can't.
        title: above it.
        caption: below it.
        badge: a mark such as *winner*.
        kind: look of the badge: ``winner``, ``loser``, ``anchor`` or nothing.
    """

    png: bytes
    alt: str
    title: str = ""
    caption: str = ""
    badge: str = ""
    kind: Literal["winner", "loser", "anchor", ""] = ""

    @property
    def uri(self) -> str:
        """The image as a data address, so that the page needs no other file."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell that is the best of its column, leads to another file, or holds sentences."""

    text: str
    best: bool = False
    link: str = ""
    long: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names its rows."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell | str, ...], ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of a legend: a line, or a filled patch, of a colour."""

    label: str
    colour: str
    style: Literal["solid", "dashed", "fill"] = "solid"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Args:
        title: its heading.
        text: what it shows, in a sentence or two.
        table: a table.
        pictures: pictures; ``layout`` says how they are set.
        layout: ``charts`` (wide), ``rows`` (``columns`` pictures a row) or ``tiles`` (many small).
        columns: of ``rows``.
        keys: the pictures' legend.
        note: small print.
    """

    title: str
    text: str = ""
    table: Table | None = None
    pictures: tuple[Picture, ...] = ()
    layout: Literal["charts", "rows", "tiles"] = "charts"
    columns: int = 2
    keys: tuple[Key, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """Text that is folded away."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report.

    Args:
        title: its heading.
        lead: what the page is about, in a line.
        verdict: the outcome in one sentence.
        evidence: further sentences that belong to it.
        good: whether the outcome is what was hoped for; None where there is nothing to hope for.
        warnings: what to look at before the model is used.
        caution: heading of the warnings.
        sections: in the order of reading.
        developer: sections for method developers, folded below the others with the words and details.
        details: folded parts at the end.
        terms: words of the :data:`GLOSSARY` that are explained at the end.
    """

    title: str
    verdict: str
    good: bool | None = None
    evidence: Sequence[str] = ()
    lead: str = ""
    warnings: Sequence[str] = ()
    caution: str = "Look at this before you use the model"
    sections: Sequence[Section] = ()
    developer: Sequence[Section] = ()
    details: Sequence[Details] = ()
    terms: Sequence[str] = ()


def write_page(path: Path, page: Page) -> Path:
    """Render a page into one HTML file that asks nothing of the network."""
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    source = resources.files("segpref.report").joinpath("report.html.j2").read_text("utf-8")
    html = environment.from_string(source).render(page=page, glossary=GLOSSARY, version=__version__)
    write_atomically(path, html.encode())
    return path


def _shown(value: object) -> object:
    """Text without characters that turn the line round or that no encoding has; it is escaped later."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def write_pictures(folder: Path, page: Page) -> list[Path]:
    """Write every picture of a page into a file of its own, named after its section and title.

    Pictures of an earlier page in this folder are taken away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        if old.is_file() or old.is_symlink():
            old.unlink()
    written = []
    for section in (*page.sections, *page.developer):
        for number, picture in enumerate(section.pictures, start=1):
            words = f"{section.title} {picture.title or number}".lower()
            name = "-".join("".join(c if c.isalnum() else " " for c in words).split())
            name = name.encode()[:_LONGEST].decode(errors="ignore")
            path = folder / f"{name}.png"
            if path in written:
                path = path.with_stem(f"{name}-{number}")
            write_atomically(path, picture.png)
            written.append(path)
    return written
