"""The report of a study: files, the terminal, pseudonyms alone, beside an open database."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from tests.collect.simulated_votes import Habits, simulated_votes
from tests.collect.studies import HEART, small_study, untrained
from tests.vote_studies import vote_all, welcome

from segpref.cli.main import main
from segpref.collect import Contents, Rules, VoteIn, VoteStore
from segpref.data import Folders
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.types import SegprefError
from segpref.workflows import report_study


def _study(folder: Path) -> VoteStore:
    """A study with a database in which one rater has answered most."""
    rows = simulated_votes({"a": Habits()}, images=12, pairs_per_image=2, gold=0, repeats=0)
    contents = Contents(
        items=tuple({row.item.id: row.item for row in rows}.values()),
        masks=tuple({one.id: one for row in rows for one in row.masks}.values()),
        pairs=tuple({row.pair.id: row.pair for row in rows}.values()),
    )
    folder.mkdir()
    store = VoteStore(folder / "votes.sqlite")
    store.create(contents, rules=Rules(repeats=0))
    rater = store.rater_of(store.enter(store.add_rater("heron")))
    assert rater is not None
    rng = np.random.default_rng(0)
    for number in range(20):
        asked = store.next_assignment(rater)
        if asked is None:
            break
        store.mark_opened(rater, asked.id, "image")
        store.mark_opened(rater, asked.id, "masks")
        choice = ("left", "right", "tie")[int(rng.integers(3))]
        store.vote(
            rater,
            VoteIn(uuid=str(UUID(int=number)), assignment=asked.id, choice=choice, shown_ms=5000),  # type: ignore[arg-type]
        )
    return store


@pytest.mark.slow
def test_judges_are_compared_with_raters(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    with VoteStore(study.database) as store:
        store.create(study.contents(), Rules(repeats=0.0))
        vote_all(store, welcome(store))
    judges = ["oracle", untrained(tmp_path / "judge.safetensors", "phantom001", seed=1)]
    data = Folders(tmp_path / "data", names=HEART, patient_pattern=PATIENT_PATTERN)
    made = report_study(
        study.path, judges=judges, data=data, cache=tmp_path / "cache", resamples=20
    )
    told = {one.judge: one for one in made.figures.judges}
    assert told.keys() == {"oracle", "judge.safetensors"}
    assert all(0 <= one.agreement.value <= 1 for one in told.values())
    assert "judge.safetensors" in (study.path / "report.html").read_text()


@pytest.mark.slow
def test_the_report_is_written_while_the_database_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = _study(tmp_path / "study")
    assert main(["collect", "report", str(tmp_path / "study"), "--resamples", "50"]) == 0
    printed = capsys.readouterr().out
    assert "20 of 24 votes of 1 rater" in printed
    assert "heron" in printed
    page = (tmp_path / "study" / "report.html").read_text()
    assert "Who voted" in page
    assert 'src="http' not in page
    content = json.loads((tmp_path / "study" / "report.json").read_text())
    assert content["normal_votes"] == 20
    assert content["raters"]["heron"]["seconds"]["median"] == 5.0
    assert content["base_or_tuned"] is None
    with (tmp_path / "study" / "raters.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["rater"], line["votes"]) for line in lines] == [("heron", "20")]
    with (tmp_path / "study" / "strengths.csv").open() as file:
        assert {line["of"] for line in csv.DictReader(file)} == {"family"}
    written = page + json.dumps(content)
    # Cases and patients are named nowhere.
    assert not any(f">{name}<" in written or f'"{name}"' in written for name in ("p0", "c0", "v0"))
    store.close()


def test_it_goes_elsewhere_if_asked_and_reads_no_more_than_it_must(tmp_path: Path) -> None:
    store = _study(tmp_path / "study")
    before = sorted(path.name for path in (tmp_path / "study").iterdir())
    found = report_study(tmp_path / "study", out=tmp_path / "report", resamples=20)
    assert found.folder == tmp_path / "report"
    assert sorted(path.name for path in (tmp_path / "study").iterdir()) == before
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"report.html", "report.json", "raters.csv", "strengths.csv"}
    # Votes that come later are in the next report.
    assert found.figures.votes == 20
    store.close()


def test_no_study_and_no_database_are_said(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match="there is no folder"):
        report_study(tmp_path / "none")
    with pytest.raises(SegprefError, match="holds no study"):
        report_study(tmp_path)
