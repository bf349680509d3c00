"""PostgreSQL: the server works as a user who can't change, delete or erase anything."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgresql_cluster import PostgresqlCluster
from tests.vote_studies import ballot, small_contents, welcome
from tests.web.served_studies import made_study
from tests.web.server_process import ServerProcess
from tests.web.voters import Voter, enter

from segpref.collect import StudyFolder, Unavailable, VoteStore
from segpref.web import open_store
from segpref.workflows import backup_votes, erase_patient, report_study

ROLE = "segpref_server"
GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "serving-votes.md"


class Restricted:
    """A study whose tables the superuser made, and the URL of both users."""

    def __init__(self, study: StudyFolder, owner: str) -> None:
        self.study, self.owner = study, owner
        self.server = owner.replace("//segpref@", f"//{ROLE}@")


@pytest.fixture
def made(postgresql: PostgresqlCluster, tmp_path: Path) -> Iterator[Restricted]:
    (statements,) = re.findall(r"^```sql\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    with postgresql.empty_database() as url:
        found = Restricted(made_study(tmp_path / "study", small_contents(6)), url)
        open_store(found.study, url).close()
        name = url.partition("@/")[2].partition("?")[0]
        postgresql.run(statements, name)
        try:
            yield found
        finally:
            postgresql.run(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}", name)


@pytest.mark.slow
def test_the_server_needs_no_more_than_the_guide_grants(made: Restricted, tmp_path: Path) -> None:
    with open_store(made.study, made.owner) as store:
        token = store.add_rater("anna")
    server = ServerProcess(made.study.path, made.server)
    try:
        server.start()
        voter = Voter(server.address, enter(server.address, token))
        voter.vote_all(most=3)
        answer = voter.ask("POST", "undo", {"uuid": voter.acknowledged[-1]["uuid"]})
        assert answer.status_code == 200, answer.text
        voter.vote_all()
        assert voter.conflicts == 0
        assert voter.ask("POST", "leave").status_code == 204
        assert voter.ask("POST", "next").status_code == 401
        voter.client.close()
        assert "lacks the right" not in server.log
    finally:
        server.close()
    found = report_study(
        made.study.path, database=made.server, out=tmp_path / "report", resamples=10
    )
    assert found.figures.votes == 6
    backup = backup_votes(made.study.path, tmp_path / "backup.sqlite", database=made.server)
    rows = list(VoteStore.of_file(backup).votes())
    assert [row.choice for row in rows].count("undo") == 1
    assert sum(row.counts for row in rows) == 6


FORBIDDEN = (
    "UPDATE vote SET choice = 'right'",
    "DELETE FROM vote",
    "TRUNCATE vote CASCADE",
    "ALTER TABLE vote DISABLE TRIGGER ALL",
    "DROP TRIGGER vote_is_kept ON vote",
    "CREATE OR REPLACE FUNCTION vote_is_kept() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RETURN OLD; END $$",
    "SET session_replication_role = replica",
    "DROP TABLE vote",
    "INSERT INTO erasing SELECT id FROM item",
    "DELETE FROM assignment",
    "UPDATE assignment SET rater_id = rater_id",
    "UPDATE pair SET gold = 1",
    "DELETE FROM item",
    "UPDATE study SET digest = ''",
    "INSERT INTO rater (pseudonym, role, made_at) VALUES ('eve', 'admin', now())",
    "UPDATE rater SET role = 'admin'",
    "INSERT INTO link SELECT * FROM link",
    "UPDATE session SET rater_id = rater_id",
    "CREATE TABLE more (id int)",
    "SELECT setval('vote_id_seq', 1)",
)


def test_the_server_can_neither_change_nor_delete_a_vote_and_the_owner_can_erase(
    made: Restricted,
) -> None:
    with open_store(made.study, made.owner) as owner:
        anna = welcome(owner)
    with VoteStore(made.server) as store:
        while given := store.next_assignment(anna):
            store.mark_opened(anna, given.id, "image")
            store.mark_opened(anna, given.id, "masks")
            store.vote(anna, ballot(given))
        before = list(store.votes())
        assert len(before) == 6
        for statement in FORBIDDEN:
            with (
                pytest.raises(Exception, match=r"lacks the right|permission denied"),
                store.writing() as connection,
            ):
                connection.exec_driver_sql(statement)
        for refused in (
            lambda: store.erase("patient-1", "consent was withdrawn"),
            lambda: store.add_rater("eve"),
        ):
            with pytest.raises(
                Unavailable, match="lacks the right to do that: connect as the owner"
            ):
                refused()
        assert list(store.votes()) == before
        store.undo(anna, str(uuid.uuid4()))
        theirs = [row for row in store.votes() if row.item.patient == "patient-1"]
    found = erase_patient(
        made.study.path, "patient-1", "consent was withdrawn", database=made.owner
    )
    assert (found.images, found.votes) == (2, len(theirs))
    with VoteStore(made.server) as store:
        assert {row.item.patient for row in store.votes()} == {"patient-0", "patient-2"}


def test_no_tables_are_made_for_a_user_who_may_not(
    made: Restricted, postgresql: PostgresqlCluster
) -> None:
    with (
        postgresql.empty_database() as url,
        pytest.raises(Unavailable, match="lacks the right to do that: connect as the owner"),
    ):
        open_store(made.study, url.replace("//segpref@", f"//{ROLE}@"))
