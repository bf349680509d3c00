"""Votes that go out to files and come back: an equal store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.collect.studies import small_study

from segpref.cli.main import main
from segpref.collect import Assignment, StudyFolder, VoteStore
from segpref.preferences import PreferenceFolder
from segpref.types import SegprefError
from segpref.workflows import export_votes, import_votes
from vote_studies import Clock, ballot, opened, vote_all, welcome

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    made = small_study(tmp_path_factory.mktemp("study"))
    clock = Clock()
    with VoteStore(made.database, clock=clock) as store:
        store.create(made.contents())

        def left_or_tie(given: Assignment) -> str:
            clock.pass_minutes(1)
            return "tie" if given.masks[0].candidate == 1 else "left"

        anna = welcome(store, "anna")
        vote_all(store, anna, left_or_tie, 4)
        given = opened(store, anna)
        assert given is not None
        told = ballot(
            given, "right", window=(40.0, 350.5), slices_seen={"axial": [0]}, shown_ms=900
        )
        store.vote(anna, told)
        store.undo(anna, told.uuid)
        vote_all(store, anna, left_or_tie)
        vote_all(store, welcome(store, "boris"), left_or_tie)
    return made


def through_datasets(folder: Path, form: str, cache: Path) -> None:
    """Every table is read by ``datasets`` and written again."""
    datasets = pytest.importorskip("datasets")
    for file in folder.glob(f"*.{form}"):
        kind = "json" if form == "jsonl" else "parquet"
        rows = datasets.load_dataset(
            kind, data_files=str(file), split="train", cache_dir=str(cache / file.stem)
        )
        if form == "parquet":
            rows.to_parquet(str(file))
        else:  # its own writer of JSON rounds numbers
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_an_equal_store_comes_back(study: StudyFolder, tmp_path: Path, form: Any) -> None:
    made = export_votes(study.path, tmp_path / "out", form=form)
    copy = tmp_path / "copy"
    shutil.copytree(study.path, copy, ignore=shutil.ignore_patterns("votes.sqlite*"))
    through_datasets(made.folder, form, tmp_path / "cache")
    assert import_votes(copy, made.folder) == made.votes
    with VoteStore(study.database) as before, VoteStore(copy / "votes.sqlite") as after:
        assert list(after.votes()) == list(before.votes())
        assert after.preferences() == before.preferences()
        assert [one.pseudonym for one in after.raters()] == ["anna", "boris"]
        # It goes on: whoever comes next is another rater, and gets what is left.
        assert welcome(after, "clara").id > max(one.id for one in before.raters())
    again = PreferenceFolder.open(export_votes(copy, tmp_path / "again", form=form).folder)
    assert again.records == PreferenceFolder.open(made.folder).records
    with pytest.raises(SegprefError, match="has raters already"):
        import_votes(copy, made.folder)


def test_the_preferences_have_their_masks(study: StudyFolder, tmp_path: Path) -> None:
    made = export_votes(study.path, tmp_path / "out")
    folder = PreferenceFolder.open(made.folder)
    with VoteStore(study.database) as store:
        assert folder.records == store.preferences()
    for record in folder.records:
        for name in record.candidates:
            assert folder.mask(name).shape == (1, 32, 32)
    # The model's own mask is the first of every slate.
    first = {mask.item: mask for mask in study.contents().masks if mask.candidate == 0}
    cases = {item.id: item.case for item in study.contents().items}
    for item, mask in first.items():
        if cases[item] in folder.cases:
            assert folder.about["anchors"][cases[item]] == mask.prepared_id


def test_by_the_command_line(
    study: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["collect", "export", str(study.path), "--out", str(out)]) == 0
    assert main(["collect", "export", str(study.path), "--out", str(out)]) == 1
    assert "is not empty" in capsys.readouterr().err
    database = f"sqlite:///{tmp_path / 'other.sqlite'}"
    command = ["collect", "import", str(study.path), "--input", str(out), "--database", database]
    assert main(command) == 0
    assert main(["collect", "import", str(study.path), "--input", str(tmp_path)]) == 1
    assert "holds no exported votes" in capsys.readouterr().err
