"""Two people's walks with the wheel alone, by the commands of the pages that are for them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import rankdata
from tests.release.installed import Installed
from tests.release.walks import before_the_hospital, block, commands
from tests.web.voters import Voter, enter

from segpref.data import read_csv

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
VOTES = {
    ("predict", "--report"): ["--flag_rate", "0.4"],
    ("init",): ["--images", "8", "--pairs_per_image", "2", "--candidates", "12"],
    ("align",): ["--epochs", "2", "--images_per_epoch", "16"],
}
LOSS = {
    ("fit",): ["--images_per_epoch", "32"],
    ("align",): ["--images_per_epoch", "16", "--candidates", "8"],
    ("audit",): ["--candidates", "8"],
}
IMPORTED = "import json, segpref, sys; print(json.dumps([segpref.__file__, sys.path]))"
READ_BACK = """
import glob, json
import highdicom, numpy, pydicom, segpref
from segpref.data import Images, SeriesRule, open_dataset
segpref.predict("runs/voted", "EXPORT", "plain", series=SeriesRule(description="cine short*"))
labels = open_dataset("EXPORT", labels="../segs-voted")
masks = Images("plain")
masks = {one.id: masks.read(one).image for one in masks.sources()}
told = {"images": [], "files": [], "differ": 0, "voxels": 0}
for source in labels.sources():
    label = labels.read(source).label
    told["images"].append(source.patient)
    told["differ"] += int((label != masks[source.id]).sum())
    told["voxels"] += int((label > 0).sum())
for path in sorted(glob.glob("segs-voted/*.dcm")):
    seg = highdicom.seg.segread(path)
    plain = pydicom.dcmread(path)
    told["files"].append({
        "segments": [seg.get_segment_description(n).segment_label for n in seg.segment_numbers],
        "sources": [one.SeriesInstanceUID for one in plain.ReferencedSeriesSequence],
        "patient": plain.PatientID,
        "study": plain.StudyInstanceUID,
    })
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Walked:
    """What is there after a walk.

    Args:
        one: the programs, and the folder that they ran in.
        said: what each command printed, by its words up to the first option.
        votes: that were acknowledged.
    """

    one: Installed
    said: dict[str, str]
    votes: int = 0

    @property
    def folder(self) -> Path:
        """Where the commands ran."""
        return self.one.folder

    def read(self, name: str) -> Any:
        """The content of a JSON file."""
        return json.loads((self.folder / name).read_text())


