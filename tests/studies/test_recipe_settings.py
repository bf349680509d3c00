"""What a recipe says of a training is the one configuration: a new setting is in recipes by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from segpref.objectives import DPO, CalibratedDPO
from segpref.preferences import TopVsBase
from segpref.studies import Recipe, Stage1, load_recipe
from segpref.studies.ambiguity import Alignment, FitStage, Peer, load_ambiguity_recipe
from segpref.studies.judging import ModelBased, Regressor
from segpref.studies.prompted import Align, StandIn, UNet, load_prompted
from segpref.studies.prompted import Stage1 as PromptedStage1
from segpref.training import (
    AlignConfig,
    AmbiguousConfig,
    DiffusionConfig,
    FitConfig,
    PromptableConfig,
    RegressorConfig,
    StrongAugmentation,
)
from segpref.types import SegprefError

HEAD: Mapping[str, Any] = {
    "name": "mine",
    "description": "a test",
    "split": {"judge": 2, "validation": 2, "test": 2},
    "network": {"module": "monai.networks.nets.UNet"},
    "bases": {"weak": {}},
    "judges": {"weak": {"class_path": "segpref.studies.judging.ModelBased"}},
    "methods": {"A": {}},
}
OTHERS: Mapping[str, Any] = {
    "augment": "none",
    "average": 0.5,
    "beta": 0.3,
    "feedback": {"kind": "rating"},
    "families": [{"class_path": "segpref.proposals.UniformOffset"}],
    "images": "labelled",
    "images_per_epoch": 7,
    "loss": {"class_path": "monai.losses.DiceLoss"},
    "miner": {"class_path": "segpref.preferences.TopVsBase"},
    "objective": {"class_path": "segpref.objectives.IPO"},
    "optimizer": "adamw",
    "parts": ["decoder"],
    "precision": "bf16",
    "proposal_precision": "bf16",
    "reduction": "image",
    "reference_logits": "uint8",
    "refresh": 3,
    "schedule": "halved",
    "log_with": [],
    "validation_sampler": {"steps": 3},
    "view": {},
}
"""A value other than the default, where that is no number or switch."""

EXCLUSIVE = {"method", "reference", "seed", "halve_every", "loss"}
"""Settings that are tested with others, or that a recipe refuses."""


def other(config: type, name: str) -> Any:
    """A value that a setting doesn't have by itself."""
    if name == "optimizer":
        return "adam" if getattr(config(), name) == "adamw" else "adamw"
    if name == "schedule":
        return "linear" if getattr(config(), name) == "halved" else "halved"
    if name == "method" and issubclass(config, FitConfig):
        return {"class_path": "segpref.training.semisupervised.FixMatch"}
    if name in OTHERS:
        return OTHERS[name]
    usual = getattr(config(), name)
    if isinstance(usual, bool):
        return not usual
    return usual + 1 if isinstance(usual, int) else usual / 2 + 0.1


def read(tmp_path: Path, changes: Mapping[str, Any]) -> Recipe:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**HEAD, **changes}))
    return load_recipe(path)[0]


def test_methods_have_every_setting_of_an_alignment(tmp_path: Path) -> None:
    names = [one.name for one in fields(AlignConfig) if one.name not in EXCLUSIVE]
    recipe = read(tmp_path, {"methods": {name: {name: other(AlignConfig, name)} for name in names}})
    for name in names:
        found = getattr(recipe.methods[name], name)
        assert found != getattr(AlignConfig(), name)
        # Built, and no part of YAML that nobody looked at.
        assert not isinstance(found, dict)
        assert (
            replace(recipe.methods[name], **{name: getattr(AlignConfig(), name)}) == AlignConfig()
        )


def test_a_method_has_what_all_share_but_for_its_own(tmp_path: Path) -> None:
    align = {"epochs": 3, "refresh": 2, "reference": "round", "miner": OTHERS["miner"]}
    methods = {"A": {}, "B": {"refresh": 1, "miner": None, "method": "supervised"}}
    recipe = read(tmp_path, {"align": align, "methods": methods})
    shared = AlignConfig(epochs=3, refresh=2, reference="round", miner=TopVsBase())
    assert recipe.align == recipe.methods["A"] == shared
    assert recipe.methods["B"] == replace(shared, refresh=1, miner=None, method="supervised")


def test_bases_and_judges_have_every_setting_of_stage_1(tmp_path: Path) -> None:
    names = [one.name for one in fields(FitConfig) if one.name not in ("seed", "halve_every")]
    stages = {name: {name: other(FitConfig, name)} for name in names}
    kind = "segpref.studies.judging.ModelBased"
    judges = {
        name: {"class_path": kind, "init_args": {"train_on": stage}}
        for name, stage in stages.items()
    }
    recipe = read(tmp_path, {"bases": stages, "judges": judges})
    for name in names:
        judge = recipe.judges[name]
        assert isinstance(judge, ModelBased)
        for stage in (recipe.bases[name], judge.train_on):
            found = getattr(stage, name)
            assert found != getattr(Stage1(), name)
            assert not isinstance(found, dict)
            assert replace(stage, **{name: getattr(Stage1(), name)}) == Stage1()


