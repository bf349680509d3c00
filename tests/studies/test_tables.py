from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from segpref.report import (
    COLUMNS,
    JUDGE_COLUMNS,
    SWEEP_COLUMNS,
    Difference,
    Entries,
    Run,
    TableRow,
    as_csv,
    judge_table,
    latex,
    markdown,
    rich_table,
    round_table,
    structure_table,
    table,
)
from segpref.report import difference as paired

STRUCTURES = ("a", "b")


def run(method: str, seed: int, ious: np.ndarray, **more: Any) -> Run:
    """``ious [patient, structure]``; two volumes per patient with the same scores."""
    rows: list[dict[str, Any]] = [
        {
            "volume": f"p{patient}-{time}", "patient": f"p{patient}", "structure": name,
            "iou": float(value), "dice": float(2 * value / (1 + value)),
        }
        for time in range(2)
        for patient, values in enumerate(ious)
        for name, value in zip(STRUCTURES, values, strict=True)
    ]  # fmt: skip
    last = rows if more.pop("last", False) else []
    return Run(method, "weak", "weak", seed, (), Path(method), more, rows, last)


def comparison(*runs: Run) -> Entries:
    return {
        name: [one for one in runs if one.method == name] for name in {r.method: 0 for r in runs}
    }


def difference(entries: Entries, method: str, other: str) -> Difference:
    found = paired(entries, method, other)
    assert found is not None
    return found


def gains(mean: float, spread: float, patients: int = 20, seeds: int = 3) -> Entries:
    rng = np.random.default_rng(0)
    runs = []
    for seed in range(seeds):
        base = rng.uniform(0.3, 0.6, (patients, 2))
        gain = rng.normal(mean, spread, (patients, 1))
        runs += [run("Base", seed, base), run("New", seed, base + gain)]
    return comparison(*runs)


def test_a_real_gain_is_better() -> None:
    found = difference(gains(0.05, 0.03), "New", "Base")
    assert found.better
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(0.05, abs=0.02)
    assert found.seeds_better == found.seeds == 3
    other_way = difference(gains(0.05, 0.03), "Base", "New")
    assert not other_way.better
    assert other_way.mean == pytest.approx(-found.mean)


def test_no_gain_is_not_better() -> None:
    same = difference(gains(0.0, 0.0), "New", "Base")
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    assert not same.better
    assert not difference(gains(0.0, 0.05), "New", "Base").better


def test_one_seed_that_disagrees_spoils_it() -> None:
    base = np.full((20, 2), 0.5)
    runs = [run("Base", seed, base) for seed in range(3)]
    runs += [run("New", seed, base + gain) for seed, gain in enumerate((0.2, 0.2, -0.01))]
    found = difference(comparison(*runs), "New", "Base")
    assert found.low > 0
    assert found.seeds_better == 2
    assert not found.better


def test_the_interval_is_over_patients() -> None:
    """Against an own bootstrap, with seeds averaged inside each patient first."""
    rng = np.random.default_rng(5)
    base, gain = rng.uniform(0.2, 0.5, (3, 15, 2)), rng.normal(0.02, 0.1, (3, 15, 2))
    runs = [run("Base", s, base[s]) for s in range(3)]
    runs += [run("New", s, base[s] + gain[s]) for s in range(3)]
    found = difference(comparison(*runs), "New", "Base")
    values = gain.mean(axis=(0, 2))
    means = np.random.default_rng(1).choice(values, (20_000, 15)).mean(axis=1)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(np.quantile(means, 0.025), abs=0.002)
    assert found.high == pytest.approx(np.quantile(means, 0.975), abs=0.002)
    assert found == difference(comparison(*runs), "New", "Base")


def test_what_only_one_method_draws_counts_for_the_other() -> None:
    base = np.array([[0.5, math.nan], [0.5, 0.5]])
    drew = np.array([[0.5, 0.0], [0.5, 0.5]])
    found = difference(comparison(run("Base", 0, drew), run("New", 0, base)), "New", "Base")
    assert found.mean == pytest.approx((0.5 + 0) / 2)


def test_patients_that_a_seed_says_nothing_about() -> None:
    one, gap = np.full((3, 2), 0.5), np.full((3, 2), 0.5)
    gap[2] = math.nan
    for order in ((gap, one), (one, gap)):
        runs = [run(m, s, v) for s, v in enumerate(order) for m in ("Base", "New")]
        assert difference(comparison(*runs), "New", "Base").mean == 0


