"""Erasing a patient: nothing of them is left in any file, and everything else stays as it was."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from tests.collect.studies import small_study, untrained
from tests.vote_studies import Clock, made_store, small_contents, vote_all, welcome
from tests.web.served_studies import made_study

from segpref.cli.main import main
from segpref.collect import StudyFolder, VoteStore, contents_digest, open_store, without
from segpref.data import Split
from segpref.types import SegprefError

GONE = "patient-1"


def traces(folder: Path, text: str) -> list[str]:
    """Files in which a text occurs."""
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and text.encode() in path.read_bytes()
    ]


def test_a_patient_is_gone_and_all_else_is_kept(vote_database: str) -> None:
    clock, contents = Clock(), small_contents(9, practice=3, votes=2)
    with made_store(vote_database, contents, clock=clock) as store:
        anna, ben = welcome(store), welcome(store, "ben")
        vote_all(store, anna)
        vote_all(store, ben)
        store.undo(ben, store.last_vote(ben) or "")
        before = [row for row in store.votes() if row.item.patient != GONE]
        theirs = len(list(store.votes())) - len(before)
        assert theirs >= 6
        found = store.erase(GONE, "consent was withdrawn")
        assert (found.images, found.masks, found.pairs, found.votes) == (4, 8, 4, theirs)
        assert len(found.assets) == 4 + 8
        assert "image-normal1" in found.assets
        assert list(store.votes()) == before
        assert store.contents() == without(contents, [GONE])
        assert store.contents_digest == contents_digest(without(contents, [GONE]))
        assert store.notes() == [
            (
                clock(),
                f"a patient was erased (4 images, 8 masks, 4 pairs, {theirs} votes): "
                "consent was withdrawn",
            )
        ]
        with (
            pytest.raises(Exception, match="never changed or deleted"),
            store.writing() as connection,
        ):
            connection.exec_driver_sql("DELETE FROM vote")
        vote_all(store, ben)
        with pytest.raises(SegprefError, match="there is no patient 'patient-1' in this study"):
            store.erase(GONE, "again")


@pytest.mark.parametrize("others_connected", [False, True])
def test_no_byte_of_a_patient_is_left_in_sqlite(tmp_path: Path, others_connected: bool) -> None:
    place = tmp_path / "votes.sqlite"
    with made_store(str(place), small_contents(30)) as store:
        vote_all(store, welcome(store), most=12)
        other = sqlite3.connect(place)
        if others_connected:
            other.execute("SELECT count(*) FROM vote").fetchone()
        assert traces(tmp_path, GONE)
        assert traces(tmp_path, "item-normal1")
        store.erase(GONE, "consent was withdrawn")
        for text in (GONE, "mask-normal1-", 'image-normal1"', 'item-normal1"', "pair-normal4"):
            assert not traces(tmp_path, text)
        assert traces(tmp_path, "patient-2")
        other.close()
    assert not traces(tmp_path, GONE)


def test_a_reader_that_stays_is_told_of_and_the_next_call_finishes(tmp_path: Path) -> None:
    place = tmp_path / "votes.sqlite"
    with made_store(str(place), small_contents(6)) as store:
        reader = sqlite3.connect(place)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM vote").fetchone()
        with store.database.engine.connect() as warm:
            warm.exec_driver_sql("PRAGMA busy_timeout(10)")  # not to wait for it
        with pytest.raises(
            SegprefError, match="stop segpref collect serve, and give the same command"
        ):
            store.erase(GONE, "consent was withdrawn")
        reader.close()
        store.scrub()
    assert not traces(tmp_path, GONE)


def test_no_byte_of_a_patient_is_left_in_the_tables_of_postgresql(postgresql: object) -> None:
    with postgresql.empty_database() as url, made_store(url, small_contents(30)) as store:  # type: ignore[attr-defined]
        vote_all(store, welcome(store), most=12)
        store.erase(GONE, "consent was withdrawn")
        with store.reading() as connection:
            connection.exec_driver_sql("CHECKPOINT")
            names = connection.exec_driver_sql(
                "SELECT pg_relation_filepath(oid) FROM pg_class WHERE relkind IN ('r', 'i', 't') AND "
                "relnamespace IN ('public'::regnamespace, 'pg_toast'::regnamespace)"
            ).scalars()
            files = [postgresql.folder / "data" / name for name in names if name]  # type: ignore[attr-defined]
        # The database is gone, with its files, when the block ends.
        assert any(path.exists() and b"patient-2" in path.read_bytes() for path in files)
        assert not [path for path in files if path.exists() and GONE.encode() in path.read_bytes()]


def test_the_reason_names_nobody(tmp_path: Path) -> None:
    with made_store(str(tmp_path / "votes.sqlite")) as store:
        for reason in ("Patient-1 asked for it", "case patient-1-normal1-case"):
            with pytest.raises(SegprefError, match="it names the patient"):
                store.erase(GONE, reason)
        assert len(store.contents().items) == 6


def test_images_that_share_a_file_keep_it(tmp_path: Path) -> None:
    contents = small_contents(2)
    shared = replace(contents.items[1].display, asset=contents.items[0].display.asset)
    items = (contents.items[0], replace(contents.items[1], display=shared))
    with made_store(str(tmp_path / "votes.sqlite"), replace(contents, items=items)) as store:
        assert "image-normal0" not in store.erase(GONE, "consent was withdrawn").assets


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study with votes, raters and a backup of both."""
    folder = tmp_path_factory.mktemp("erased")
    study = small_study(folder)
    with open_store(study) as store:
        vote_all(store, welcome(store), most=10)
    assert main(["collect", "backup", str(study.path), "--out", str(folder / "old.sqlite")]) == 0
    return study


