"""Models on data whose label files hold other values, or other structures than they know."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from relabelled_hearts import FOREIGN, HEART, HEART_INPUT, foreign, rewritten, valued
from segpref import align, audit, evaluate, fit, predict
from segpref.cli.main import main
from segpref.data import read_csv
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.judges import OracleJudge
from segpref.policies import load_model
from segpref.types import Candidate, Case, LabelSpace, SegprefError, Slate

pytestmark = pytest.mark.slow

PATTERN = {"patient_pattern": PATIENT_PATTERN}
KNOWN = {"data_options": {**PATTERN, "names": list(HEART)}}
MAPPED: dict[str, Any] = {"data_options": PATTERN, "labels": FOREIGN}
LV: dict[str, Any] = {"data_options": PATTERN, "labels": {"LV": 1}}
SHORT: dict[str, Any] = {"epochs": 1, "images_per_epoch": 4}


@pytest.fixture(scope="module", autouse=True)
def _no_reports() -> Iterator[None]:
    """Pages take longer than these runs."""
    with pytest.MonkeyPatch.context() as patch:
        fitting = import_module("segpref.workflows.fit")
        patch.setattr(fitting, "write_report", lambda folder: folder.path)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, heart_folder: Path) -> Path:
    """Datasets of the same images: with other values, and with one structure of three."""
    root = tmp_path_factory.mktemp("others")
    rewritten(heart_folder, root / "foreign", foreign)
    rewritten(heart_folder, root / "lv", valued({3: 1}))
    names = [f"phantom{number:03d}" for number in range(12)]
    parts = {"train": names[:6], "judge": [], "validation": names[6:9], "test": names[9:]}
    parts["train"], parts["judge"] = [*names[:2], *names[4:6]], names[2:4]
    (root / "split.json").write_text(json.dumps(parts))
    return root


@pytest.fixture(scope="module")
def usual(root: Path) -> dict[str, Any]:
    return {"split": root / "split.json", "cache": root / "cache"}


@pytest.mark.parametrize("grid", ["image", "network"])
def test_scores_are_those_of_a_dataset_written_anew(
    root: Path, usual: dict[str, Any], heart_folder: Path, heart_base: Path, grid: Any
) -> None:
    same = evaluate(heart_base, heart_folder, grid=grid, **KNOWN, **usual).rows
    found = evaluate(heart_base, root / "foreign", grid=grid, **MAPPED, **usual).rows
    assert text(found) == text(same)


@pytest.mark.parametrize("grid", ["image", "network"])
def test_structures_without_labels_have_no_scores(
    root: Path,
    usual: dict[str, Any],
    heart_folder: Path,
    heart_base: Path,
    grid: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    every = evaluate(heart_base, heart_folder, grid=grid, **KNOWN, **usual).rows
    found = evaluate(heart_base, root / "lv", grid=grid, **LV, **usual).rows
    assert text(found) == text([row for row in every if row["structure"] == "LV"])
    assert "say nothing of RV, MYO: scores and reports leave them out" in " ".join(
        capsys.readouterr().err.split()
    )


def text(rows: Any) -> str:
    """NaN equals NaN."""
    return json.dumps(rows, sort_keys=True)


def test_an_audit_is_that_of_a_dataset_written_anew(
    root: Path, usual: dict[str, Any], heart_folder: Path, heart_base: Path, heart_judge: Path
) -> None:
    given: dict[str, Any] = {"judge": heart_judge, "candidates": 8, **usual}
    same = audit(heart_base, heart_folder, **given, **KNOWN).as_dict()
    assert text(audit(heart_base, root / "foreign", **given, **MAPPED).as_dict()) == text(same)
    part = audit(heart_base, root / "lv", **given, **LV)
    assert [one.structure for one in part.structures] == ["LV"]
    (own,) = (one for one in same["structures"] if one["structure"] == "LV")
    assert part.structures[0].empty_truth == own["empty_truth"]


def test_the_oracle_is_right_about_what_it_knows(
    root: Path, usual: dict[str, Any], heart_base: Path, tmp_path: Path
) -> None:
    """It would not be if it or the figures took unknown structures for absent ones."""
    given: dict[str, Any] = {"judge": "oracle", "candidates": 8, **usual, **LV}
    found = audit(heart_base, root / "lv", **given)
    judge = found.as_dict()["judge"]
    assert (judge["pair_flip"], judge["harm_top"], judge["regret"]) == (0, 0, 0)
    assert judge["headroom"] > 0
    own = {"part": "validation", "grid": "network", **usual, **LV}
    rows = evaluate(heart_base, root / "lv", **own).rows
    # Empty against empty is perfect in an audit, and no score in a table.
    each = [1.0 if math.isnan(float(row["iou"])) else float(row["iou"]) for row in rows]
    assert found.base_quality == pytest.approx(np.mean(each), abs=1e-9)
    align(heart_base, root / "lv", out=tmp_path / "run", **given, **SHORT)
    last = curve(tmp_path / "run")[-1]
    assert float(last["pairs_per_image"]) > 0
    assert float(last["pair_flip"]) == 0


def test_an_unlabelled_structure_costs_nothing() -> None:
    """Of three candidates, one with a structure that the label says nothing of."""
    space = LabelSpace("multi-class", HEART, unlabelled=("RV", "MYO"))
    label = np.array([[[3, 3, 0, 0]]], np.uint8)
    masks = np.array([[[[3, 3, 0, 0]]], [[[3, 3, 1, 2]]], [[[3, 0, 0, 0]]]], np.uint8)
    image = np.zeros((1, 1, 4), np.float32)
    case = Case(id="a", patient="a", volume="a", image=image, label=label)
    scores = OracleJudge(space).score(case, Slate(masks, (Candidate("anchor"),) * 3))
    assert scores[:, 0].tolist() == [1, 1, 0.5]


@pytest.mark.parametrize("judge", ["oracle", "model"])
def test_an_alignment_is_that_of_a_dataset_written_anew(
    root: Path,
    usual: dict[str, Any],
    heart_folder: Path,
    heart_base: Path,
    heart_judge: Path,
    tmp_path: Path,
    judge: str,
) -> None:
    given = {**usual, **SHORT, "judge": "oracle" if judge == "oracle" else heart_judge}
    given |= {"method": "calibrated"} if judge == "model" else {}
    align(heart_base, heart_folder, out=tmp_path / "same", **given, **KNOWN)
    align(heart_base, root / "foreign", out=tmp_path / "mapped", **given, **MAPPED)
    for name in ("best.safetensors", "last.safetensors", "verdict.json"):
        assert (tmp_path / "mapped" / name).read_bytes() == (tmp_path / "same" / name).read_bytes()
    same, mapped = (curve(tmp_path / name) for name in ("same", "mapped"))
    assert mapped == same
    kept = yaml.safe_load((tmp_path / "mapped" / "config.yaml").read_text())
    assert kept["labels"] == FOREIGN
    assert "| Values in the label files | RV 5, MYO 2, LV [9, 4] |" in (
        tmp_path / "mapped" / "model-card.md"
    ).read_text().replace("\\", "")


def curve(run: Path) -> Any:
    """Figures of every epoch, without their times."""
    rows = read_csv(run / "metrics.csv")
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


@pytest.fixture(scope="module")
def part(
    root: Path, usual: dict[str, Any], heart_base: Path, heart_judge: Path
) -> tuple[Path, dict[str, Any]]:
    """An alignment of a model of three structures with labels of one."""
    given = {**usual, **SHORT, "judge": heart_judge}
    align(heart_base, root / "lv", out=root / "part", **given, **LV)
    return root / "part", given


def test_an_alignment_is_measured_by_the_structures_with_labels(
    part: tuple[Path, dict[str, Any]], usual: dict[str, Any], heart_folder: Path
) -> None:
    run, _ = part
    given = {"part": "validation", "grid": "network", **KNOWN, **usual}
    scores = evaluate(run, heart_folder, **given).mean("iou")
    last = curve(run)[-1]
    assert float(last["val_iou"]) == pytest.approx(scores["LV"], abs=1e-6)
    assert not math.isclose(scores["LV"], np.mean(list(scores.values())), abs_tol=1e-3)
    assert list(json.loads((run / "verdict.json").read_text())["structures"]) == ["LV"]
    # The model still knows all of them.
    assert load_model(run)[1].label_space.names == HEART
    assert load_model(run)[1].label_space.unlabelled == ()


@pytest.mark.parametrize("labels", [{"RV": 1}, {"MYO": [1]}, None])
def test_a_run_goes_on_with_its_own_mapping(
    part: tuple[Path, dict[str, Any]], root: Path, heart_base: Path, labels: Any
) -> None:
    run, given = part
    with pytest.raises(SegprefError, match=r"begun with other settings \(labels\)|--labels"):
        align(heart_base, root / "lv", out=run, resume=True, **{**given, **LV, "labels": labels})
    for same in ({"LV": 1}, {"LV": [1]}):
        align(heart_base, root / "lv", out=run, resume=True, **{**given, **LV, "labels": same})


def test_labels_of_some_structures_are_no_supervision(
    root: Path, usual: dict[str, Any], heart_base: Path, tmp_path: Path
) -> None:
    mapo = {"judge": "oracle-dice", "images": "labelled", "supervised": 0.5, **SHORT}
    with pytest.raises(SegprefError, match="those of the pool say nothing of RV, MYO: name"):
        align(heart_base, root / "lv", out=tmp_path / "run", **mapo, **usual, **LV)


def test_a_judge_that_knows_fewer_structures(
    root: Path,
    usual: dict[str, Any],
    heart_base: Path,
    tmp_path: Path,
    tiny_unet: Callable[..., Any],
) -> None:
    made = {"preparation": HEART_INPUT, "network": tiny_unet(2), "part": "judge", **SHORT}
    judge = fit(root / "lv", out=tmp_path / "judge", **made, **usual, **LV)
    with pytest.raises(SegprefError, match="knows LV alone, and the masks that it would compare"):
        align(heart_base, root / "lv", judge=judge, out=tmp_path / "run", **usual, **LV)


def test_a_training_is_that_of_a_dataset_written_anew(
    root: Path,
    usual: dict[str, Any],
    heart_folder: Path,
    tmp_path: Path,
    tiny_unet: Callable[..., Any],
) -> None:
    rewritten(heart_folder, tmp_path / "anew", valued({2: 1, 1: 2, 3: 3}))
    names = ["background", "MYO", "RV", "LV"]
    own = {"data_options": {**PATTERN, "names": names}}
    made = {"preparation": HEART_INPUT, "network": tiny_unet(4), **SHORT, **usual}
    fit(tmp_path / "anew", out=tmp_path / "same", **made, **own)
    fit(root / "foreign", out=tmp_path / "mapped", **made, **MAPPED)
    (one, plain), (other, card) = (load_model(tmp_path / name) for name in ("same", "mapped"))
    for name, value in one.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[name], value), name
    assert card.label_space == plain.label_space
    # Masks lie beside the labels of the dataset.
    assert card.label_space.on_disk == (0, 2, 5, 9)


def test_a_start_does_not_forget_what_labels_say_nothing_of(
    root: Path, usual: dict[str, Any], heart_base: Path, tmp_path: Path
) -> None:
    given = {"start": heart_base, **SHORT, **usual}
    with pytest.raises(SegprefError, match="knows RV, MYO, which the labels say nothing of"):
        fit(root / "lv", out=tmp_path / "run", **given, **LV)
    done = fit(root / "foreign", out=tmp_path / "run", **given, **MAPPED)
    assert load_model(done.out)[1].label_space.names == HEART


def test_other_labels_without_a_mapping_are_refused(
    root: Path, usual: dict[str, Any], heart_base: Path
) -> None:
    with pytest.raises(SegprefError, match="or name the values of its structures in the label fil"):
        evaluate(heart_base, root / "foreign", data_options=PATTERN, **usual)


def test_a_mapping_from_the_command_line_and_from_yaml(
    root: Path, usual: dict[str, Any], heart_base: Path, tmp_path: Path
) -> None:
    line = ["evaluate", "--data", str(root / "foreign"), "--model", str(heart_base)]
    line += ["--data_options", json.dumps(PATTERN), "--split", str(usual["split"])]
    line += ["--cache", str(usual["cache"])]
    config = tmp_path / "labels.yaml"
    config.write_text("labels:\n  RV: 5\n  MYO: 2\n  LV: [9, 4]\n")
    told = {"line": ["--labels", "{RV: 5, MYO: 2, LV: [9, 4]}"], "yaml": ["--config", str(config)]}
    for name, some in told.items():
        assert main([*line, *some, "--out", str(tmp_path / f"{name}.csv")]) == 0
    evaluate(heart_base, root / "foreign", out=tmp_path / "python.csv", **MAPPED, **usual)
    found = {(tmp_path / f"{name}.csv").read_bytes() for name in ("line", "yaml", "python")}
    assert len(found) == 1


def test_masks_have_the_values_of_the_model(
    heart_base: Path, heart_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(SegprefError, match="and masks have those of the model: give --validation"):
        predict(heart_base, heart_folder / "images", tmp_path / "masks", labels={"LV": 1})


def test_a_quality_report_is_about_structures_with_labels(
    root: Path, fair_hearts: tuple[Path, Path], heart_folder: Path, tmp_path: Path
) -> None:
    base, judge = fair_hearts
    given: dict[str, Any] = {"judge": judge, "cache": root / "cache"}
    images = heart_folder / "images"

    def report(name: str, data: Path | str, **labels: Any) -> tuple[Any, Any]:
        place = tmp_path / name
        predict(base, images, tmp_path / "masks", validation=data, report=place, **given, **labels)
        return json.loads((place / "calibration.json").read_text()), read_csv(place / "quality.csv")

    same, rows = report("same", heart_folder, **KNOWN)
    assert {row["structure"] for row in rows} == {"RV", "MYO", "LV"}
    found, lines = report("lv", root / "lv", **LV)
    assert found["structures"] == {"LV": same["structures"]["LV"]}
    assert {row["structure"] for row in lines} == {"LV"}
    _, kept = report("kept", tmp_path / "lv" / "calibration.json")
    assert kept == lines