def test_a_single_patient_proves_nothing() -> None:
    runs = comparison(run("Base", 0, np.full((1, 2), 0.2)), run("New", 0, np.full((1, 2), 0.9)))
    found = difference(runs, "New", "Base")
    assert found.mean == pytest.approx(0.7)
    assert math.isnan(found.low)
    assert not found.better


@pytest.fixture
def three() -> Entries:
    runs = []
    for seed, value in enumerate((0.4, 0.5)):
        runs.append(run("Base", seed, np.full((4, 2), value)))
        figures = {
            "val_iou_peak": value + 0.1,
            "tail_avg": value + 0.02,
            "drift": 0.1 + 0.02 * seed,
        }
        runs.append(run("DPO", seed, np.full((4, 2), value + 0.01), last=True, **figures))
        figures = {"val_iou_peak": value + 0.2, "tail_avg": value + 0.05, "drift": 0.01}
        runs.append(run("RN-DPO", seed, np.full((4, 2), value + 0.1), last=True, **figures))
    return comparison(*runs)


def test_means_and_spread_over_seeds(three: Entries) -> None:
    base, dpo, rn = table(three)
    assert [row.method for row in (base, dpo, rn)] == ["Base", "DPO", "RN-DPO"]
    assert [row.seeds for row in (base, dpo, rn)] == [2, 2, 2]
    assert base.figures["IoU"] == pytest.approx((0.45, np.std([0.4, 0.5], ddof=1)))
    assert base.figures["Dice"][0] == pytest.approx(np.mean([0.8 / 1.4, 1 / 1.5]))
    assert math.isnan(base.figures["TailAvg"][0])
    assert math.isnan(base.figures["IoU last"][0])
    assert dpo.figures["Drift"] == pytest.approx((0.11, np.std([0.1, 0.12], ddof=1)))
    assert rn.figures["TailAvg"][0] == pytest.approx(0.5)
    assert rn.figures["IoU last"] == pytest.approx(rn.figures["IoU"])


def test_the_best_of_a_column_is_bold(three: Entries) -> None:
    head, line, base, dpo, rn = markdown(table(three)).splitlines()
    assert head == "| Method | " + " | ".join(COLUMNS) + " |"
    assert line.count("---") == len(COLUMNS) + 1
    cells = {
        name: row.strip("| ").split(" | ") for name, row in zip("bdr", (base, dpo, rn), strict=True)
    }
    assert cells["b"] == ["Base", "0.450 ± 0.071", "–", "–", "–", cells["b"][5]]
    assert cells["r"][1] == "**0.550 ± 0.071**"
    # Drift is better when lower; every other column when higher.
    assert cells["r"][4] == "**0.010 ± 0.000**"
    assert "**" not in base + dpo


def test_what_is_no_merit_is_never_bold() -> None:
    figures = (
        {"Empty": 0.3, "GED": 0.2, "Seconds": 9.0},
        {"Empty": 0.4, "GED": 0.3, "Seconds": 8.0},
    )
    rows = [
        TableRow(str(n), 1, {name: (value, np.nan) for name, value in one.items()})
        for n, one in enumerate(figures)
    ]
    first, second = markdown(rows, None).splitlines()[2:]
    assert first == "| 0 | 0.300 | **0.200** | 9.000 |"
    assert second == "| 1 | 0.400 | 0.300 | **8.000** |"


def test_one_seed_has_no_spread() -> None:
    (row,) = table(comparison(run("Base", 0, np.full((2, 2), 0.4))))
    assert row.figures["IoU"][0] == pytest.approx(0.4)
    assert math.isnan(row.figures["IoU"][1])
    assert "| 0.400 |" in markdown([row])


def test_the_terminal_shows_the_same(three: Entries) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(rich_table(table(three), "title"))
    text = console.export_text()
    for cell in ("0.450 ± 0.071", "0.550 ± 0.071", "RN-DPO", "–"):
        assert cell in text
    assert "*" not in text


def test_settings_are_chosen_by_the_mean_of_peak_and_tail(three: Entries) -> None:
    dpo = table(three)[1]
    assert dpo.figures["Peak"][0] == pytest.approx(0.55)
    assert dpo.figures["Score"][0] == pytest.approx((0.55 + 0.47) / 2)
    head, _, _, _, best = markdown(table(three), SWEEP_COLUMNS).splitlines()
    assert head == "| Method | Score | Peak | TailAvg | Drift |"
    assert best.count("**") == 2 * len(SWEEP_COLUMNS)


