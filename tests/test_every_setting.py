"""Every field of everything that a user builds, with values that somebody may have written there.

It walks the classes that the package lets users name, in Python or in YAML by import path, and tries
each field alone. A value is refused in a sentence that names the field, or it is legal: by the field's
type and, for numbers, by the range that the class declares.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import pytest
from torch import nn

from segpref.settings import Settings
from segpref.types import SegprefError

PACKAGES = (
    "segpref", "segpref.data", "segpref.judges", "segpref.contrib.judges",
    "segpref.contrib.judges.recipes",
    "segpref.objectives", "segpref.contrib.objectives", "segpref.proposals", "segpref.preferences",
    "segpref.preferences.miners", "segpref.prompts", "segpref.policies", "segpref.policies.diffusion",
    "segpref.training", "segpref.training.semisupervised", "segpref.studies", "segpref.studies.judging",
    "segpref.studies.ambiguity", "segpref.studies.prompted", "segpref.studies.engine",
    "segpref.inference", "segpref.workflows.options", "segpref.cluster",
)  # fmt: skip
"""Whose ``__all__`` users build from."""

MADE_HERE = {
    "Case", "Source", "SourceList", "Candidate", "Slate", "SparseSlate", "SparseScored", "WholeSlates",
    "PredictedAhead", "Pairs", "Margins",
    "WeightedPairs", "Window", "Dataset", "ModelCard", "OpenModel", "RunFolder", "Runtime", "Segmenter",
    "ArrayFile", "ArrayNote", "ArrayWriter", "LabelPlaces", "PredictionStore", "StoredArray",
    "Series", "Tree", "Task", "Volume", "VolumeFile", "UndrawnStructures", "Disagreement", "LabelMap",
    "ProposalContext",
    "AbstainingJudge", "BetweenRaters", "BradleyTerry", "Candidates", "Compared", "Estimate",
    "Mined", "PreferenceFolder", "Rating", "RecordedPairs", "Reliability", "Repeats",
    "RoundPatches", "RoundSlates", "ScoredSlate", "Scoring", "SlateWorkers", "SlatesAhead",
    "VoteTimes", "Where", "Answer",
    "KeptPrompts", "PlainModel", "SegmenterState", "AmbiSeg", "BlendedPredictions", "Context",
    "DenoisingMargins", "JointLikelihood", "LatentMargins", "LatentSegmenter",
    "Draw", "AnchoredSignal", "HeldOut", "LogitMargins",
    "OneHotLoss", "PreferenceRounds", "PreferenceSignal", "PreferenceStep", "PseudoLabelSignal",
    "Derived", "EpochFigures", "Findings",
    "ScoredBatch", "StepResult", "StepSlates", "SupervisedSignal", "MethodLoss", "StepBatch",
    "Student", "Results", "Workspace", "JudgeInputs", "AmbiguityWorkspace", "SampleSet",
    "PromptedWorkspace", "Scores", "Job", "StudyProgress", "ImageSampler", "PaddedImages",
    "WholeImages", "WindowedNetwork", "RayCluster", "Prompt",
    "Calibration", "ImageReference", "LabelledImages", "MaskFigures", "QualityReference", "RankedMask",
    "Rising", "SelfAssessment", "Shape", "VolumeFigures", "WholeScores",
}  # fmt: skip
"""Classes that hold what the package computes itself, or that have sentences of their own; a Ray
cluster would be started. A new class that users build belongs under ``checked``, not here."""

ANY_NUMBER = {
    "BetaDPO.threshold", "Noisy.size_bias", "NoisyJudge.size_bias", "Sampler.threshold",
    "TransformersClip.layer",
}  # fmt: skip
"""Fields for which every number makes sense."""

ID = "0123456789abcdef" * 2
NEEDED: dict[str, dict[str, Any]] = {
    "LabelSpace": {"kind": "multi-label", "names": ("a", "b")},
    "Preference": {"candidates": (ID, ID[::-1]), "choice": "first"},
    "Recipe": {"split": {"test": 1}},
    "TransformersClip": {"name": "/nowhere/at/all"},
    "LocalVQA": {"name": "/nowhere/at/all"},
}
"""Arguments that have to fit each other."""

MISSING = inspect.Parameter.empty
NUMBERS = [-1, 0, 10**30, 10**400]


@dataclass(frozen=True)
class Field:
    """One argument of a class."""

    owner: type
    name: str
    hint: Any
    bounds: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.owner.__name__}.{self.name}"


def classes() -> Iterator[type]:
    seen = set()
    for package in PACKAGES:
        face = importlib.import_module(package)
        for name in face.__all__:
            try:
                one = getattr(face, name)
            except ImportError:
                continue  # an optional extra
            if not inspect.isclass(one) or one in seen or is_exempt(one):
                continue
            seen.add(one)
            if one.__module__.startswith("segpref.") and arguments(one):
                yield one


def is_exempt(one: type) -> bool:
    protocol = getattr(one, "_is_protocol", False)
    return protocol or issubclass(one, tuple | BaseException) or one.__name__ in MADE_HERE


def arguments(one: type) -> dict[str, inspect.Parameter]:
    given = inspect.signature(one).parameters
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {n: p for n, p in given.items() if p.kind in kinds and not n.startswith("_")}


def fields_of(one: type) -> list[Field]:
    hints = get_type_hints(one if is_dataclass(one) else one.__init__)
    bounds: dict[str, Any] = {}
    if is_dataclass(one):
        bounds = {each.name: each.metadata for each in fields(one)}
    for part in reversed(one.__mro__):
        declared = getattr(vars(part).get("__init__"), "bounds", {})
        bounds |= {name: dict(limits) for name, limits in declared.items()}
    return [Field(one, name, hints.get(name, Any), bounds.get(name, {})) for name in arguments(one)]


def parts(hint: Any) -> list[Any]:
    """The types that a union allows."""
    if get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        return [one for inner in get_args(hint) for one in parts(inner)]
    return [hint]


def allows(hint: Any, value: Any) -> bool | None:
    """Whether a value is legal by its type; None where the type leaves it to the class."""
    said = [_allows(one, value) for one in parts(hint)]
    return True if True in said else None if None in said else False


def _allows(hint: Any, value: Any) -> bool | None:
    origin = get_origin(hint) or hint
    if hint is None or hint is type(None):
        return value is None
    if origin is Literal:
        return value in get_args(hint)
    if hint is str:
        return isinstance(value, str)
    if hint is Path:
        return isinstance(value, str)
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and value != 10**400 and math.isfinite(value)
    if inspect.isclass(origin) and issubclass(origin, Mapping | list | tuple | Sequence):
        return False  # none of the values is a list
    if origin is Any or origin is object or isinstance(origin, TypeVar):
        return None
    # Objects are taken at their word; a plain value is none.
    return False


VALUES: list[Any] = [math.nan, math.inf, -math.inf, None, "", "no such word", True, 1.5, *NUMBERS]
DEFAULTS: dict[Any, Any] = {str: "a", int: 1, float: 0.5, bool: False, Path: Path("a")}


def placeholder(hint: Any) -> Any:
    """Something for an argument that must be given."""
    one = parts(hint)[0]
    origin = get_origin(one) or one
    if one in DEFAULTS:
        return DEFAULTS[one]
    if origin is Literal:
        return get_args(one)[0]
    if inspect.isclass(origin) and not origin.__module__.startswith("segpref"):
        if issubclass(origin, Mapping):
            return {}
        if issubclass(origin, list | tuple | Sequence):
            return []
    return print if origin is Callable else object()


def complaint(field: Field, value: Any) -> str | None:
    """What is wrong with how a class takes a value; None where all is well."""
    legal = allows(field.hint, value)
    if legal is None or (legal and value != -1 and issubclass(field.owner, nn.Module)):
        return None  # a network of that size would be built
    given = arguments(field.owner)
    hints = {one.name: one.hint for one in fields_of(field.owner)}
    named = {n: placeholder(hints[n]) for n, p in given.items() if p.default is MISSING}
    named |= NEEDED.get(field.owner.__name__, {})
    try:
        field.owner(**named | {field.name: value})
    except SegprefError as error:
        if field.name in str(error) or legal:
            return None
        return f"{field}={value!r}: the sentence does not name the field: {error}"
    except Exception as error:
        if not legal:
            return f"{field}={value!r}: {type(error).__name__}: {error}"
    else:
        if not legal:
            return f"{field}={value!r} is taken although it is no {field.hint}"
    numeric = {int, float} & set(parts(field.hint))
    if value == -1 and numeric and not field.bounds and str(field) not in ANY_NUMBER:
        return f"{field}=-1 is taken: say in its range whether it may be"
    return None


@pytest.mark.parametrize("kind", list(classes()), ids=lambda kind: kind.__qualname__)
def test_every_field(kind: type) -> None:
    told = [complaint(one, value) for one in fields_of(kind) for value in VALUES]
    assert not (wrong := [one for one in told if one]), "\n".join(wrong)


def test_the_walk_finds_what_users_build() -> None:
    found = {one.__name__ for one in classes()}
    assert len(found) > 120
    for name in ("AlignConfig", "Recipe", "Block", "NoisyJudge", "Folders", "DPO", "TopVsRandom"):
        assert name in found
    assert all(issubclass(one, Settings) or arguments(one) for one in classes())
