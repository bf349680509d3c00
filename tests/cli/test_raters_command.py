"""`segpref collect raters`: raters are added, listed, let in again and revoked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.web.served_studies import made_study

from segpref.cli.main import main
from segpref.collect import Refused, StudyFolder, VoteStore
from segpref.web import open_store


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return made_study(tmp_path / "study")


def listed(text: str) -> dict[str, tuple[int, str, str]]:
    """The table: votes, what is left and whether a rater was revoked, by pseudonym."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    return {row[0]: (int(row[1]), row[2], row[3]) for row in rows if len(row) == 4}


def links(text: str) -> dict[str, tuple[str, str]]:
    """Page and token by pseudonym."""
    return {
        name: (page, token)
        for name, page, token in re.findall(
            r"^  (.+?)  (https?://\S+?)/#(\S+)$", text, re.MULTILINE
        )
    }


def test_raters_are_added_listed_and_revoked(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    def raters(*options: str) -> str:
        assert main(["collect", "raters", str(study.path), *options]) == 0
        return capsys.readouterr().out

    assert listed(raters()) == {}
    assert "links" not in raters()
    told = raters("--add", "[anna, rater 2]", "--address", "https://votes.hospital.example/")
    assert listed(told) == {"anna": (0, "6", ""), "rater 2": (0, "6", "")}
    made = links(told)
    assert {name: page for name, (page, _) in made.items()} == {
        "anna": "https://votes.hospital.example",
        "rater 2": "https://votes.hospital.example",
    }
    again = links(raters("--link", "anna"))
    assert list(again) == ["anna"]
    assert again["anna"][0] == "http://127.0.0.1:8000"
    with VoteStore(study.database) as store:
        with pytest.raises(Refused, match="too old"):
            store.enter(made["anna"][1])  # void since there is another
        secrets = [store.enter(token) for token in (again["anna"][1], made["rater 2"][1])]
        assert [who and who.pseudonym for who in map(store.rater_of, secrets)] == [
            "anna",
            "rater 2",
        ]
        told = raters("--revoke", "anna")
        assert listed(told) == {"anna": (0, "–", "revoked"), "rater 2": (0, "6", "")}
        assert "links" not in told
        assert store.rater_of(secrets[0]) is None
        assert store.rater_of(secrets[1]) is not None
    assert listed(raters()) == listed(told)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--add", "[ben, anna]"], "there is a rater 'anna' already"),
        (["--add", "[ben, ben]"], "there is a rater 'ben' already"),
        (["--add", "[ben, '#']"], "'#' is no pseudonym"),
        (["--add", "ben", "--link", "cleo"], "there is no rater 'cleo'"),
        (["--add", "ben", "--revoke", "[anna, cleo]"], "there is no rater 'cleo'"),
        (
            ["--add", "ben", "--revoke", "anna", "--link", "anna"],
            "anna was revoked and gets no link",
        ),
        (["--add", "ben", "--address", "votes.example"], "'votes.example' is no address of a page"),
    ],
)
def test_a_name_that_is_refused_changes_nobody(
    study: StudyFolder,
    options: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open_store(study) as store:
        token = store.add_rater("anna")
        assert main(["collect", "raters", str(study.path), *options]) == 1
        told = capsys.readouterr()
        assert f"segpref collect raters: {sentence}" in " ".join(told.err.split())
        assert told.out == ""
        assert [(one.pseudonym, one.revoked) for one in store.raters()] == [("anna", False)]
        assert store.enter(token)  # still counts
