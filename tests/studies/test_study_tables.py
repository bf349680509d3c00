from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from segpref.objectives import DPO
from segpref.policies import NetworkSpec
from segpref.report import BASE, COLUMNS, GAP_CLOSED, SELECT_BEST, Run, latex, markdown
from segpref.studies import Block, Recipe, Results, Stage1, check_names, plan, study_tables
from segpref.studies.judging import ModelBased, Oracle
from segpref.training import AlignConfig
from segpref.types import SegprefError


def recipe(*grid: Block, ceiling: str | None = "RN") -> Recipe:
    return Recipe(
        name="r",
        description="",
        split={},
        network=NetworkSpec("torch.nn.Conv2d", {}),
        bases={"weak": Stage1(), "semi": Stage1(start="weak")},
        judges={"model": ModelBased(), "oracle": Oracle()},
        methods={"DPO": AlignConfig(reduction="image"), "RN": AlignConfig(objective=DPO(beta=1.5))},
        grid=list(grid),
        seeds=[0, 1],
        ceiling=ceiling,
    )


def run(method: str, base: str, judge: str, seed: int, iou: float) -> Run:
    rows = [
        {"volume": p, "patient": p, "structure": "a", "iou": iou + change, "dice": iou}
        for p, change in (("p", -0.1), ("q", 0.1))
    ]
    return Run(method, base, judge, seed, (), Path(method), {}, rows, [])


RUNS = (
    run(BASE, "weak", "", 0, 0.4), run(BASE, "weak", "", 1, 0.5),
    run(BASE, "semi", "", 0, 0.6), run(BASE, "semi", "", 1, 0.6),
    run(SELECT_BEST, "weak", "model", 0, 0.45), run(SELECT_BEST, "weak", "model", 1, 0.45),
    run("RN", "weak", "model", 0, 0.5), run("RN", "weak", "model", 1, 0.6),
    run("RN", "weak", "oracle", 0, 0.7),
    run("RN", "semi", "model", 0, 0.5),
)  # fmt: skip


def results(*grid: Block, ceiling: str | None = "RN") -> Results:
    return Results(recipe(*grid, ceiling=ceiling), RUNS, {}, {})


def test_methods_of_one_base_and_judge_stand_together() -> None:
    (one,) = study_tables(results(Block(bases=["weak"], judges=["model"])))
    assert one.title == "weak base, model judge"
    assert list(one.entries) == [BASE, SELECT_BEST, "RN"]
    assert [(claim.method, claim.other) for claim in one.claims] == [
        ("RN", BASE),
        (SELECT_BEST, BASE),
    ]
    assert one.claims[0].mean == pytest.approx(0.1)
    assert one.columns == (*COLUMNS, GAP_CLOSED)


def test_the_gap_is_closed_on_the_seeds_that_all_have() -> None:
    (one,) = study_tables(results(Block(bases=["weak"], judges=["model"])))
    closed = {row.method: row.figures[GAP_CLOSED][0] for row in one.rows}
    # Only seed 0 has an oracle: (0.5 - 0.4) / (0.7 - 0.4).
    assert closed["RN"] == pytest.approx(1 / 3)
    assert closed[BASE] == 0
    (other,) = study_tables(results(Block(bases=["semi"], judges=["model"])))
    assert all(math.isnan(row.figures[GAP_CLOSED][0]) for row in other.rows)
    (plain,) = study_tables(results(Block(bases=["weak"], judges=["model"]), ceiling=None))
    assert plain.columns == COLUMNS
    assert all(math.isnan(row.figures[GAP_CLOSED][0]) for row in plain.rows)


def test_a_block_has_its_own_seeds_alone() -> None:
    block = Block(bases=["weak"], judges=["model"], seeds=[0])
    (one,) = study_tables(results(block))
    assert {row.seeds for row in one.rows} == {1}
    assert one.rows[-1].figures["IoU"][0] == pytest.approx(0.5)
    (asked,) = study_tables(replace(results(block), seeds=[1]))
    assert asked.rows[-1].figures["IoU"][0] == pytest.approx(0.6)


def test_a_row_of_fewer_seeds_says_so() -> None:
    (one,) = study_tables(results(Block(bases=["semi"], judges=["model"])))
    for text in (markdown(one.rows), latex(one.rows)):
        assert "RN (1 seed)" in text
        assert "Base (" not in text
    (all_told,) = study_tables(results(Block(bases=["weak"], judges=["model"])))
    assert "seed" not in markdown(all_told.rows)


def test_bases_stand_together_with_what_is_made_of_them() -> None:
    block = Block("Bases", judges=["model"], methods=["RN"], compare="bases")
    (one,) = study_tables(results(block))
    assert list(one.entries) == [
        "weak base", "Select-best on the weak base", "RN on the weak base",
        "semi base", "RN on the semi base",
    ]  # fmt: skip
    assert [(c.method, c.other) for c in one.claims] == [
        ("RN on the semi base", "semi base"),
        ("semi base", "weak base"),
        ("RN on the weak base", "weak base"),
        ("Select-best on the weak base", "weak base"),
    ]
    assert one.claims[1].seeds == 2
    assert one.claims[1].mean == pytest.approx(0.15)
    # All start from the first base's labels, so its gap is the one to close: (0.5 - 0.4) / (0.7 - 0.4).
    closed = {row.method: row.figures[GAP_CLOSED][0] for row in one.rows}
    assert closed["RN on the semi base"] == pytest.approx(1 / 3)


