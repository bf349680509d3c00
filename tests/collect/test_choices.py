"""Answers are declared once: for the store, for records, for ratings and for the page."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from tests.collect.studies import small_study

from segpref.collect import OPTIONS, Answer, Mode, choices_of, right_answer


def test_every_answer_belongs_to_a_mode_and_has_a_key_of_its_own_there() -> None:
    assert set(OPTIONS) == set(get_args(Mode))
    assert {one.answer for options in OPTIONS.values() for one in options} == set(get_args(Answer))
    for options in OPTIONS.values():
        assert len({one.key for one in options}) == len(options)
        # Each chooses a mask or says something of all of them.
        assert all((one.place is None) != (one.says is None) for one in options)


def test_the_page_declares_no_answer_of_its_own() -> None:
    texts = [
        Path(str(one)).read_text()
        for one in resources.files("segpref.web").joinpath("static").iterdir()
        if str(one).endswith(".js")
    ]
    assert len(texts) > 5
    named = [name for name in get_args(Answer) if any(f'"{name}"' in text for text in texts)]
    # Sides of the screen, of which the window and the layout know, too.
    assert set(named) <= {"left", "right"}


def test_the_right_answer_is_where_the_better_mask_is() -> None:
    assert right_answer("pair", 0, (1, 0)) == "right"
    assert right_answer("base-or-tuned", 1, (1, 0)) == "left"
    assert right_answer("best-of-four", 0, (2, 3, 0, 1)) == "best-2"
    assert [right_answer("accept-reject", gold, (0,)) for gold in (0, 1)] == ["accept", "reject"]
    assert right_answer("pair", None, (0, 1)) is None


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "count"), [("best-of-four", 4), ("accept-reject", 1)])
def test_practice_and_gold_ask_what_the_study_asks(tmp_path: Path, mode: Any, count: int) -> None:
    study = small_study(tmp_path, mode=mode, practice=2, gold=0.2, candidates=12)
    contents = study.contents()
    known = [pair for pair in contents.pairs if pair.use != "normal"]
    assert {pair.use for pair in known} == {"practice", "gold"}
    assert {pair.mode for pair in contents.pairs} == {mode}
    masks = {mask.id: mask for mask in contents.masks}
    for pair in known:
        assert len(pair.masks) == count
        assert pair.structure is not None
        value = study.note.label_space.names.index(pair.structure)
        shown = [study.read_display(masks[one].asset) == value for one in pair.masks]
        differ = [
            np.count_nonzero(one != other)
            for n, one in enumerate(shown)
            for other in shown[n + 1 :]
        ]
        assert all(differ)
        if count == 4:
            assert pair.gold == 0
    if mode == "accept-reject":
        # Good masks and bad ones take turns, so that "accept" is not always right.
        assert {pair.gold for pair in known} == {0, 1}
    assert right_answer(mode, known[0].gold, tuple(range(count))) in choices_of(mode)