def test_csv_and_latex_say_the_same(three: Entries) -> None:
    rows = table(three)
    lines = list(csv.DictReader(io.StringIO(as_csv([("t", rows)]))))
    assert [line["row"] for line in lines if line["figure"] == "IoU"] == ["Base", "DPO", "RN-DPO"]
    (rn,) = [line for line in lines if line["row"] == "RN-DPO" and line["figure"] == "IoU"]
    assert (rn["table"], rn["seeds"], float(rn["mean"])) == ("t", "2", pytest.approx(0.55))
    assert float(rn["sd"]) == pytest.approx(np.std([0.5, 0.6], ddof=1), abs=1e-5)
    assert not any(line["row"] == "Base" and line["figure"] == "TailAvg" for line in lines)
    text = latex(rows)
    assert r"RN-DPO & \textbf{0.550 $\pm$ 0.071}" in text
    assert text.count(r"\\") == 4
    assert text.splitlines()[0] == r"\begin{tabular}{lrrrrr}"


def test_structures_and_judges_have_tables_of_their_own(three: Entries) -> None:
    _, _, rn = structure_table(three)
    assert rn.figures == {
        name: pytest.approx((0.55, np.std([0.5, 0.6], ddof=1))) for name in STRUCTURES
    }
    figures = dict.fromkeys(JUDGE_COLUMNS.values(), 0.25)
    audits = {"weak": [{"judge": figures}], "strong": [{"judge": {**figures, "pair_flip": 0.1}}]}
    weak, strong = judge_table(audits)
    assert weak.figures["PairFlip"][0] == 0.25
    text = markdown([weak, strong], None)
    assert "**0.100**" in text  # fewer flips are better
    assert text.startswith("| Method | HarmTop |")


def test_methods_without_a_common_seed_are_not_compared() -> None:
    runs = comparison(run("Base", 0, np.full((3, 2), 0.2)), run("New", 1, np.full((3, 2), 0.9)))
    assert paired(runs, "New", "Base") is None


def test_a_distance_is_better_when_it_is_shorter() -> None:
    def with_distance(method: str, seed: int, shift: float) -> Run:
        made = run(method, seed, np.full((6, 2), 0.5))
        for number, row in enumerate(made.test):
            row["assd_mm"] = 2 + number / 10 + shift  # type: ignore[index]
        # Where one of the two has no surface there is nothing to compare.
        made.test[0]["assd_mm"] = math.nan if method == "New" else 9.0  # type: ignore[index]
        return made

    entries = comparison(
        *(with_distance(m, s, d) for s in (0, 1) for m, d in (("Base", 0.0), ("New", -0.5)))
    )
    found = paired(entries, "New", "Base", "assd")
    assert found is not None
    assert found.mean == pytest.approx(-0.5)
    assert found.better
    assert found.seeds_better == 2
    other = paired(entries, "Base", "New", "assd")
    assert other is not None
    assert not other.better
    assert table(entries)[1].figures["ASSD"][0] < table(entries)[0].figures["ASSD"][0]


def test_seeds_count_over_the_volumes_that_both_have() -> None:
    """A method that misses the hardest volume is not better for it."""

    def with_distance(method: str, seed: int, shift: float) -> Run:
        made = run(method, seed, np.full((4, 2), 0.5))
        for number, row in enumerate(made.test):
            row["assd_mm"] = 1.0 + shift + 50.0 * (number == 0)  # type: ignore[index]
        if method == "New":
            made.test[0]["assd_mm"] = math.inf  # type: ignore[index]
        return made

    entries = comparison(
        *(with_distance(m, s, d) for s in (0, 1) for m, d in (("Base", 0.0), ("New", 0.5)))
    )
    found = paired(entries, "New", "Base", "assd")
    assert found is not None
    assert found.mean == pytest.approx(0.5)
    assert found.seeds_better == 0
    base, new = (row.figures for row in table(entries))
    assert new["ASSD"][0] < base["ASSD"][0]
    # Beside it stands what it missed: 1 of 4 patients x 2 structures x 2 volumes.
    assert (base["Missed"][0], new["Missed"][0]) == (0, 1 / 16)


def test_the_share_of_images_with_a_pair_by_round() -> None:
    def history(*shares: float) -> list[dict[str, float]]:
        return [{"val_iou": 0.5}, *({"images_with_pair": share} for share in shares)]

    histories = {
        "MAPO": [history(0.2, 0.4, 0.1, 0.1), history(0.4, 0.6, 0.3, 0.3)],
        "Supervised": [[{"val_iou": 0.5}, {"val_iou": 0.6}]],
    }
    (row,) = round_table(histories, 2)
    assert (row.method, row.seeds) == ("MAPO", 2)
    assert [row.figures[f"Round {n}"][0] for n in (1, 2)] == pytest.approx([0.4, 0.2])