def test_the_first_claim_is_about_the_proposed_method() -> None:
    """Whatever comes after it: the first claim of the first table is the verdict of the page."""
    found = results(Block(bases=["weak"], judges=["model"], methods=["RN", "DPO"]))
    ran = (*RUNS, *(run("DPO", "weak", "model", seed, 0.3) for seed in (0, 1)))
    for proposed in ("RN", "DPO"):
        recipe = replace(found.recipe, proposed=proposed)
        (one,) = study_tables(replace(found, runs=ran, recipe=recipe))
        assert (one.claims[0].method, one.claims[0].other) == (proposed, BASE)
        assert len(one.claims) == 5


def test_other_bases_must_beat_the_proposed_method_on_the_first() -> None:
    found = results(Block("Bases", judges=["model"], methods=["RN"], compare="bases"))
    (one,) = study_tables(replace(found, recipe=replace(found.recipe, proposed="RN")))
    claims = {(claim.method, claim.other): claim.mean for claim in one.claims}
    # Seed 0 alone has both.
    assert claims["RN on the semi base", "RN on the weak base"] == pytest.approx(0.0)


def test_bases_and_judges_stand_together() -> None:
    found = results(Block("Better", bases=["weak", "semi"], methods=["RN"], compare="all"))
    (one,) = study_tables(replace(found, recipe=replace(found.recipe, proposed="RN")))
    assert [name for name in one.entries if name.startswith("RN")] == [
        "RN on the weak base, model judge", "RN on the weak base, oracle judge",
        "RN on the semi base, model judge",
    ]  # fmt: skip
    claims = {(claim.method, claim.other): claim.mean for claim in one.claims}
    first = "RN on the weak base, model judge"
    assert claims["RN on the weak base, oracle judge", first] == pytest.approx(0.2)
    assert claims["RN on the semi base, model judge", first] == pytest.approx(0.0)


def test_judges_stand_together() -> None:
    grid = (
        Block("Main", bases=["weak"], judges=["model"]),
        Block("Judges", bases=["weak"], compare="judges"),
    )
    _, one = study_tables(results(*grid))
    assert one.title == "Judges"
    assert list(one.entries) == [
        BASE, "Select-best, model judge", "RN, model judge", "RN, oracle judge",
    ]  # fmt: skip
    claims = {(claim.method, claim.other): claim.mean for claim in one.claims}
    # Seed 0 alone has both.
    assert claims["RN, oracle judge", "RN, model judge"] == pytest.approx(0.2)


def test_a_part_of_the_grid_is_found_by_its_title() -> None:
    grid = (
        Block("Main (Table 3)", bases=["weak"], judges=["model"]),
        Block("Judges (Table 5)", bases=["weak"], judges=["oracle"]),
    )
    whole = plan(recipe(*grid))
    part = plan(recipe(*grid), only=["table 5"])
    assert {task.judge for task in part if task.kind == "run"} == {"oracle"}
    assert set(part) < set(whole)
    with pytest.raises(
        SegprefError, match=r"no part of the recipe has Table 9 in its title; .*Main"
    ):
        plan(recipe(*grid), only=["Table 9"])


def test_the_proposed_method_is_compared_with_the_others() -> None:
    found = results(Block(bases=["weak"], judges=["model"]))
    (one,) = study_tables(replace(found, recipe=replace(found.recipe, proposed="RN")))
    assert [(claim.method, claim.other) for claim in one.claims] == [
        ("RN", BASE),
        (SELECT_BEST, BASE),
        ("RN", SELECT_BEST),
    ]


@pytest.mark.parametrize("what", ["ceiling", "proposed"])
def test_the_study_is_about_a_method_that_it_has(what: str) -> None:
    with pytest.raises(SegprefError, match=rf"`{what}` is 'XX'.*DPO, RN"):
        check_names(replace(recipe(), **{what: "XX"}))


def test_parts_of_which_nothing_was_run_are_left_out() -> None:
    asked = Block(title="RN", bases=["weak"], judges=["model"], methods=["RN"])
    other = Block(title="DPO", bases=["weak"], judges=["model"], methods=["DPO"])
    bases = Block(title="Bases", bases=["weak", "semi"], judges=[], compare="bases")
    assert [one.title.split(",")[0] for one in study_tables(results(asked, other, bases))] == [
        "RN",
        "Bases",
    ]
    # Where no method was run at all, the base is shown.
    assert [one.entries.keys() for one in study_tables(results(other))] == [{BASE, SELECT_BEST}]


def test_controls_come_last_and_claims_are_about_methods() -> None:
    controlled = recipe(Block(bases=["weak"], judges=["model"]))
    methods = {**controlled.methods, "chance": AlignConfig(objective=DPO(beta=1.5), control=True)}
    runs = (*RUNS, run("chance", "weak", "model", 0, 0.45), run("chance", "weak", "model", 1, 0.5))
    found = Results(replace(controlled, methods=methods), runs, {}, {})
    (one,) = study_tables(found)
    assert one.controls == ["chance"]
    assert [(claim.method, claim.other) for claim in one.claims] == [
        ("RN", BASE),
        (SELECT_BEST, BASE),
        ("RN", "chance"),
        ("chance", BASE),
    ]
    (without,) = study_tables(results(Block(bases=["weak"], judges=["model"])))
    assert without.controls == []
    alone = replace(recipe(Block(compare="bases"), ceiling=None), judges={}, methods={})
    (bases,) = study_tables(Results(alone, RUNS[:4], {}, {}))
    assert bases.controls is None


def test_structures_are_measured_as_the_recipe_asks() -> None:
    dice = replace(recipe(Block(bases=["weak"], judges=["model"])), measures=["iou", "dice"])
    (one,) = study_tables(Results(dice, RUNS, {}, {}))
    assert list(one.structures) == ["iou", "dice"]
    assert one.structures["dice"][0].figures == {
        "a": (pytest.approx(0.45), pytest.approx(0.0707, abs=1e-4))
    }
