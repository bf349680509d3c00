"""The study's files: tables, scores per image, and pictures."""

from __future__ import annotations

from collections.abc import Mapping

from segpref.data.cache import write_atomically
from segpref.data.csv_files import csv_lines
from segpref.report.markup import in_markdown
from segpref.report.table_files import TABLE_FILES, TitledTable, write_tables
from segpref.studies.ambiguity.figures import contrast_picture, interpolation_chart, samples_picture
from segpref.studies.ambiguity.findings import Findings
from segpref.studies.ambiguity.sample_files import REFERENCE, SampleSet
from segpref.studies.ambiguity.scores import COLUMNS
from segpref.studies.ambiguity.sections import sections
from segpref.studies.ambiguity.workspace import AmbiguityWorkspace

__all__ = ["AMBIGUITY_FILES", "write_report"]

AMBIGUITY_FILES = ("data.json", "split.json", *TABLE_FILES, "images.csv")
"""Every file that such a study writes into its folder, beside those of its jobs."""


def write_report(workspace: AmbiguityWorkspace) -> list[TitledTable]:
    """Write ``tables.md``, ``.csv`` and ``.tex`` and the pictures; returns the tables."""
    found = Findings(workspace)
    made = sections(found)
    name, description = (
        in_markdown(workspace.recipe.name),
        in_markdown(workspace.recipe.description),
    )
    write_tables(workspace.out, made, [f"# {name}", description])
    write_atomically(workspace.out / "images.csv", _per_image(found).encode())
    for name, picture in _pictures(found).items():
        write_atomically(workspace.out / "figures" / f"{name}.png", picture)
    return made


def _pictures(found: Findings) -> Mapping[str, bytes]:
    workspace, seed = found.workspace, found.workspace.recipe.seeds[0]
    pictures = {}
    curves = {
        name: (found.stops(name), *(one.mean(axis=1) for one in curve))
        for name in workspace.recipe.knob
        if (curve := found.curve(name)) is not None
    }
    if curves:
        pictures["knob"] = interpolation_chart(curves)
    shown = workspace.test[: workspace.recipe.pictures]
    every = (REFERENCE, *workspace.recipe.methods, *workspace.recipe.peers)
    names = [name for name in every if workspace.drawn(SampleSet(name, seed))]
    if names:
        drawn = {name: workspace.samples(SampleSet(name, seed))[: len(shown)] for name in names}
        pictures["samples"] = samples_picture(shown, drawn)
    texts = [SampleSet(REFERENCE, seed, described=name) for name in workspace.recipe.control]
    if texts and all(workspace.drawn(one) for one in texts):
        drawn = {str(one.described): workspace.samples(one)[: len(shown)] for one in texts}
        pictures["control"] = contrast_picture(shown, drawn)
    return pictures


def _per_image(found: Findings) -> str:
    """Scores of every test image and model, for analyses of one's own."""
    lines: list[list[object]] = [["model", "seed", "w", "patient", "image", *COLUMNS.values()]]
    recipe = found.workspace.recipe
    for name in (REFERENCE, *recipe.methods, *recipe.variants, *recipe.peers):
        for w in (1.0, *recipe.knob.get(name, ())):
            for one in found.seeds(name, w):
                scores = found.scores(one)
                columns = [getattr(scores, measure) for measure in COLUMNS.values()]
                for case, *values in zip(found.workspace.test, *columns, strict=True):
                    told = [f"{value:.5f}" for value in values]
                    lines.append([name, one.seed, w, case.patient, case.id, *told])
    return csv_lines(lines)