def test_settings_are_declared_once() -> None:
    for ours, theirs in (
        (Stage1, FitConfig),
        (Regressor, RegressorConfig),
        (FitStage, DiffusionConfig),
        (Peer, AmbiguousConfig),
        (Alignment, AlignConfig),
        (PromptedStage1, PromptableConfig),
        (StandIn, PromptableConfig),
        (UNet, FitConfig),
        (Align, AlignConfig),
    ):
        assert issubclass(ours, theirs)
        assert {f.name for f in fields(theirs)} <= {f.name for f in fields(ours)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"align": {"epochs": 0}}, "epochs must be at least 1, not 0"),
        ({"methods": {"A": {"average": 1}}}, "average must be at least 0 and below 1"),
        ({"bases": {"weak": {"labelled": 0}}}, "labelled must be at least 1, not 0"),
        ({"methods": {"A": {"seed": 3}}}, "methods: A: the seeds of a recipe are its own"),
        ({"bases": {"weak": {"seed": 3}}}, "bases: weak: the seeds of a recipe are its own"),
        (
            {
                "judges": {
                    "weak": {**HEAD["judges"]["weak"], "init_args": {"train_on": {"seed": 1}}}
                }
            },
            "judges: weak: train_on: the seeds of a recipe",
        ),
        ({"methods": {"A": {"flip_rate": 0.3}}}, "flip_rate of a method is control now"),
        ({"methods": {"A": {"signal": "preference", "method": "preference"}}}, "leave signal out"),
        (
            {
                "align": {"beta": 0.5},
                "methods": {"A": {"objective": {"class_path": "segpref.objectives.IPO"}}},
            },
            "beta has no effect beside an objective",
        ),
    ],
)
def test_mistakes_are_told(tmp_path: Path, changes: Mapping[str, Any], said: str) -> None:
    with pytest.raises(SegprefError, match=said):
        read(tmp_path, changes)


def test_keys_of_earlier_versions_are_taken(tmp_path: Path) -> None:
    old = {
        "align": {"pool": "labelled", "epochs": 3},
        "methods": {"A": {"signal": "pseudo-label"}, "B": {"flip_rate": 0.5}, "C": None},
    }
    new = {
        "align": {"images": "labelled", "epochs": 3},
        "methods": {"A": {"method": "pseudo-label"}, "B": {"control": True}, "C": {}},
    }
    recipe = read(tmp_path, old)
    assert recipe == read(tmp_path, new)
    assert recipe.methods["C"] == recipe.align == AlignConfig(images="labelled", epochs=3)


def test_keys_of_earlier_versions_of_the_other_studies(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    head = {"name": "mine", "description": "a test"}
    align = {"images": 5, "learning_rate": 1e-3}
    methods = {"A": {"learning_rate": None, "flip_rate": 0.5}, "B": {"learning_rate": 1e-4}}
    ambiguity = {"network": {}, "split": {}, "align": align, "methods": methods}
    path.write_text(yaml.safe_dump({**head, **ambiguity}))
    recipe = load_ambiguity_recipe(path)
    assert recipe.methods == {
        "A": Alignment(pool_images=5, learning_rate=1e-3, control=True),
        "B": Alignment(pool_images=5, learning_rate=1e-4),
    }
    spec = {"module": "monai.networks.nets.UNet", "arguments": {"spatial_dims": 2}}
    stage1 = {"batch_size": 3, "focal": 1.0, "unet": spec, "unet_epochs": 9}
    prompted = {"structure": "x", "stage1": stage1, "align": {"betas": [2.0, 1.0], "epochs": 4}}
    path.write_text(yaml.safe_dump({**head, **prompted}))
    found = load_prompted(path)[0]
    assert found.stage1 == PromptedStage1(batch_size=3, focal=1.0)
    assert (found.unet.epochs, found.unet.batch_size, found.unet.network.module) == (
        9, 3, spec["module"],
    )  # fmt: skip
    assert found.align.feedback is not None
    assert (found.align.epochs, found.align.feedback.betas) == (4, (2.0, 1.0))


def test_what_is_for_segmenters_is_refused_for_samples() -> None:
    for name, value in (
        ("supervised", 0.5),
        ("images", "labelled"),
        ("view", StrongAugmentation()),
    ):
        with pytest.raises(SegprefError, match=f"{name} is for segmenters"):
            Alignment(**{name: value})


def test_a_calibrated_method_is_spelled_out() -> None:
    short, plain = AlignConfig(method="calibrated").resolved(), AlignConfig(beta=2.0).resolved()
    assert short == AlignConfig(
        objective=CalibratedDPO(0.25), view=StrongAugmentation(), average=0.99
    )
    assert plain == AlignConfig(beta=2.0, average=0.0)
    assert [one.needs_flips for one in (short, plain)] == [True, False]
    named = AlignConfig(objective=CalibratedDPO(1.0, (0.1,), (0.2,)))
    assert not named.needs_flips
    with pytest.raises(SegprefError, match="objective has no effect with method supervised"):
        AlignConfig(method="supervised", objective=CalibratedDPO())
    assert AlignConfig(objective=DPO()).resolved().objective == DPO()


def test_halving_is_set_with_its_schedule(tmp_path: Path) -> None:
    halved = {"schedule": "halved", "halve_every": 3}
    recipe = read(tmp_path, {"bases": {"A": halved}, "methods": {"A": halved}})
    assert recipe.bases["A"] == Stage1(schedule="halved", halve_every=3)
    assert recipe.methods["A"] == AlignConfig(schedule="halved", halve_every=3)
