"""Changes of settings: every field of every class, with values that it can't have."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from mutations import Mutation, hold, labelled

from segpref import contrib, objectives, proposals
from segpref.contrib import judges as _judges  # noqa: F401
from segpref.contrib import objectives as more_objectives
from segpref.data import Preparation
from segpref.policies import NetworkSpec
from segpref.policies.diffusion import Sampler
from segpref.preferences import miners
from segpref.prompts import LabelPrompts
from segpref.studies import judging
from segpref.training import AlignConfig, FitConfig, StrongAugmentation
from segpref.training.semisupervised import CopyPaste, FixMatch, MeanTeacher, UniMatch
from segpref.types import LabelSpace

NEEDED: dict[str, dict[str, Any]] = {
    "Extremes": {"tau": 0.5}, "Threshold": {"tau": 0.5}, "NetworkSpec": {"module": "a.B"},
    "Noisy": {"judge": judging.Oracle()}, "Together": {"judges": [judging.Oracle()]},
    "OtherMasks": {"folders": []}, "Votes": {"studies": [Path("study")]}, "BetaDPO": {"threshold": 0.5},
    "SupervisedLoss": {"label_space": LabelSpace("multi-label", ("a",))},
}  # fmt: skip


def classes() -> list[type]:
    found: list[type] = [AlignConfig, FitConfig, Preparation, NetworkSpec, StrongAugmentation]
    found += [CopyPaste, FixMatch, MeanTeacher, UniMatch, LabelPrompts, Sampler]
    for package in (proposals, miners, objectives, more_objectives, judging):
        for name in package.__all__:
            one = getattr(package, name)
            if inspect.isclass(one) and hasattr(one.__init__, "__wrapped__"):
                found.append(one)
    return list(dict.fromkeys(found))


def alternatives(hint: Any) -> list[Any]:
    """The types that a hint allows."""
    inner = get_args(hint)
    union = get_origin(hint) is not Literal and type(None) in inner
    return [one for one in inner if one is not type(None)] if union else [hint]


def impossible(hint: Any) -> list[Any]:
    """Values that a field of such a type can't have."""
    allowed = alternatives(hint)
    if len(allowed) != 1:
        return []
    (one,) = allowed
    if one is float:
        return [math.nan, math.inf, -math.inf, "much", [1.0], True]
    if one is int:
        return [1.5, "two", math.nan, True, [1]]
    if one is bool:
        return ["maybe", 2, 0.5]
    if one is str:
        return [3, ["a"], {"a": 1}]
    if get_origin(one) is Literal:
        return ["no such word", 3.5, ["a"]]
    if get_origin(one) in (tuple, list) and get_args(one)[:1] == (float,):
        return ["a", 3, [math.nan] * 2, ["a", "b"], {"a": 1}]
    return []


def built(_: Path, kind: type, values: dict[str, Any]) -> Any:
    made = kind(**NEEDED.get(kind.__name__, {}) | values)
    return {name: getattr(made, name) for name in values}


def mutations() -> Iterator[Mutation]:
    for kind in classes():
        hints = get_type_hints(kind if "__dataclass_fields__" in vars(kind) else kind.__init__)
        for name, one in inspect.signature(kind).parameters.items():
            for value in impossible(hints.get(name)):
                what = f"{kind.__name__}({name}={value!r})"
                yield Mutation(what, "refuse", partial(built, kind=kind, values={name: value}))
            # OtherMasks wants real folders of masks: only what it refuses first can be tried.
            whole = isinstance(one.default, float) and one.default == int(one.default)
            if whole and kind is not proposals.OtherMasks:
                value = int(one.default)
                what = f"{kind.__name__}({name}={value!r}), a whole number"
                yield Mutation(
                    what,
                    "equal",
                    partial(built, kind=kind, values={name: value}),
                    partial(dict, **{name: value}),
                )


OUT_OF_RANGE: dict[type, dict[str, list[Any]]] = {
    AlignConfig: {
        "epochs": [0, -3], "batch_size": [0], "learning_rate": [-1e-4], "seed": [-1], "beta": [0, -1.0],
        "average": [1.0, 1.5, -0.1], "candidates": [1, 0, 1001, 100_000], "refresh": [0],
        "halve_every": [0, -1.0, 3.0], "supervised": [-0.5], "families": [[]], "loss": [print],
        "reduction": ["pixel", ["power", math.nan]], "reference": ["round"],
        "workers": [-1, 257],
    },
    FitConfig: {"dropout": [1.0, -0.1], "images_per_epoch": [0], "weight_decay": [-1e-4]},
    Preparation: {
        "dims": [0, 1, 4, 5, "2"], "size": [(32,), (32, 0), (32, -1), (32.5, 32), (math.nan, 32), 32],
        "spacing_mm": [(1.0,), (0.0, 1.0), (math.nan, 1.0), (-1.0, 1.0)], "crop": [(3,), (0, 0)],
        "normalise": ["zscore", "minmax", "", "window"], "orientation": ["RAR", "XYZ", "ras?"],
        "window": [(1.0, 1.0), (5.0, 2.0), (math.nan, 1.0), (1.0,)], "patch": [(8,), (8, 0)],
    },
    StrongAugmentation: {"probability": [-0.1, 1.1], "gamma": [0.5], "noise": [-1.0], "blur": [-1.0]},
}  # fmt: skip


def out_of_range() -> Iterator[Mutation]:
    for kind, named in OUT_OF_RANGE.items():
        for name, values in named.items():
            for value in values:
                what = f"{kind.__name__}({name}={value!r}) out of range"
                yield Mutation(what, "refuse", partial(built, kind=kind, values={name: value}))


WITHOUT_EFFECT: list[dict[str, Any]] = [
    *({"method": method, name: value}
      for method in ("pseudo-label", "supervised")
      for name, value in (("beta", 2.0), ("objective", objectives.IPO()), ("miner", miners.TopVsBase()),
                          ("reduction", "image"), ("supervised", 0.5), ("write_preferences", True))),
    {"method": "supervised", "control": True},
    {"beta": 2.0, "objective": objectives.IPO()},
    {"loss": contrib.objectives.Hinge()},
    {"method": "calibrated", "objective": objectives.IPO()},
]  # fmt: skip


def without_effect() -> Iterator[Mutation]:
    for number, values in enumerate(WITHOUT_EFFECT):
        what = f"{number}: {', '.join(values)} without effect"
        yield Mutation(what, "refuse", partial(built, kind=AlignConfig, values=values))


@pytest.mark.parametrize("mutation", labelled([*mutations(), *out_of_range(), *without_effect()]))
def test_settings(mutation: Mutation) -> None:
    hold(mutation, Path())
