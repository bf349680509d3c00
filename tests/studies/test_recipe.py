from __future__ import annotations

from pathlib import Path

import pytest

from segpref.data import Preparation
from segpref.judges import OracleJudge
from segpref.objectives import DPO
from segpref.preferences import TopVsBase, TopVsRandom
from segpref.studies import default_network, load_recipe, plan, recipe_names
from segpref.studies.judging import ModelBased, Oracle
from segpref.training import AlignConfig, PreferenceSignal, PseudoLabelSignal, Signal, method_of
from segpref.types import LabelSpace, SegprefError

SPACE = LabelSpace("multi-class", ("background", "a"))

MINIMAL = """
name: mine
description: a test
split: {judge: 2, validation: 2, test: 0.5}
network: {module: monai.networks.nets.UNet}
bases: {weak: {}}
judges: {weak: {class_path: segpref.studies.judging.ModelBased}}
"""

METHODS = "methods: {A: {}}\n"


def signal_of(config: AlignConfig) -> Signal:
    return method_of(config, SPACE, OracleJudge(SPACE)).signal


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


EACH = [
    pytest.param(name, marks=[] if name in ("jsrt", "phantoms") else pytest.mark.slow)
    for name in recipe_names()
]


@pytest.mark.parametrize("name", EACH)
def test_every_recipe_that_comes_along_is_whole(name: str) -> None:
    recipe, settings = load_recipe(name)
    assert recipe.name == name
    assert settings["name"] == name
    assert recipe.seeds
    parts = {"validation"} if recipe.folds else {"validation", "test"}
    if any(not isinstance(judge, Oracle) for judge in recipe.judges.values()):
        parts.add("judge")
    assert parts <= set(recipe.split)
    for spec in (recipe.network, *(base.network for base in recipe.bases.values() if base.network)):
        network = spec.for_data(1, 4).build()
        assert sum(p.numel() for p in network.parameters()) > 1000
    for title, method in recipe.methods.items():
        signal = signal_of(method)
        if isinstance(signal, PreferenceSignal):
            regional = "RN-" in title or "region" in title
            assert signal.reduction == ("region" if regional else "image")
    tasks = plan(recipe)
    used = {task.method for task in tasks}
    assert used - {""} == set(recipe.methods)
    assert {task.judge for task in tasks} - {""} == set(recipe.judges)


def test_a_recipe_is_read_from_a_file(tmp_path: Path) -> None:
    more = """
preparation: {dims: 3, size: [8, 8, 4], normalise: z-score}
align: {candidates: 8}
methods:
  A:
    reduction: [power, 0.5]
    objective: {class_path: segpref.objectives.DPO, init_args: {beta: 0.25}}
    miner: {class_path: segpref.preferences.TopVsBase}
  B: {method: pseudo-label}
  C: {}
"""
    text = MINIMAL.replace("{weak: {}}", "{b: {labelled: 5, unit: cases, learning_rate: 2e-3}}")
    recipe, _ = load_recipe(write(tmp_path, text + more))
    assert recipe.preparation == Preparation(dims=3, size=(8, 8, 4), normalise="z-score")
    base = recipe.bases["b"]
    assert (base.labelled, base.unit, base.learning_rate) == (5, "cases", 2e-3)
    assert recipe.judges["weak"] == ModelBased()
    assert recipe.align.candidates == 8
    a, b, c = (signal_of(recipe.methods[name]) for name in "ABC")
    assert isinstance(a, PreferenceSignal)
    assert a.objective == DPO(beta=0.25)
    assert isinstance(a.miner, TopVsBase)
    assert tuple(a.reduction) == ("power", 0.5)
    assert isinstance(b, PseudoLabelSignal)
    assert c == PreferenceSignal(SPACE, TopVsRandom(), DPO(), "region")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a\n- b\n",
        "name: [",
        "name: mine\n",
        MINIMAL,
        MINIMAL + METHODS + "epochs: 3\n",
        MINIMAL.replace("weak: {}", "weak: {labelled: many}") + METHODS,
        MINIMAL.replace("judging.ModelBased", "judging.NoSuch") + METHODS,
        MINIMAL + "methods: {A: {reduction: sideways}}\n",
        MINIMAL + "methods: {A: {objective: {class_path: segpref.objectives.NoSuch}}}\n",
        MINIMAL + METHODS + "preparation: {dims: 2, crop: [3, 3, 3]}\n",
        MINIMAL + METHODS + "preparation: {dims: 4}\n",
    ],
)
def test_a_recipe_with_a_mistake_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SegprefError) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_lists_those_there_are(tmp_path: Path) -> None:
    for name in ("no-such", tmp_path / "no.yaml"):
        with pytest.raises(SegprefError, match=r"acdc-small, .*phantoms"):
            load_recipe(name)


def test_the_default_network_has_about_as_many_weights_as_it_says() -> None:
    network = default_network(2).for_data(1, 4).build()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(1.6e6, rel=0.1)


def test_a_method_is_rn_dpo_unless_told_otherwise() -> None:
    signal = signal_of(AlignConfig())
    assert isinstance(signal, PreferenceSignal)
    assert signal.reduction == "region"


def test_a_recipe_without_audits_plans_none(tmp_path: Path) -> None:
    text = MINIMAL + METHODS
    kinds = {task.kind for task in plan(load_recipe(write(tmp_path, text))[0])}
    without = load_recipe(write(tmp_path, text + "audits: false\n"))[0]
    assert kinds - {task.kind for task in plan(without)} == {"audit"}
    calibrated = "methods: {A: {objective: {class_path: segpref.objectives.CalibratedDPO}}}\n"
    refused = load_recipe(write(tmp_path, MINIMAL + calibrated + "audits: false\n"))[0]
    with pytest.raises(SegprefError, match="A needs the audit's flip rates"):
        plan(refused)