@pytest.fixture(scope="module")
def hospital_walk(more_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    """An engineer with an export from the PACS, and a radiologist who votes on the page."""
    folder = tmp_path_factory.mktemp("hospital")
    one, said, votes = Installed(more_programs, folder), {}, 0
    for words in before_the_hospital(folder):
        one.run(*words)
    todo = commands("pacs-and-a-radiologist.md", VOTES)
    raters = next(words for words in todo if "raters" in words)
    for words in todo:
        if words is raters:  # the address is known when the page is served
            continue
        if "serve" in words:
            with one.serving(words[-1]) as address:
                told = one.run(*raters, "--address", address)
                found = re.search(r"anna +http\S+#(\S+)", told)
                assert found, told
                voter = Voter(address, enter(address, found[1]))
                voter.vote_all()
                voter.client.close()
                votes = len(voter.acknowledged)
            continue
        said[" ".join(words[1:4])] = one.run(*words)
    return Walked(one, said, votes)


@pytest.fixture(scope="module")
def loss_walk(more_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    """A doctoral student with a loss in a file of their own."""
    folder = tmp_path_factory.mktemp("loss")
    for name, language in (("newloss.py", "python"), ("newloss.yaml", "yaml")):
        (folder / name).write_text(block("new-loss.md", language))
    one = Installed(more_programs, folder, PYTHONPATH=".")
    todo = commands("new-loss.md", LOSS)
    return Walked(one, {" ".join(words[1:4]): one.run(*words) for words in todo})


@pytest.mark.parametrize("walk", ["hospital_walk", "loss_walk"])
def test_nothing_comes_from_the_source_tree(
    walk: str, request: pytest.FixtureRequest, more_programs: Path
) -> None:
    walked: Walked = request.getfixturevalue(walk)
    file, path = json.loads(walked.one.run("python", "-c", IMPORTED))
    assert Path(file).is_relative_to(more_programs.parent)
    assert not any(Path(one).is_relative_to(ROOT) for one in path if one)


def test_what_was_taken_and_what_to_look_at_first(hospital_walk: Walked) -> None:
    series = read_csv(hospital_walk.folder / "segs" / "series.csv")
    taken = [row for row in series if row["state"] == "taken"]
    assert (len(series), len(taken)) == (32, 8)
    assert {row["description"] for row in taken} == {"Cine short axis"}
    assert {row["why"] for row in series if row not in taken} == {
        "a localizer",
        "description Cine 4 chamber",
        "description T2 map",
    }
    quality = read_csv(hospital_walk.folder / "quality" / "quality.csv")
    assert len(quality) == 8 * 3
    for structure in ("RV", "MYO", "LV"):
        own = [row for row in quality if row["structure"] == structure]
        scores, sure = (
            [float(row[name]) for row in own] for name in ("judge_score", "model_confidence")
        )
        places = rankdata(scores) + rankdata(sure)
        assert places.tolist() == sorted(places)
    first = read_csv(hospital_walk.folder / "quality" / "look-first.csv")
    assert {row["series_uid"] for row in first} <= {row["series"] for row in taken}
    assert first


def test_the_votes_are_about_these_and_were_learned_from(hospital_walk: Walked) -> None:
    first = {row["id"] for row in read_csv(hospital_walk.folder / "quality" / "look-first.csv")}
    items = hospital_walk.read("study/contents.json")["items"]
    asked = [one for one in items if one["use"] in ("train", "choose")]
    assert {one["volume"] for one in asked} <= first
    assert all(one["patient"].startswith("MRN") for one in asked)
    report = hospital_walk.read("study/report.json")
    assert report["normal_votes"] == report["wanted_votes"] > 0
    assert hospital_walk.votes >= report["votes"] >= report["normal_votes"]
    told = {name: hospital_walk.read(f"runs/{name}/summary.json") for name in ("voted", "control")}
    assert told["voted"]["votes"]["preferences"] > 0
    runs = hospital_walk.folder / "runs"
    weights = {name: (runs / name / "last.safetensors").read_bytes() for name in told}
    assert weights["voted"] != weights["control"]
    for name in ("base.csv", "voted.csv"):
        assert len({row["patient"] for row in read_csv(hospital_walk.folder / name)}) == 5


def test_the_masks_of_the_pacs_are_read_back_as_what_was_predicted(hospital_walk: Walked) -> None:
    told = json.loads(hospital_walk.one.run("python", "-c", READ_BACK))
    assert sorted(told["images"]) == [f"MRN{number:04d}" for number in range(8)]
    assert told["voxels"] > 0
    assert told["differ"] == 0
    assert told["files"] == [
        {
            "segments": ["RV", "MYO", "LV"],
            "sources": [f"1.9.{number + 1}.1"],
            "patient": f"MRN{number:04d}",
            "study": f"1.9.{number + 1}",
        }
        for number in range(8)
    ]


def test_a_loss_of_ones_own_ends_in_a_table_and_a_network(loss_walk: Walked) -> None:
    folder = loss_walk.folder
    weights = []
    for run in ("new", "control"):
        kept = (folder / "runs" / run / "config.yaml").read_text()
        assert "class_path: newloss.Clipped" in kept
        assert "class_path: newloss.Round" in kept
        weights.append((folder / "runs" / run / "last.safetensors").read_bytes())
        assert read_csv(folder / f"{run}.csv")
    assert weights[0] != weights[1]
    study = folder / "runs" / "newloss"
    values = {value for row in read_csv(study / "tables.csv") for value in row.values()}
    assert {"DPO", "New"} <= values
    for name in ("tables.md", "tables.tex", "report.html", "seed-0", "seed-1"):
        assert (study / name).exists(), name
    assert (folder / "new.onnx").stat().st_size > 0
    assert any("worth using" in text or "harm" in text for text in loss_walk.said.values())
