"""The wheel in an empty environment: what it holds, and a round of votes without a network.

The wheel and the packages that it needs are installed as a user does, so these tests ask the index of
packages that pip is set up with. What follows runs in a network namespace, in which nothing but this
machine is reached.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.web.conftest import CHROMIUM, missing

from segpref.collect import StudyFolder, VoteStore, ratings_of
from segpref.preferences import RecordedPairs, flip_rates

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
NAMESPACE = (("unshare", "--net"), ("unshare", "--map-root-user", "--net"))
"""How a process gets a network of its own: with the rights of an administrator, or as a user."""


def namespace() -> Sequence[str]:
    """The beginning of a command that has a network of its own."""
    for one in NAMESPACE:
        if (
            shutil.which(one[0])
            and not subprocess.run([*one, "true"], capture_output=True).returncode
        ):
            return one
    pytest.skip(
        "a network namespace is not permitted here, so nothing can be run without a network"
    )


@dataclass(frozen=True)
class Round:
    """What happened.

    Args:
        folder: where the commands ran.
        told: what ``offline_round`` printed.
    """

    folder: Path
    told: dict[str, Any]


@pytest.fixture(scope="module")
def played(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Round:
    """A round of votes, from the phantoms to the scores of the model that learned from them."""
    if CHROMIUM is None:
        missing("Chromium")
    folder = tmp_path_factory.mktemp("round")
    command = [*namespace(), sys.executable, "-m", "tests.release.offline_round"]
    done = subprocess.run(
        [*command, str(programs), str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Round(folder, json.loads(done.stdout))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    source = ROOT / "src"
    there = {
        str(path.relative_to(source))
        for path in (source / "segpref").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in held if name.split("/")[0].endswith(".dist-info")}
    assert held - about == there
    assert {"segpref/py.typed", "segpref/web/static/index.html"} <= held
    assert any(name.endswith("licenses/LICENSE") for name in about)
    (metadata,) = (name for name in about if name.endswith("/METADATA"))
    description = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "# segpref" in description
    assert not re.search(r"\]\((?!https:)", description)
    kinds = Counter(Path(name).suffix for name in held - about)
    assert min(kinds[one] for one in (".yaml", ".js", ".css", ".j2")) > 0


def test_it_runs_without_a_network_and_without_the_source_tree(
    played: Round, programs: Path
) -> None:
    assert not played.told["reached outside"]
    imported = played.told["imported"]
    assert Path(imported["segpref"]).is_relative_to(programs.parent)
    assert not any(Path(one).is_relative_to(ROOT) for one in imported["path"] if one)


def test_the_demo_needs_the_wheel_alone(programs: Path, tmp_path: Path) -> None:
    """No network and no repository; one seed, for time."""
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home"), "LANG": "C.UTF-8"}
    variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "2")
    command = [*namespace(), str(programs / "segpref"), "demo", "--seeds", "[0]"]
    subprocess.run(command, cwd=tmp_path, env=variables, check=True)
    table = (tmp_path / "runs/demo/tables.md").read_text()
    for method in ("Base", "Top-1 pseudo-labelling", "DPO", "RN-DPO"):
        assert f"| {method} |" in table
    assert (tmp_path / "runs/demo/report.html").stat().st_size > 0


def test_the_page_asks_its_own_origin_only(played: Round) -> None:
    page = played.told["page"]
    assert page["origins"] == [page["address"]]
    assert page["requests"] > len(page["answers"]) > 0
    assert page["errors"] == []


def test_every_answer_is_a_vote(played: Round) -> None:
    answers = played.told["page"]["answers"]
    assert {one["status"] for one in answers} == {201}
    counted = [one["choice"] for one in answers if not one["practice"]]
    assert len(answers) - len(counted) == 3
    assert f" {len(counted)} " in played.told["raters"]  # and none left
    report = json.loads((played.folder / "study" / "report.json").read_text())
    assert (report["mode"], report["votes"], list(report["raters"])) == (
        "pair",
        len(counted),
        ["anna"],
    )
    told = Counter("tie" if one == "tie" else "decided" for one in counted)
    assert report["raters"]["anna"]["answers"] == told
    assert report["normal_votes"] == report["wanted_votes"]
    assert played.told["report"].startswith(
        f"{report['normal_votes']} of {report['wanted_votes']} "
    )
    assert (played.folder / "study" / "report.html").stat().st_size > 0


def test_the_model_has_learned_from_these_votes(played: Round) -> None:
    study, run = StudyFolder(played.folder / "study"), played.folder / "runs/voted"
    with VoteStore(study.database) as store:
        learned, held = store.preferences("train"), store.preferences("choose")
        rates = flip_rates(ratings_of(list(store.votes())))
    assert len(learned) > 0
    told = json.loads((run / "summary.json").read_text())["votes"]
    assert (told["preferences"], told["held out"]) == (len(learned), len(held))
    report = json.loads((study.path / "report.json").read_text())
    assert told["preferences"] + told["held out"] == report["normal_votes"]
    kept = json.loads((run / "run.json").read_text())["learns_from"]
    assert kept["base"] == study.note.model_digest
    assert kept["records"] == RecordedPairs.of(learned, flip_rates=rates).digest()
    base = (played.folder / "runs/base/best.safetensors").read_bytes()
    assert (run / "last.safetensors").read_bytes() != base
    assert yaml.safe_load((run / "config.yaml").read_text())["votes"] == "study"
    for name in ("best.safetensors", "report.html", "verdict.json"):
        assert (run / name).stat().st_size > 0


def test_it_is_scored_on_the_test_patients(played: Round) -> None:
    split = json.loads((played.folder / "runs/voted/split.json").read_text())
    with (played.folder / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["patient"] for row in rows} == set(split["test"])
    assert len({row["structure"] for row in rows}) == 3
    dice = [float(row["dice"]) for row in rows]
    assert all(0 <= one <= 1 for one in dice if not math.isnan(one))
    assert max(dice) > 0.1
