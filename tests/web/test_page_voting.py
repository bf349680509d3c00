"""Answers given on the page: nothing is stored twice, lost, or given before everything is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.responses import JSONResponse, Response
from tests.web.page_study import Bench, Question, Server, comparing, drawn

pytestmark = pytest.mark.slow  # together they take minutes: each opens a page in a browser
NewPage = Callable[..., Any]
HEART = (("RV", 1), ("MYO", 2), ("LV", 3))


def question(seed: int, **changes: Any) -> Question:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 100, (6, 12, 14)).astype(np.int16)
    masks = rng.integers(0, 4, (changes.pop("sides", 2), 6, 12, 14)).astype(np.uint8)
    return Question(image=image, masks=masks, structure="LV", window=(50, 100), **changes)


def asked(page: Any, number: int) -> None:
    """Wait for the question after ``number`` answers, drawn."""
    page.wait_for_function(
        "number => document.querySelector('#progress').value === number", arg=number
    )
    drawn(page)


def said(bench: Bench) -> list[tuple[str, int | None]]:
    return [(one["choice"], one["confidence"]) for one in bench.votes]


def test_every_answer_of_a_pair_has_its_key(new_page: NewPage) -> None:
    bench = Bench([question(seed) for seed in range(6)], HEART)
    keys = ["ArrowLeft", "ArrowRight", "=", "b", "U", "ArrowLeft"]
    sure = [None, "1", "2", "3", None, "3"]
    with comparing(new_page, bench) as page:
        for number, (key, how) in enumerate(zip(keys, sure, strict=True)):
            asked(page, number)
            page.keyboard.press("ArrowUp")
            drawn(page)
            if how:
                page.keyboard.press(how)
            page.keyboard.press(key)
        page.wait_for_selector("#done:visible")
        assert "6 of 6" in page.locator("#done-text").inner_text()
    assert said(bench) == [
        ("left", None), ("right", 1), ("tie", 2), ("both-bad", 3), ("cant-tell", None), ("left", 3),
    ]  # fmt: skip
    assert len({one["uuid"] for one in bench.votes}) == 6
    for vote in bench.votes:
        assert vote["slices_seen"] == {"axial": [0, 1]}
        assert vote["shown_ms"] >= 0
        assert vote["window"] == [50, 100]


@pytest.mark.parametrize(
    ("mode", "sides", "answers"),
    [
        ("accept-reject", 1, {"a": "accept", "r": "reject", "u": "cant-tell"}),
        (
            "best-of-four",
            4,
            {
                "q": "best-0",
                "w": "best-1",
                "a": "best-2",
                "s": "best-3",
                "b": "none-good",
                "u": "cant-tell",
            },
        ),
    ],
)
def test_other_modes(new_page: NewPage, mode: str, sides: int, answers: dict[str, str]) -> None:
    bench = Bench([question(seed, mode=mode, sides=sides) for seed in range(len(answers))], HEART)
    with comparing(new_page, bench) as page:
        assert page.locator(".pane").count() == sides
        for number, key in enumerate(answers):
            asked(page, number)
            page.keyboard.press(key)
        page.wait_for_selector("#done:visible")
    assert [choice for choice, _ in said(bench)] == list(answers.values())


def test_answers_by_pointer_and_touch(new_page: NewPage) -> None:
    bench = Bench([question(seed) for seed in range(3)], HEART)
    with comparing(
        new_page, bench, has_touch=True, viewport={"width": 820, "height": 1180}
    ) as page:
        page.locator("[data-sure='2']").tap()
        page.locator("[data-choice=right]").tap()
        asked(page, 1)
        page.locator("[data-choice=tie]").tap()
        asked(page, 2)
        page.keyboard.press("Space")  # flickers: the button pressed last has no focus any more
        page.locator("[data-choice=both-bad]").tap()
        page.wait_for_selector("#done:visible")
    assert said(bench) == [("right", 2), ("tie", None), ("both-bad", None)]


def test_a_key_that_is_held_answers_once(new_page: NewPage) -> None:
    bench = Bench([question(seed) for seed in range(3)], HEART)
    with comparing(new_page, bench) as page:
        page.keyboard.down("ArrowLeft")
        asked(page, 1)
        page.keyboard.down("ArrowLeft")  # repeats
        page.keyboard.up("ArrowLeft")
        page.keyboard.press("ArrowRight")
        asked(page, 2)
    assert [choice for choice, _ in said(bench)] == ["left", "right"]


def test_the_last_answer_can_be_taken_back(new_page: NewPage) -> None:
    bench = Bench([question(seed) for seed in range(2)], HEART)
    with comparing(new_page, bench) as page:
        assert page.locator("#undo").is_disabled()
        page.keyboard.press("ArrowLeft")
        asked(page, 1)
        page.keyboard.press("z")
        asked(page, 0)
        assert "taken back" in page.locator("#status").inner_text()
        page.keyboard.press("ArrowRight")
        asked(page, 1)
        page.reload()
        page.wait_for_selector("#begin:visible")
        page.keyboard.press("Enter")
        drawn(page)
        page.locator("#undo").click()  # also after a reload
        asked(page, 0)
        page.keyboard.press("=")
        asked(page, 1)
        page.keyboard.press("=")
        page.wait_for_selector("#done:visible")
        page.keyboard.press("z")
        asked(page, 1)
        page.keyboard.press("b")
        page.wait_for_selector("#done:visible")
    assert [choice for choice, _ in said(bench)] == ["tie", "both-bad"]


def test_practice_says_at_once_what_was_right(new_page: NewPage) -> None:
    bench = Bench([question(0, practice="left"), question(1, practice="right"), question(2)], HEART)
    with comparing(new_page, bench) as page:
        assert page.locator("#practice").is_visible()
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#notice:visible")
        assert "Left is better" in page.locator("#notice").inner_text()
        page.keyboard.press("Enter")
        drawn(page)
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#notice:visible")
        assert page.locator("#notice-title").inner_text() == "Correct."
        page.locator("#notice-button").click()
        drawn(page)
        assert not page.locator("#practice").is_visible()
        page.keyboard.press("=")
        page.wait_for_selector("#done:visible")
    assert [choice for choice, _ in said(bench)] == ["right", "right", "tie"]


@pytest.mark.parametrize("kind", ["image", "masks"])
@pytest.mark.parametrize("how", ["aborted", "refused", "cut short"])
def test_what_is_not_drawn_cannot_be_answered(new_page: NewPage, kind: str, how: str) -> None:
    bench = Bench([question(0), question(1)], HEART)

    with comparing(new_page, bench) as page:
        if how == "aborted":
            page.route(f"**/assignments/1/{kind}/**", lambda route: route.abort())
        elif how == "refused":
            bench.broken[f"1/{kind}"] = JSONResponse({"error": "This file cannot be read."}, 500)
        else:
            bench.broken[f"1/{kind}"] = Response(b"123")
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector('#compare[data-phase="failed"] >> #notice:visible')
        if how == "refused":
            assert "This file cannot be read." in page.locator("#notice-text").inner_text()
        for key in ("ArrowLeft", "=", "b", "u", "ArrowRight"):
            page.keyboard.press(key)
        assert all(button.is_disabled() for button in page.locator("#choices button").all())
        page.keyboard.press("Enter")  # tries again: in vain
        page.wait_for_selector('#compare[data-phase="failed"] >> #notice:visible')
        page.unroute(f"**/assignments/1/{kind}/**")
        bench.broken.clear()
        page.keyboard.press("Enter")
        drawn(page)
        assert not page.locator("#notice").is_visible()
        page.keyboard.press("=")
        page.wait_for_selector("#done:visible")
    assert [choice for choice, _ in said(bench)] == ["left", "tie"]


def test_no_answer_while_masks_are_on_their_way(new_page: NewPage) -> None:
    bench = Bench([question(0), question(1)], HEART)
    held: list[Any] = []
    with comparing(new_page, bench) as page:
        page.route("**/assignments/1/masks/**", lambda route: held.append(route))
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("() => document.querySelector('#progress').value === 1")
        page.wait_for_selector('#compare[data-phase="loading"]')
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowRight")
        assert page.locator("[data-choice=left]").is_disabled()
        for route in held:
            route.continue_()
        page.unroute("**/assignments/1/masks/**")
        drawn(page)
        assert len(bench.votes) == 1


def test_an_answer_survives_a_restart_of_the_server(new_page: NewPage) -> None:
    bench = Bench([question(0), question(1)], HEART)
    server = Server(bench.app())
    page = new_page()
    page.goto(f"{server.origin}/#token")
    page.wait_for_selector("#begin:visible")
    page.keyboard.press("Enter")
    drawn(page)
    server.stop()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#notice:visible")
    assert "not stored yet" in page.locator("#notice").inner_text()
    assert "Stored." not in page.locator("#status").inner_text()
    assert bench.votes == []
    server.start()
    page.keyboard.press("Enter")  # now, rather than by itself a little later
    asked(page, 1)
    server.stop()
    assert said(bench) == [("right", None)]


def test_an_answer_whose_receipt_was_lost_is_sent_again_under_the_same_uuid(
    new_page: NewPage,
) -> None:
    bench = Bench([question(0), question(1)], HEART)
    sent: list[dict[str, Any]] = []
    with comparing(new_page, bench) as page:

        def lose(route: Any) -> None:
            sent.append(route.request.post_data_json)
            if len(sent) == 1:
                route.fetch()  # stored, but the page never hears of it
                route.abort()
            else:
                route.continue_()

        page.route("**/api/votes", lose)
        page.keyboard.press("b")
        asked(page, 1)
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert said(bench) == [("both-bad", None)]


def test_an_answer_survives_the_end_of_a_session_and_of_the_page(new_page: NewPage) -> None:
    bench = Bench([question(0), question(1)], HEART)
    with comparing(new_page, bench) as page:
        bench.expired = True
        page.keyboard.press("=")
        page.wait_for_selector("#message:visible")
        assert "personal link" in page.locator("#message").inner_text()
        assert "kept in this browser" in page.locator("#message").inner_text()
        kept = page.evaluate("Object.values(localStorage)")
        assert len(kept) == 1
        assert '"tie"' in kept[0]
        bench.expired = False
        page.goto("about:blank")
        page.go_back()
        page.wait_for_selector("#begin:visible")
        assert said(bench) == [("tie", None)]
        assert page.evaluate("localStorage.length") == 0


def test_a_full_disk_stops_voting_with_the_servers_sentence(new_page: NewPage) -> None:
    bench = Bench([question(0), question(1)], HEART, full=True)
    with comparing(new_page, bench) as page:
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector("#notice:visible")
        assert "The disk is full." in page.locator("#notice").inner_text()
        page.keyboard.press("ArrowRight")  # nothing else can be answered meanwhile
        bench.full = False
        page.keyboard.press("Enter")
        asked(page, 1)
    assert said(bench) == [("left", None)]


def test_an_answer_that_is_refused_is_reported(new_page: NewPage) -> None:
    bench = Bench([question(0), question(1)], HEART)
    with comparing(new_page, bench) as page:
        bench.refuses = "This comparison was given to somebody else."
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector("#notice:visible")
        assert "was not stored" in page.locator("#notice").inner_text()
        assert bench.refuses in page.locator("#notice").inner_text()
        bench.refuses = None
        page.keyboard.press("Enter")
        drawn(page)
        page.keyboard.press("ArrowRight")
        asked(page, 1)
        assert page.evaluate("localStorage.length") == 0
    assert said(bench) == [("right", None)]


def test_without_a_link_the_page_says_so(new_page: NewPage) -> None:
    server = Server(Bench([question(0)], HEART).app())
    page = new_page()
    page.goto(server.origin)
    page.wait_for_function(
        "() => document.querySelector('#message-title').textContent.includes('link')"
    )
    assert page.locator("#compare").is_hidden()
    page.goto(f"{server.origin}/#token")
    page.wait_for_selector("#begin:visible")
    assert page.url == f"{server.origin}/"  # the token is gone from the address bar
    server.stop()
