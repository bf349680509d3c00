"""`segpref fit` and `align` with what goes beyond one supervised and one preference training."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from segpref.cli.main import main
from segpref.data.phantoms import write_phantoms
from segpref.policies import PolicySpec, load_model, read_card, save_model
from small_network import network_option

pytestmark = pytest.mark.slow

NETWORK = network_option()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    write_phantoms(folder / "data", "cardiac", (32, 32), 12, seed=0, slices_per_patient=2)
    assert fit(folder, "base", "--labelled", "2", "--dropout", "0.1") == 0
    return folder


def run(place: Path, command: str, out: str, *options: str) -> int:
    return main(
        [
            command, "--data", str(place / "data"), "--data_options",
            '{"patient_pattern": "(phantom\\\\d+)"}', "--out", str(place / out),
            "--images_per_epoch", "8", "--cache", str(place / "cache"), *options,
        ]
    )  # fmt: skip


def fit(place: Path, out: str, *options: str) -> int:
    return run(
        place, "fit", out, "--preparation.size", "[32, 32]", "--network", NETWORK,
        "--epochs", "2", *options,
    )  # fmt: skip


def test_a_base_goes_on_from_another_with_unlabelled_images(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = ["--split", str(place / "base" / "split.json"), "--labelled", "2"]
    start = ["--start", str(place / "base")]
    method = ["--method", "segpref.training.semisupervised.FixMatch"]
    assert fit(place, "supervised", *split, *start) == 0
    printed = _printed(capsys)
    assert "images of other training patients were not learned from" in printed
    assert f"fit --start {place / 'supervised'} --labelled 2 --unit patients --method" in printed
    assert fit(place, "all", *split[:2], *start) == 0
    assert "not learned from" not in _printed(capsys)
    assert fit(place, "judging", *split, "--part", "judge") == 0
    assert "not learned from" not in _printed(capsys)
    assert fit(place, "semi", *split, *start, *method) == 0
    assert "not learned from" not in _printed(capsys)
    summary = json.loads((place / "semi" / "summary.json").read_text())
    assert summary["method"] == "FixMatch"
    assert summary["labelled_patients"] == list(read_card(place / "base").labelled)
    assert summary["unlabelled_cases"] > summary["labelled_cases"]
    assert load_model(place / "semi")[0].digest() != load_model(place / "base")[0].digest()


def _printed(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_what_goes_on_is_as_its_start_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["--start", str(place / "base"), "--epochs", "1"]
    assert run(place, "fit", "longer", *start, "--learning_rate", "1e-6") == 0
    before, after = read_card(place / "base"), read_card(place / "longer")
    assert after.network == before.network
    assert after.preparation == before.preparation
    assert set(after.labelled) > set(before.labelled)  # --labelled was left out: all of train
    split = (place / "base" / "split.json").read_text()
    assert (place / "longer" / "split.json").read_text() == split
    # What is asked for is not passed over.
    assert run(place, "fit", "other", *start, "--preparation.size", "[16, 16]") == 1
    assert "has another preparation than the model" in " ".join(capsys.readouterr().err.split())
    # A mistake leaves the folder as free as it was.
    assert run(place, "fit", "other", *start, "--learning_rate", "1e-6") == 0


def test_a_start_of_another_kind_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing = tmp_path / "drawing.safetensors"
    card = replace(read_card(place / "base"), policy=PolicySpec("some.where.Drawing"))
    save_model(drawing, load_model(place / "base")[0].network, card)
    assert fit(place, "redrawn", "--start", str(drawing)) == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert "is not a plain segmenter (Drawing): start from one" in printed


def test_nobody_is_tested_on_whom_the_start_has_seen(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = json.loads((place / "base" / "split.json").read_text())
    known = read_card(place / "base").labelled[0]
    parts["train"].remove(known)
    parts["test"].append(known)
    split = place / "leaking.json"
    split.write_text(json.dumps(parts))
    start = ["--start", str(place / "base"), "--split", str(split)]
    assert fit(place, "leaked", *start) == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert f"patient {known} is in \"the start's labelled cases\" and in 'test'" in printed
    assert not (place / "leaked").exists()


def mapo(place: Path, out: str, rate: float, tau: float) -> int:
    rates = {"rates": [0.0, rate / 2, rate]}
    families = [{"class_path": "segpref.proposals.DropoutRates", "init_args": rates}]
    return run(
        place, "align", out, "--model", str(place / "base"), "--judge", "oracle",
        "--images", "labelled", "--reduction", "image", "--beta", "0.1", "--supervised", "0.5",
        "--miner", "segpref.preferences.Extremes", "--miner.tau", str(tau), "--refresh", "2",
        "--families", json.dumps(families), "--candidates", "3", "--epochs", "3",
    )  # fmt: skip


def test_mapo_as_a_command(
    place: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert mapo(place, "mapo", 0.4, 0.01) == 0
    printed = capsys.readouterr().err
    # Of rates above 0, once, and the share of images with a pair in both rounds.
    values = re.findall(r"pairwise Dice of (\.?[\d.]+) at 0.2, ([\d.]+) at 0.4 \(1: all", printed)
    assert len(values) == 1
    assert 1 > float(values[0][0]) > float(values[0][1]) > 0
    assert re.search(r"gave a pair, by round: \d+%, \d+%\.", printed)
    assert "smaller tau" not in printed
    assert not any("hardly differ" in record.message for record in caplog.records)
    with (place / "mapo" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))[1:]
    assert len(rows) == 3
    assert all(float(row["supervised_loss"]) > 0 for row in rows)
    assert 0 <= float(rows[0]["images_with_pair"]) <= 1
    summary = json.loads((place / "mapo" / "summary.json").read_text())
    base = json.loads((place / "base" / "summary.json").read_text())
    assert summary["pool_cases"] == base["labelled_cases"]
    assert yaml.safe_load((place / "mapo" / "config.yaml").read_text())["refresh"] == 2


def test_few_pairs_and_candidates_that_hardly_differ_are_told(
    place: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert mapo(place, "silent", 1e-6, 0.9) == 0
    printed = capsys.readouterr().err
    assert "pairwise Dice of 1.0000 at 5e-07, 1.0000 at 1e-06" in printed
    assert "gave a pair, by round: 0%, 0%." in printed
    assert "give the miner a smaller tau (--miner.tau)" in printed
    assert any("predictions that hardly differ" in record.message for record in caplog.records)


def test_what_to_try_where_nothing_was_gained(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(place, "good", "--labelled", "4", "--epochs", "30", "--learning_rate", "3e-3") == 0
    options = ["--model", str(place / "good"), "--judge", "oracle", "--candidates", "4"]
    capsys.readouterr()
    assert run(place, "align", "lost", *options, "--epochs", "1", "--learning_rate", "3") == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "Not shown" in printed  # so few patients show nothing, not even this
    assert "Keep the base." in printed
    assert "try --learning_rate 1e+00" in printed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--method", "segpref.training.semisupervised.FixMatch", "--dropout", "0.1"],
            "dropout is for",
        ),
        (["--start", "nowhere"], "nowhere"),
    ],
)
def test_what_does_not_go_together_is_refused(
    place: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(place, "refused", *options) != 0
    assert says in " ".join(capsys.readouterr().err.split())


def test_labels_are_asked_for_where_they_are_learned(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(place / "base"), "--judge", "oracle", "--feedback.kind", "rating"]
    assert run(place, "align", "both", *options, "--supervised", "0.5") != 0
    assert "no supervised part" in " ".join(capsys.readouterr().err.split())
