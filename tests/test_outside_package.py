"""A judge, an objective and a policy of somebody else, from the command line, YAML and Python."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import segpref
from segpref.cli.main import main
from segpref.trust import check
from small_network import network_option

pytestmark = pytest.mark.slow

MODULE = '''
"""What a researcher writes: one class each."""

from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from segpref import Segmenter

asked = {"judge": 0, "objective": 0, "policy": 0, "validation": 0, "prediction": 0}


class LargeMasks:
    """A judge that likes large masks."""

    needs_label = False

    def score(self, case, slate):
        asked["judge"] += 1
        return (slate.masks > 0).mean(axis=tuple(range(2, slate.masks.ndim)))


@dataclass(frozen=True)
class Squared:
    """An objective: the squared distance of the margin's growth to a target."""

    target: float = 1.0

    def __call__(self, margins):
        asked["objective"] += 1
        return (margins.difference - self.target) ** 2


class Calm(Segmenter):
    """A policy with logits, predictions of whole images and a validation of its own."""

    def __init__(self, network, label_space, temperature: float = 2.0):
        super().__init__(network, label_space)
        self.temperature = temperature
        self.whole = False

    def logits_of(self, output):
        asked["prediction" if self.whole else "policy"] += 1
        return super().logits_of(output) / self.temperature

    def whole_images(self, preparation, others=(), mirroring=(), overlap=0.5):
        model = copy(self)
        model.whole = True
        return model

    def validation(self, cases, whole):
        asked["validation"] += 1
        images = torch.from_numpy(np.stack([case.image for case in cases]))
        return {"val_iou": 0.25, "val_largest": float(whole.logits(images).abs().max())}
'''

POLICY = {"class_path": "outside_segpref.Calm", "init_args": {"temperature": 3.0}}
JUDGE = {"class_path": "outside_segpref.LargeMasks"}
OBJECTIVE = {"class_path": "outside_segpref.Squared", "init_args": {"target": 0.5}}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "outside_segpref.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SEGPREF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "_vouched", set())
    segpref.phantoms("data", size=(32, 32), patients=12)
    yield tmp_path
    sys.modules.pop("outside_segpref", None)


DATA = ["--data", "data", "--data_options", '{"patient_pattern": "(phantom\\\\d+)"}']
SHORT = {"epochs": 1, "images_per_epoch": 4, "batch_size": 2, "candidates": 6}


def options(**values: object) -> list[str]:
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def asked() -> dict[str, int]:
    found: dict[str, int] = importlib.import_module("outside_segpref").asked
    return dict(found)


def figures(run: str) -> list[dict[str, float]]:
    with (Path(run) / "metrics.csv").open() as file:
        return [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]


def check_own_figures(*names: str) -> None:
    """The runs were measured as the policy says, not by the mean IoU."""
    for name in names:
        rows = figures(name)
        assert [row["val_iou"] for row in rows] == [0.25, 0.25]
        assert all(row["val_largest"] > 0 for row in rows)


def test_from_the_command_line(place: Path) -> None:
    fit = ["fit", *DATA, "--out", "base", "--labelled", "2", "--preparation.size", "[32, 32]"]
    fit += ["--network", network_option(), "--policy", json.dumps(POLICY), "--epochs", "1"]
    assert main(fit) == 0
    assert asked()["validation"] == 2
    check_own_figures("base")
    model = ["--model", "base", "--trust"]
    judge = ["--judge", json.dumps(JUDGE)]
    before = asked()
    assert main(["audit", *DATA, *model, *judge, "--candidates", "6"]) == 0
    assert asked()["prediction"] > before["prediction"]
    before = asked()
    align = ["align", *DATA, *model, *judge, "--objective", json.dumps(OBJECTIVE), "--out", "tuned"]
    assert main([*align, *options(**SHORT)]) == 0
    assert all(asked()[name] > before[name] for name in before)
    check_own_figures("tuned")
    tuned, before = ["--model", "tuned", "--trust"], asked()
    assert main(["evaluate", *DATA, *tuned]) == 0
    evaluated = asked()
    assert evaluated["prediction"] > before["prediction"]
    assert main(["predict", *tuned, "--input", "data/images", "--output", "masks"]) == 0
    assert asked()["prediction"] > evaluated["prediction"]
    assert asked()["policy"] == before["policy"]
    assert len(list((place / "masks").iterdir())) == len(list((place / "data/images").iterdir()))


def test_from_yaml_and_from_python(place: Path) -> None:
    outside = importlib.import_module("outside_segpref")
    data = segpref.phantoms("data", size=(32, 32), patients=12)
    network = segpref.NetworkSpec(**json.loads(network_option()))
    base = segpref.fit(
        data, out="base", labelled=2, network=network, policy=segpref.PolicySpec(**POLICY),
        preparation=segpref.Preparation(size=(32, 32)), epochs=1,
    )  # fmt: skip
    tuned = segpref.align(
        base, data, judge=outside.LargeMasks(), objective=outside.Squared(0.5), out="python",
        trust=True, **SHORT,
    )  # fmt: skip
    content = {
        "model": "base", "data": "data", "data_options": {
            "patient_pattern": r"(phantom\d+)", "names": ["background", "RV", "MYO", "LV"],
        },
        "judge": JUDGE, "objective": OBJECTIVE, "out": "yaml", "trust": True, **SHORT,
    }  # fmt: skip
    (place / "align.yaml").write_text(yaml.safe_dump(content))
    assert main(["align", "--config", "align.yaml"]) == 0
    last = [(place / name / "last.safetensors").read_bytes() for name in ("python", "yaml")]
    assert last[0] == last[1]
    check_own_figures("base", "python", "yaml")
    before = asked()
    assert segpref.audit(base, data, judge=outside.LargeMasks(), trust=True).judge.slates
    assert segpref.evaluate(tuned, data, trust=True).mean("dice")
    assert segpref.predict(tuned, "data/images", "masks", trust=True)
    assert asked()["prediction"] > before["prediction"]
    assert asked()["policy"] == before["policy"]
