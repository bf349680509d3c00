"""The study's tables (Markdown, CSV) and figures (PNG), of the finished jobs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segpref.data.cache import write_atomically
from segpref.data.csv_files import csv_lines, write_csv
from segpref.report.formats import markdown_grid
from segpref.report.markup import in_markdown
from segpref.studies.prompted.figures import examples, flip_curves
from segpref.studies.prompted.results import (
    MEASURES,
    Figure,
    Scores,
    gain,
    image_lines,
    read_boxes,
    read_row,
)
from segpref.studies.prompted.rows import (
    FLIPPED,
    KINDS,
    MORE,
    RANDOM,
    UNET,
    aligned_row,
    asked_prompts,
    asks_clip,
    untuned_row,
)
from segpref.studies.prompted.workspace import PromptedWorkspace

__all__ = ["PROMPTED_FILES", "write_prompted"]

PROMPTED_FILES = ("recipe.yaml", "data.json", "tables.md", "tables.csv", "images.csv")
"""Every file that such a study writes into its folder, beside those of its jobs."""

_STAND_IN = (
    "The SAM is a small one of the same classes as the real ones, which learned to follow boxes and "
    "points on other data: a stand-in for a downloaded checkpoint."
)
_CHECKPOINT = (
    "All rows begin with the checkpoint {name}. What its authors trained it on may have held these "
    "very images: its scores without tuning are not those on unknown ones."
)
_CLIP = (
    "The CLIP is a small one of the same classes as the real ones, too, and learned from each fold's "
    "labelled images and from images without the structure: a stand-in that knows far less than a real "
    "one."
)
_UNET_BOX = (
    "`U-Net box` is the box around what the fold's U-Net, of the same labels, finds in an image."
)
_TEXTS = (
    "The sentence encoder is real (all-MiniLM-L6-v2). There is no model for visual question answering, "
    "so that part of Table 1 is left out, and the text, the shipped description of the structure, is "
    "the same for every image."
)
_HOW = (
    "{folds} folds by image, {labelled} labelled and {validation} validation images in each. Scores "
    "are means over the images, each tested on once, by the weights with the best validation IoU; "
    "differences are paired over images, with a 95 % bootstrap interval."
)
_ROWS = (
    "`{more}` has {count} labels more and no alignment; `none` is asked by the whole image; what is "
    "called `expert` gets its prompts from the label, which is not available when the model is used."
)


@dataclass(frozen=True)
class _Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        drawn = markdown_grid(self.columns, self.rows)
        title = f"## {in_markdown(self.title)}"
        return "\n\n".join(part for part in (title, self.note, drawn) if part) + "\n"


def write_prompted(workspace: PromptedWorkspace) -> Path:
    """Write ``tables.md``, ``tables.csv``, ``images.csv`` and ``figures/`` of what is finished.

    Returns:
        The Markdown file.
    """
    base = read_row(workspace, workspace.recipe.prompts[0])
    tables = [_boxes(workspace)]
    if base is not None:
        tables += [
            _alignment(workspace, base),
            _reductions(workspace),
            _against_chance(workspace),
            _prompts(workspace, base),
            _flips(workspace, base),
        ]
    found = [table for table in tables if table is not None and table.rows]
    recipe = workspace.recipe
    how = _HOW.format(**vars(recipe))
    name, description = in_markdown(recipe.name), in_markdown(recipe.description)
    sam = _STAND_IN
    if recipe.checkpoint is not None:
        sam = _CHECKPOINT.format(name=in_markdown(recipe.checkpoint.name))
    asked = asked_prompts(recipe)
    about = [sam]
    if any(map(asks_clip, asked)):
        about.append(_CLIP)
    if "U-Net box" in asked:
        about.append(_UNET_BOX)
    if any("text" in prompts for prompts in recipe.prompts):
        about.append(_TEXTS)
    head = f"# {name}\n\n{description}.\n\n{' '.join(about)}\n\n{how}\n"
    path = workspace.out / "tables.md"
    write_atomically(path, "\n".join([head, *(table.markdown() for table in found)]).encode())
    lines: list[Sequence[str]] = []
    for table in found:
        lines.append(["table", *table.columns])
        lines += [[table.title, *row] for row in table.rows]
    write_atomically(workspace.out / "tables.csv", csv_lines(lines).encode())
    if scores := list(image_lines(workspace)):
        write_csv(workspace.out / "images.csv", scores)
    for name, png in (("flips", flip_curves(workspace)), ("examples", examples(workspace))):
        if png is not None:
            write_atomically(workspace.out / "figures" / f"{name}.png", png)
    return path


def _alignment(workspace: PromptedWorkspace, base: Scores) -> _Table:
    rows = [_row("no alignment", base, None)]
    for share in workspace.recipe.unlabelled:
        for kind in KINDS:
            for how in ("image", "region"):
                name = aligned_row(share, kind, how)
                found = read_row(workspace, name)
                if found is not None:
                    rows.append(_row(name, found, base))
    columns = ("Row", *MEASURES, "Dice against no alignment", "Folds")
    return _Table("Preference alignment (Table 2)", columns, rows)


def _reductions(workspace: PromptedWorkspace) -> _Table:
    rows = []
    for share in workspace.recipe.unlabelled:
        for kind in KINDS:
            image, region = (
                read_row(workspace, aligned_row(share, kind, r)) for r in ("image", "region")
            )
            if image is not None and region is not None:
                told = [_signed(gain(region, image, measure)) for measure in MEASURES]
                rows.append([f"+ {share:.0%}, {kind}", *told])
    return _Table("Region against image reduction", ("Row", *MEASURES), rows)


def _against_chance(workspace: PromptedWorkspace) -> _Table:
    """What each kind of feedback gains beside the same with half of the answers reversed."""
    rows, share = [], max(workspace.recipe.unlabelled)
    for kind in KINDS:
        for how in ("image", "region"):
            said = read_row(workspace, aligned_row(share, kind, how))
            chance = read_row(workspace, aligned_row(share, kind, how, reversals=RANDOM))
            if said is not None and chance is not None:
                told = [_signed(gain(said, chance, measure)) for measure in MEASURES]
                rows.append([f"+ {share:.0%}, {kind}, {how}", *told])
    return _Table("Against random feedback", ("Row", *MEASURES), rows)


def _prompts(workspace: PromptedWorkspace, base: Scores) -> _Table:
    recipe, rows = workspace.recipe, []
    aligned = aligned_row(min(recipe.unlabelled), "ranking", "image")
    first, *others = recipe.prompts
    for name in (aligned, MORE, first, *others, *map(untuned_row, recipe.untuned), UNET):
        found = read_row(workspace, name)
        if found is not None:
            rows.append(_row(name, found, None if name == first else base))
    columns = ("Row", *MEASURES, f"Dice against {first}", "Folds")
    note = _ROWS.format(more=MORE, count=recipe.more)
    return _Table("Prompts, labels and a U-Net (Table 1)", columns, rows, note)


def _flips(workspace: PromptedWorkspace, base: Scores) -> _Table:
    share, recipe, rows = max(workspace.recipe.unlabelled), workspace.recipe, []
    noises = [(kind, rate, 0.0) for kind in FLIPPED for rate in (0.0, *recipe.flips)]
    if not (recipe.flips or recipe.reversals):
        noises = []
    for kind, flips, reversals in [*noises, *(("ranking", 0.0, r) for r in recipe.reversals)]:
        image = read_row(workspace, aligned_row(share, kind, "image", flips, reversals))
        region = read_row(workspace, aligned_row(share, kind, "region", flips, reversals))
        told = "" if image is None or region is None else _signed(gain(region, image))
        said = f"{reversals:.0%} reversed" if reversals else f"{flips:.0%} flipped"
        for how, found, more in (("image", image, ""), ("region", region, told)):
            if found is not None:
                *row, folds = _row(f"{kind}, {said}, {how}", found, base)
                rows.append([*row, more, folds])
    columns = ("Row", *MEASURES, "Dice against no alignment", "Dice against image", "Folds")
    return _Table("Flipped ratings and rankings", columns, rows)


def _boxes(workspace: PromptedWorkspace) -> _Table | None:
    found = read_boxes(workspace)
    if found is None:
        return None
    rows = [[name, _plain(figure)] for name, figure in found.figures.items()]
    title = f"Automatic boxes, on {found.images} held-out images"
    return _Table(title, ("Figure", "Mean (95 % interval)"), rows)


def _row(name: str, found: Scores, base: Scores | None) -> list[str]:
    means = [f"{found.mean(measure):.3f}" for measure in MEASURES]
    against = "" if base is None else _signed(gain(found, base))
    return [name, *means, against, str(found.folds)]


def _signed(figure: Figure) -> str:
    mean, low, high = figure
    return f"{mean:+.3f}" if math.isnan(low) else f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def _plain(figure: Figure) -> str:
    mean, low, high = figure
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"