@pytest.mark.slow
def test_the_command_erases_folder_and_database(
    voted: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    patients = sorted({one.patient for one in voted.contents().items if one.use == "train"})
    patient, kept = patients[0], patients[1]
    cases = {one.case for one in voted.contents().items if one.patient == patient}
    before = set((voted.path / "display").iterdir())
    command = ["collect", "erase", str(voted.path), "--patient", patient, "--reason"]
    assert main([*command, f"{patient} asked"]) == 1
    assert "it names the patient" in capsys.readouterr().err
    assert main([*command, "consent was withdrawn"]) == 0
    assert re.search(r"Erased: \d+ images", capsys.readouterr().out)
    study = StudyFolder(voted.path)
    assert patient not in {one.patient for one in study.contents().items}
    assert set((voted.path / "display").iterdir()) < before
    for name in (patient, *cases):
        assert not [one for one in traces(voted.path, name) if not one.endswith("base.safetensors")]
    assert traces(voted.path, kept)
    with open_store(study) as store:  # the folder and its database agree
        assert store.contents_digest == contents_digest(study.contents())
    assert main([*command, "consent was withdrawn"]) == 1
    assert "there is no patient" in capsys.readouterr().err
    # A backup from before does not bring the patient back.
    (voted.path / "votes.sqlite").unlink()
    assert main(["collect", "restore", str(voted.path), str(voted.path.parent / "old.sqlite")]) == 0
    assert not traces(voted.path, f'"{patient}')
    with open_store(StudyFolder(voted.path)) as store:
        assert store.contents_digest == contents_digest(study.contents())
        assert all(row.item.patient != patient for row in store.votes())


@pytest.mark.slow
def test_an_erasing_that_was_stopped_is_finished(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    patient = next(one.patient for one in study.contents().items if one.use == "train")
    with open_store(study) as store:
        store.erase(patient, "consent was withdrawn")
    command = ["collect", "erase", str(study.path), "--patient", patient, "--reason", "withdrawn"]
    assert main(command) == 0
    assert patient not in {one.patient for one in StudyFolder(study.path).contents().items}
    with open_store(StudyFolder(study.path)) as store:
        assert len(store.notes()) == 1


def test_what_erasing_leaves_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = made_study(tmp_path / "study")
    trained, split_only, asked = "patient-1", "patient-9", "patient-0"
    untrained(study.base, trained, "patient-8")
    Split((asked,), (), (split_only,), (trained,)).save(study.path / "split.json")
    (study.path / "report.html").write_text("old")
    with open_store(study) as store:
        vote_all(store, welcome(store))

    def erased(patient: str) -> int:
        return main(
            ["collect", "erase", str(study.path), "--patient", patient, "--reason", "asked"]
        )

    assert erased(asked) == 0
    told = capsys.readouterr().out
    assert "trained on this patient" not in told
    assert "left as they are: report.html." in told
    # Asked about, and trained on.
    assert erased(trained) == 0
    assert "was trained on this patient, and base.safetensors names them" in capsys.readouterr().out
    # In the split alone.
    assert traces(study.path, split_only)
    assert erased(split_only) == 0
    assert not traces(study.path, split_only)
    # In the model alone.
    assert erased("patient-8") == 1
    assert "was trained on them, and" in capsys.readouterr().err
    assert erased("patient-7") == 1
    assert "there is no patient 'patient-7'" in capsys.readouterr().err


def test_the_database_of_another_study_is_left_alone(tmp_path: Path) -> None:
    with made_store(str(tmp_path / "a.sqlite")) as store, pytest.raises(SegprefError):
        VoteStore.restore(tmp_path / "a.sqlite", tmp_path / "a.sqlite")
    assert store.contents() == small_contents()
