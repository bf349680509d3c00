"""The model card of a run folder: what is known of a model, on one page in Markdown.

Sections follow Mitchell et al., Model Cards for Model Reporting (FAT* 2019), as far as a run knows:
what the model is, what it was trained with, who judged, how it compares with its base, and its limits.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segpref.data.cache import write_atomically
from segpref.policies import ModelCard, read_card
from segpref.report.formats import counted
from segpref.report.structures import dice_rows, group_rows
from segpref.report.subgroups import read_groups
from segpref.report.volume_scores import read_volume_scores
from segpref.training.folder import RunFolder
from segpref.trust import read_json
from segpref.types import SegprefError

__all__ = ["write_model_card"]

_USE = (
    "For research, and for people who check every mask. It is no medical device: before it is used in "
    "care, measure it on patients of the place where it is to be used."
)
_JUDGE = {
    "headroom": "Headroom (IoU that its favourites gain over the model's own masks)",
    "pair_flip": "PairFlip (share of its pairs that are the wrong way round)",
    "kendall": "Kendall's rank correlation with the truth",
    "slates": "Images that this was measured on",
}

Rows = Iterator[tuple[str, object]]


def write_model_card(
    folder: RunFolder,
    about: Mapping[str, Any],
    summary: Mapping[str, Any],
    verdict: str,
    evidence: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> Path:
    """Write ``model-card.md`` from what a run's folder holds; what is not known is left out.

    Patients are counted and never named: their names are in ``split.json``.

    Args:
        folder: of the run.
        about: its ``run.json``.
        summary: its figures.
        verdict: the outcome in a sentence.
        evidence: further sentences that belong to it.
        warnings: what to know before the model is used.

    Returns:
        Path of the card.
    """
    settings = about.get("settings") or {}
    own = _own_card(folder)
    judged = [*_judge(folder, settings, summary)]
    limits = "\n".join(f"- {_shown(one)}" for one in [*warnings, _USE])
    parts = [
        f"# Model card: {_shown(folder.path.resolve().name)}",
        f"**{_shown(verdict)}**",
        *(["\n".join(f"- {_shown(one)}" for one in evidence)] if evidence else []),
        *_scores(folder),
        "## Model",
        _table([*_model(folder, own, settings, summary)]),
        "## Data",
        _table([*_data(folder, own, summary)]),
        *(["## Judge", _table(judged)] if judged else []),
        "## Limits",
        limits,
        "## Made by",
        ", ".join(f"{name} {one}" for name, one in (about.get("versions") or {}).items())
        + "; all settings are in `config.yaml` and `run.json`, curves and pictures in `report.html`.",
    ]
    path = folder.path / "model-card.md"
    write_atomically(path, "\n\n".join(parts).encode() + b"\n")
    return path


def _own_card(folder: RunFolder) -> ModelCard | None:
    """What the model file says; None where there is none, or it names what is not trusted here."""
    try:
        return read_card(folder.best)
    except SegprefError:
        return None


def _model(
    folder: RunFolder,
    own: ModelCard | None,
    settings: Mapping[str, Any],
    summary: Mapping[str, Any],
) -> Rows:
    if own is not None:
        space, form = own.label_space, own.preparation
        yield "Network", own.network.name
        exclusive = "exclude each other" if space.kind == "multi-class" else "may overlap"
        yield "Structures", f"{', '.join(space.structures)} ({exclusive})"
        yield "Input", f"{form.dims}D, {', '.join(own.channels)}"
        if own.orientation is not None:
            yield "Axes point to", own.orientation
        if own.spacing_range_mm is not None:
            sizes = [f"{low:.3g} to {high:.3g}" for low, high in own.spacing_range_mm]
            yield "Voxel sizes in training (mm)", ", ".join(sizes)
    if isinstance(labels := settings.get("labels"), Mapping):
        each = (f"{name} {value}" for name, value in labels.items())
        yield "Values in the label files", ", ".join(each)
    if summary.get("kind"):
        yield "Training", summary["kind"]
    method = settings.get("method")
    if isinstance(method, str):
        yield "Method", method
    for name, key in (("Base", "model"), ("Start", "start")):
        if settings.get(key):
            yield name, f"`{settings[key]}`"
    for name, key in (("Epochs", "epochs"), ("Seed", "seed")):
        if key in summary:
            yield name, summary[key]
    if folder.best.is_file():
        with folder.best.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield "SHA-256 of `best.safetensors`", f"`{digest}`"


def _data(folder: RunFolder, own: ModelCard | None, summary: Mapping[str, Any]) -> Rows:
    if own is not None:
        yield "Patients whose labels it was trained with", len(own.labelled) or "not known"
    for name, key in (("Labelled images", "labelled_cases"), ("Unlabelled images", "pool_cases")):
        if key in summary:
            yield name, summary[key]
    split = folder.path / "split.json"
    if split.is_file():
        parts = read_json(split, "restore it")
        unit = "Patients" if parts.get("by_patient", True) else "Images (patients are not known)"
        for part in ("train", "judge", "validation", "test"):
            if isinstance(parts.get(part), list):
                yield f"{unit} in {part}", len(parts[part])


def _judge(folder: RunFolder, settings: Mapping[str, Any], summary: Mapping[str, Any]) -> Rows:
    judge = settings.get("judge")
    if judge:
        text = judge if isinstance(judge, str) else json.dumps(judge)
        yield "Judge", f"`{text if len(text) <= 200 else text[:197] + '...'}`"
    votes = summary.get("votes")
    if isinstance(votes, Mapping):
        for name, one in votes.items():
            told = counted(one) or "none" if isinstance(one, Mapping) else one
            yield name.capitalize(), told
    if settings.get("control"):
        yield "Random-preference control", "yes: pairs were turned at random"
    if folder.audit.is_file():
        found = read_json(folder.audit, "delete it").get("judge")
        for name, told in _JUDGE.items() if isinstance(found, Mapping) else ():
            if isinstance(found.get(name), int | float):
                yield told, found[name]


def _scores(folder: RunFolder) -> list[str]:
    """Per structure before and after, where the verdict was measured."""
    if not folder.verdict.is_file():
        return []
    found = read_json(folder.verdict, "delete it, and resume the run to have it measured again")
    rows = [
        f"| {_shown(name)} | {_shown(one.get('base'))} | {_shown(one.get('tuned'))} |"
        for name, one in (found.get("structures") or {}).items()
    ]
    table = ["| IoU on validation | base | this model |", "|---|---|---|", *rows]
    if scores := read_volume_scores(folder.validation):
        # With intervals, which the means of an earlier run do not have.
        lines = ((_shown(cell) for cell in row) for row in dice_rows(scores))
        table = [
            "| Dice on validation (95 % interval) | base | this model | change | patients |",
            "|---|---|---|---|---|",
            *(f"| {' | '.join(line)} |" for line in lines),
        ]
    grouped = []
    if scores and folder.groups.exists():
        lines = (
            (_shown(cell) for cell in row) for row in group_rows(scores, read_groups(folder.groups))
        )
        grouped.append(
            "\n".join(
                [
                    "| Dice of patients grouped by | group | base | this model | change | patients |",
                    "|---|---|---|---|---|---|",
                    *(f"| {' | '.join(line)} |" for line in lines),
                ]
            )
        )
    gain = f"{_shown(found['mean'])} ({_shown(found['low'])} to {_shown(found['high'])})"
    return [
        "## Scores",
        "\n".join(table),
        f"Gain in IoU per patient, with its 95 % interval, over {found['patients']} patients: {gain}.",
        *grouped,
    ]


def _table(rows: Sequence[tuple[str, object]]) -> str:
    # Without names the header would be shown as an empty row.
    return "\n".join(
        ["| what | value |", "|---|---|", *(f"| {name} | {_shown(one)} |" for name, one in rows)]
    )


def _shown(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if not text.startswith("`"):
        text = text.replace("&", "&amp;").replace("<", "&lt;")
    # In a table a bar or a new line would end the cell.
    return " ".join(text.replace("|", "\\|").split())
