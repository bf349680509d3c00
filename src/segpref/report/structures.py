"""A row per structure, for good means hide the structure that is being lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segpref.report.comparison import bootstrap_interval
from segpref.report.page import Section, Table
from segpref.report.subgroups import PatientGroups, in_order, read_groups
from segpref.report.volume_scores import VolumeScore
from segpref.training.folder import RunFolder
from segpref.trust import read_json

__all__ = ["dice_rows", "group_rows", "judge_section", "read_figures", "score_sections"]


def score_sections(folder: RunFolder, scores: Sequence[VolumeScore]) -> list[Section]:
    """What a run did to Dice and size of each structure on validation.

    Args:
        folder: of the run.
        scores: of its validation volumes; of a run that has none, the means that it kept.
    """
    if not scores:
        return _earlier(folder)
    text = (
        "Dice is the overlap with the labels, without a unit: 0 is none, 1 is perfect. Means over the "
        "validation patients with 95 % intervals over patients."
    )
    header = ("Structure", "Base", "Tuned", "Change", "Patients")
    dice = Section("Dice of each structure", text, table=Table(header, dice_rows(scores)))
    return [dice, _sizes(scores), *_groups(folder, scores)]


def dice_rows(scores: Sequence[VolumeScore]) -> tuple[tuple[str, ...], ...]:
    """Mean Dice of each structure before and after and the change, with intervals over patients."""
    return tuple((name, *_before_after(own)) for name, own in _by_structure(scores).items())


def group_rows(scores: Sequence[VolumeScore], groups: PatientGroups) -> tuple[tuple[str, ...], ...]:
    """The same of each group of patients, over all structures; the column and the group come first."""
    rows = []
    for column in groups.columns:
        members: dict[str, list[VolumeScore]] = {}
        for one in scores:
            members.setdefault(groups.group(one.patient, column), []).append(one)
        rows += [(column, group, *_before_after(members[group])) for group in in_order(members)]
    return tuple(rows)


def _groups(folder: RunFolder, scores: Sequence[VolumeScore]) -> list[Section]:
    if not folder.groups.exists():
        return []
    text = (
        "Mean Dice over the validation patients of a group and their structures, with 95 % intervals "
        "over patients. Small groups show little: look at the number of patients."
    )
    header = ("Grouped by", "Group", "Base", "Tuned", "Change", "Patients")
    rows = group_rows(scores, read_groups(folder.groups))
    return [Section("Groups of patients", text, table=Table(header, rows))]


def _before_after(scores: Sequence[VolumeScore]) -> tuple[str, str, str, str]:
    """Mean Dice before and after and the change, with intervals, and the number of patients."""
    known = [one for one in scores if not math.isnan(one.dice[0])]
    before, after = (
        _over_patients((one.patient, one.dice[number]) for one in known) for number in (0, 1)
    )
    change = _over_patients((one.patient, one.dice[1] - one.dice[0]) for one in known)
    return _told(before), _told(after), _told(change, "+.3f"), str(change.patients)


def _sizes(scores: Sequence[VolumeScore]) -> Section:
    units = list(dict.fromkeys(one.unit for one in scores))
    rows = []
    for name, every in _by_structure(scores).items():
        for unit in units:
            own = [one for one in every if one.unit == unit]
            if not own:
                continue
            label, before, after = (
                _over_patients((one.patient, getattr(one, f"size_{what}")) for one in own).mean
                for what in ("label", "base", "tuned")
            )
            change = _over_patients((one.patient, one.size_tuned - one.size_base) for one in own)
            share = f"{after / before - 1:+.0%}" if before > 0 else "–"
            told = (_size(label), _size(before), _size(after), _told(change, _form(before, "+")))
            rows.append((name, *((unit,) if len(units) > 1 else ()), *told, share))
    shown = f" ({units[0]})" if len(units) == 1 else ""
    header = (
        "Structure", *(("Unit",) if len(units) > 1 else ()),
        *(f"{what}{shown}" for what in ("Label", "Base", "Tuned", "Change")), "Change (%)",
    )  # fmt: skip
    text = "Means over the validation patients; the change with its 95 % interval over patients."
    note = "Measured on the network's grid, after crop and resampling."
    if "voxels" in units:
        note += " In voxels, because the files do not say how large a voxel is."
    title = "Area of each structure" if units == ["cm²"] else "Volume of each structure"
    return Section(title, text, table=Table(header, tuple(rows)), note=note)


def _earlier(folder: RunFolder) -> list[Section]:
    """Of a run that kept its mean IoU alone."""
    rows = read_figures(folder.verdict).get("structures") or {}
    lines = tuple(
        (name, _figure(one["base"]), _figure(one["tuned"]), _change(one))
        for name, one in rows.items()
    )
    text = "Mean validation IoU of each structure, with the weights that were best on validation."
    table = Table(("Structure", "Base", "Tuned", "Change"), lines)
    return [Section("Structure by structure", text, table=table)] if lines else []


def judge_section(audited: Mapping[str, Any]) -> list[Section]:
    """What a judge is worth on each structure, by an audit; none where it tells nothing."""
    judged = audited.get("structures")
    if not judged:
        return []
    silent = audited.get("abstains_on", ())
    lines = tuple(
        (
            one["structure"],
            _figure(one["headroom"], "+.3f"),
            _figure(one["harm_top"], ".0%"),
            _figure(one["pair_flip"], ".0%"),
            _figure(one["empty"], ".0%"),
            "always" if one["structure"] in silent else str(one["abstained"]),
        )
        for one in judged
    )
    header = ("Structure", "Headroom", "HarmTop", "PairFlip", "Empty candidates", "Abstains")
    text = (
        "On labelled validation images before training: what the judge's favourite gains, how "
        "often it is worse than the base's own mask, how often pairs that differ mainly in the "
        "structure are the wrong way round, how many candidates lack it, and on how many slates "
        "the judge abstains."
    )
    return [Section("The judge on each structure", text, table=Table(header, lines))]


def read_figures(file: Path) -> Mapping[str, Any]:
    """Figures that a run folder keeps; empty where there is no file."""
    if not file.exists():
        return {}
    content = read_json(file, "delete it to report without it")
    return content if isinstance(content, dict) else {}


def _by_structure(scores: Sequence[VolumeScore]) -> dict[str, list[VolumeScore]]:
    found: dict[str, list[VolumeScore]] = {}
    for one in scores:
        found.setdefault(one.structure, []).append(one)
    return found


class _Mean(NamedTuple):
    """Mean over patients with its 95 % bootstrap interval; NaN for too few."""

    mean: float
    low: float
    high: float
    patients: int


def _over_patients(values: Iterable[tuple[str, float]]) -> _Mean:
    """A patient's value is the mean over the volumes."""
    gathered: dict[str, list[float]] = {}
    for patient, value in values:
        gathered.setdefault(patient, []).append(value)
    means = np.array([np.mean(own) for own in gathered.values()])
    middle = float(means.mean()) if len(means) else math.nan
    return _Mean(middle, *bootstrap_interval(means), len(means))


def _told(one: _Mean, form: str = ".3f") -> str:
    if math.isnan(one.mean):
        return "–"
    interval = f" ({one.low:{form}} to {one.high:{form}})"
    return f"{one.mean:{form}}" + ("" if math.isnan(one.low) else interval)


def _form(size: float, sign: str = "") -> str:
    return f"{sign},.{0 if size >= 100 else 1 if size >= 10 else 2}f"


def _size(value: float) -> str:
    return f"{value:{_form(value)}}"


def _change(one: Mapping[str, float | None]) -> str:
    before, after = one["base"], one["tuned"]
    return "–" if before is None or after is None else f"{after - before:+.3f}"


def _figure(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)
