from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segpref.data import Cache, Preparation, Reader, Split
from segpref.objectives import DPO
from segpref.policies import read_card
from segpref.proposals import SlateProposals
from segpref.studies.comparison import BASE, SELECT_BEST, Comparison, compare
from segpref.studies.recipe import Method, Recipe, Stage1, Stage2
from segpref.studies.tables import difference, markdown, table
from segpref.types import SegprefError


@pytest.fixture(scope="module")
def recipe(tiny_unet: Any) -> Recipe:
    return Recipe(
        name="tiny",
        description="a test",
        split={"judge": 2, "validation": 2, "test": 3},
        network=tiny_unet(None, in_channels=None),
        preparation=Preparation(dims=2, size=(32, 32)),
        base=Stage1(labelled=2, epochs=4, images_per_epoch=16, learning_rate=2e-2),
        judge=Stage1(labelled=4, unit="cases", epochs=4, images_per_epoch=16, learning_rate=2e-2),
        align=Stage2(epochs=2, images_per_epoch=8, candidates=8),
        methods={
            "Top-1 pseudo-labelling": Method(signal="pseudo-label"),
            "RN-DPO": Method(objective=DPO(beta=1.5), learning_rate=1e-3),
        },
        seeds=[0, 1],
    )


@pytest.fixture(scope="module")
def finished(
    recipe: Recipe, heart_reader: Reader, store: Cache, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Comparison, Path]:
    out = tmp_path_factory.mktemp("compare") / "out"
    return compare(recipe, heart_reader, out, store), out


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_every_method_is_there_for_every_seed(finished: tuple[Comparison, Path]) -> None:
    comparison, out = finished
    assert comparison.methods == [BASE, SELECT_BEST, "Top-1 pseudo-labelling", "RN-DPO"]
    split = Split.load(out / "split.json")
    for method in comparison.methods:
        runs = comparison.of(method)
        assert [run.seed for run in runs] == [0, 1]
        for run in runs:
            assert {row["patient"] for row in run.test} == set(split.test)
            assert bool(run.test_last) == (method not in (BASE, SELECT_BEST))
    assert set(comparison.audits) == {0, 1}
    assert all(0 <= found["judge"]["pair_flip"] <= 1 for found in comparison.audits.values())


def test_a_second_call_trains_nothing_and_says_the_same(
    finished: tuple[Comparison, Path], recipe: Recipe, heart_reader: Reader, store: Cache
) -> None:
    comparison, out = finished
    before = times(out)
    again = compare(recipe, heart_reader, out, store)
    assert times(out) == before
    assert markdown(table(again)) == markdown(table(comparison))
    assert difference(again, "RN-DPO", BASE) == difference(comparison, "RN-DPO", BASE)


def test_a_lost_file_is_made_again_and_is_the_same(
    finished: tuple[Comparison, Path], recipe: Recipe, heart_reader: Reader, store: Cache
) -> None:
    comparison, out = finished
    scores, model = out / "seed-1" / "test" / "rn-dpo.csv", out / "seed-1" / "rn-dpo"
    content, weights = scores.read_bytes(), (model / "last.safetensors").read_bytes()
    scores.unlink()
    for name in ("summary.json", "state.safetensors", "last.safetensors", "best.safetensors"):
        (model / name).unlink()
    again = compare(recipe, heart_reader, out, store)
    assert scores.read_bytes() == content
    assert (model / "last.safetensors").read_bytes() == weights
    assert markdown(table(again)) == markdown(table(comparison))


def test_nobody_is_in_two_roles(finished: tuple[Comparison, Path]) -> None:
    _, out = finished
    split = Split.load(out / "split.json")
    bases = [read_card(out / f"seed-{seed}" / "base") for seed in (0, 1)]
    judges = [read_card(out / f"seed-{seed}" / "judge") for seed in (0, 1)]
    assert all(set(card.labelled) <= set(split.train) for card in bases)
    assert all(set(card.labelled) <= set(split.judge) for card in judges)
    assert all(len(card.labelled) == 2 for card in bases)
    assert bases[0].labelled != bases[1].labelled


def test_base_and_judge_do_not_start_alike(finished: tuple[Comparison, Path], hearts: Any) -> None:
    from segpref.policies import load_model

    _, out = finished
    assert load_model(out / "seed-0" / "base")[0].digest() != (
        load_model(out / "seed-0" / "judge")[0].digest()
    )


def test_fewer_seeds_may_be_asked_for(
    finished: tuple[Comparison, Path], recipe: Recipe, heart_reader: Reader, store: Cache
) -> None:
    _, out = finished
    part = compare(recipe, heart_reader, out, store, seeds=[1])
    assert {run.seed for run in part.runs} == {1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"align": Stage2(epochs=3, images_per_epoch=8, candidates=8)},
            "begun with other settings",
        ),
        ({"methods": {"RN-DPO": Method(learning_rate=9e-3)}}, "begun with other settings"),
        ({"base": Stage1(labelled=3)}, "begun with other settings"),
        ({"preparation": Preparation(dims=2, crop=(32, 32))}, "with another preparation"),
        (
            {"methods": {"A b": Method(), "a-b": Method()}},
            "would share its folder with that of A b",
        ),
        ({"methods": {"Base": Method()}}, "would share its folder with that of segpref itself"),
    ],
)
def test_a_recipe_that_was_changed_is_not_mixed_with_the_old_one(
    changes: dict[str, Any], said: str, finished: tuple[Comparison, Path], recipe: Recipe,
    heart_reader: Reader, store: Cache,
) -> None:  # fmt: skip
    _, out = finished
    before = times(out)
    with pytest.raises(SegprefError, match=said):
        compare(replace(recipe, **changes), heart_reader, out, store)
    assert times(out) == before


def test_proposals_may_be_given(
    recipe: Recipe, heart_reader: Reader, store: Cache, tmp_path: Path
) -> None:
    from segpref.proposals import UniformOffset

    one = replace(recipe, methods={}, seeds=[0])
    found = compare(
        one, heart_reader, tmp_path, store, proposals=SlateProposals(4, [UniformOffset()])
    )
    families = [family["family"] for family in found.audits[0]["families"]]
    assert len(families) == 2
    assert families[0] == "anchor"
