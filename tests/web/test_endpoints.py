"""What the page asks, from its link to its last vote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.vote_studies import small_contents
from tests.web.served_studies import ballot, made_study, served

from segpref.collect import OPTIONS, StoreFull, Unavailable, choices_of, right_answer, slice_of
from segpref.types import LabelSpace


def test_a_rater_sees_the_study_and_its_progress(tmp_path: Path) -> None:
    with served(tmp_path) as at:
        told = at.rater().get("study").json()
    choices = told.pop("choices")
    assert [one[0] for one in choices["pair"]] == list(choices_of("pair"))
    assert {mode: len(one) for mode, one in choices.items()} == {
        mode: len(options) for mode, options in OPTIONS.items()
    }
    assert told == {
        "title": "Hearts",
        "question": "Which is better?",
        "instructions": "Compare.",
        "mode": "pair",
        "structures": [{"name": n, "code": i} for i, n in ((1, "RV"), (2, "MYO"), (3, "LV"))],
        "exclusive": True,
        "rater": "anna",
        "progress": {"done": 0, "total": 6, "practice_left": 0},
    }


def test_structures_that_overlap_are_bits(tmp_path: Path) -> None:
    space = LabelSpace("multi-label", ("heart", "lung"))
    with served(tmp_path, made_study(tmp_path / "study", space=space)) as at:
        anna = at.rater()
        told = anna.get("study").json()
        assert told["structures"] == [{"name": "heart", "code": 0}, {"name": "lung", "code": 1}]
        assert not told["exclusive"]
        task = anna.next()
        assert task["mask_dtype"] == "uint32"
        sent = anna.get(f"assignments/{task['assignment']}/masks/axial/0").content
        assert len(sent) == 2 * 8 * 8 * 4


def test_a_comparison_and_its_slices_equal_numpy(tmp_path: Path) -> None:
    with served(tmp_path) as at:
        anna = at.rater()
        task = anna.next()
        given = at.store.assignment(
            at.store.rater_of(anna.client.cookies["segpref"]), task["assignment"]
        )
        assert task["image"] == {
            "shape": [3, 8, 8], "axes": "LPS", "channels": 1, "dtype": "int16",
            "spacing_mm": [5.0, 0.7, 0.7], "window": [40.0, 350.5], "inverted": False,
        }  # fmt: skip
        assert task["start"] == {"axis": "axial", "index": 2}
        assert task["slices"] == {"axial": [0, 2]}
        assert (task["structure"], task["structures"]) == ("LV", ["RV", "MYO", "LV"])
        image = at.study.read_display(given.item.display.asset)
        masks = [at.study.read_display(one.asset) for one in given.masks]
        for axis, count in (("axial", 3), ("coronal", 8), ("sagittal", 8)):
            for index in range(count):
                answer = anna.get(f"assignments/{task['assignment']}/image/{axis}/{index}")
                cut = slice_of(image, axis, index)
                assert answer.headers["x-segpref-shape"] == ",".join(map(str, cut.shape))
                np.testing.assert_array_equal(
                    np.frombuffer(answer.content, "<i2").reshape(cut.shape), cut
                )
                answer = anna.get(f"assignments/{task['assignment']}/masks/{axis}/{index}")
                cuts = np.stack([slice_of(one, axis, index) for one in masks])
                assert answer.headers["x-segpref-shape"] == ",".join(map(str, cuts.shape))
                np.testing.assert_array_equal(
                    np.frombuffer(answer.content, np.uint8).reshape(cuts.shape), cuts
                )
            past = anna.get(f"assignments/{task['assignment']}/image/{axis}/{count}")
            assert past.status_code == 404


@pytest.mark.parametrize("mode", ["pair", "best-of-four", "accept-reject", "base-or-tuned"])
def test_every_mode_is_voted_to_its_end(tmp_path: Path, mode: Any) -> None:
    study = made_study(tmp_path / "study", small_contents(3, mode=mode), mode=mode)
    with served(tmp_path, study) as at:
        anna = at.rater()
        for number in range(3):
            task = anna.opened()
            assert task["mode"] == mode
            answer = anna.post("votes", ballot(task, number))
            assert answer.status_code == 201
            assert answer.json()["progress"] == {"done": number + 1, "total": 3, "practice_left": 0}
        told = anna.next()
        assert told["done"] is True
        assert told["undo"] == ballot(task, 2)["uuid"]
        rows = list(at.store.votes())
        assert [row.choice for row in rows] == [ballot(task)["choice"]] * 3
        assert rows[0].shown_ms == 1200


def test_a_vote_counts_once_however_often_it_is_sent(tmp_path: Path) -> None:
    with served(tmp_path) as at:
        anna = at.rater()
        task = anna.opened()
        first, again = (anna.post("votes", ballot(task)) for _ in range(2))
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        assert anna.post("votes", ballot(task, choice="right")).status_code == 409
        assert anna.post("votes", ballot(task, 1)).status_code == 409
        assert len(list(at.store.votes())) == 1


@pytest.mark.parametrize("opened", [[], ["image"], ["masks"]])
def test_no_vote_before_image_and_masks_were_sent(tmp_path: Path, opened: list[str]) -> None:
    with served(tmp_path) as at:
        anna = at.rater()
        task = anna.next()
        for kind in opened:
            anna.get(f"assignments/{task['assignment']}/{kind}/axial/0")
        assert anna.post("votes", ballot(task)).status_code == 409
        assert not list(at.store.votes())


def test_an_image_that_cannot_be_read_blocks_its_vote_and_says_no_path(tmp_path: Path) -> None:
    with served(tmp_path) as at:
        for file in (at.study.path / "display").glob("image-*"):
            file.write_bytes(file.read_bytes()[:-3])
        anna = at.rater()
        task = anna.next()
        assert anna.get(f"assignments/{task['assignment']}/masks/axial/0").status_code == 200
        broken = anna.get(f"assignments/{task['assignment']}/image/axial/0")
        assert broken.status_code == 500
        assert str(tmp_path) not in broken.text
        assert "image-" not in broken.text
        assert anna.post("votes", ballot(task)).status_code == 409


def test_undo_gives_the_same_comparison_again(tmp_path: Path) -> None:
    with served(tmp_path) as at:
        anna = at.rater()
        task = anna.opened()
        assert (task["can_undo"], task["undo"]) == (False, None)
        anna.post("votes", ballot(task))
        following = anna.next()
        assert (following["can_undo"], following["undo"]) == (True, ballot(task)["uuid"])
        again = anna.post("undo", {"uuid": ballot(task)["uuid"]})
        assert again.status_code == 200
        assert again.json() == {**task, "undo": None}
        assert anna.post("votes", ballot(task, 1, choice="right")).status_code == 201
        counting = [row.choice for row in at.store.votes() if row.counts]
        assert counting == ["right"]


@pytest.mark.parametrize("mode", ["best-of-four", "accept-reject", "base-or-tuned"])
def test_practice_is_right_in_the_words_of_its_mode(tmp_path: Path, mode: Any) -> None:
    contents = small_contents(1, practice=2, mode=mode)
    if mode == "accept-reject":
        first, *rest = contents.pairs
        contents = replace(contents, pairs=(replace(first, gold=1), *rest))
    study = made_study(tmp_path / "study", contents, mode=mode)
    with served(tmp_path, study) as at:
        anna = at.rater()
        said = []
        for number in range(2):
            task = anna.opened()
            assert (task["practice"], task["mode"]) == (True, mode)
            who = at.store.rater_of(anna.client.cookies["segpref"])
            given = at.store.assignment(who, task["assignment"])
            right = right_answer(mode, given.pair.gold, given.sides)
            assert right in choices_of(mode)
            anna.post("votes", ballot(task, number, choice=right))
            told = anna.get(f"practice/{task['assignment']}/answer").json()
            assert (told["choice"], told["correct"]) == (right, True)
            said.append(right)
    if mode == "accept-reject":
        assert said == ["reject", "accept"]


def test_practice_says_the_right_answer_after_the_vote_only(tmp_path: Path) -> None:
    study = made_study(tmp_path / "study", small_contents(1, practice=2))
    with served(tmp_path, study) as at:
        anna = at.rater()
        for number in range(2):
            task = anna.opened()
            assert task["practice"]
            path = f"practice/{task['assignment']}/answer"
            assert anna.get(path).status_code == 404
            who = at.store.rater_of(anna.client.cookies["segpref"])
            given = at.store.assignment(who, task["assignment"])
            right = ("left", "right")[given.sides.index(0)]
            choice = right if number == 0 else "tie"
            anna.post("votes", ballot(task, number, choice=choice))
            told = anna.get(path).json()
            assert (told["choice"], told["correct"]) == (right, number == 0)
        task = anna.opened()
        anna.post("votes", ballot(task, 9))
        assert anna.get(f"practice/{task['assignment']}/answer").status_code == 404


@pytest.mark.parametrize(("error", "status"), [(StoreFull, 507), (Unavailable, 503)])
def test_what_cannot_be_stored_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], status: int
) -> None:
    with served(tmp_path) as at:
        anna = at.rater()
        task = anna.opened()

        def failing(*_: Any) -> None:
            raise error("/secret/votes.sqlite is full")

        with monkeypatch.context() as patched:
            patched.setattr(at.store, "vote", failing)
            answer = anna.post("votes", ballot(task))
        assert answer.status_code == status
        assert "secret" not in answer.text
        assert len(answer.json()["error"]) > 20
        assert anna.post("votes", ballot(task)).status_code == 201


def test_who_leaves_needs_another_link(tmp_path: Path) -> None:
    with served(tmp_path) as at:
        anna = at.rater()
        secret = anna.client.cookies["segpref"]
        assert anna.post("leave").status_code == 204
        assert "segpref" not in anna.client.cookies
        anna.client.cookies["segpref"] = secret
        assert anna.get("study").status_code == 401
