"""One view for all panes, by keys and pointer; readable by everybody; nothing from elsewhere."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.web.page_study import Bench, Question, comparing, drawn

NewPage = Callable[..., Any]
HEART = (("RV", 1), ("MYO", 2), ("LV", 3))
SHARED = ("axis", "index", "centre", "width", "zoom", "scale-x", "scale-y", "left", "top")


def volume(seed: int = 0, shape: tuple[int, ...] = (8, 12, 14), **changes: Any) -> Question:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 100, shape).astype(np.int16)
    masks = rng.integers(0, 4, (changes.pop("sides", 2), *shape[:3])).astype(np.uint8)
    return Question(image=image, masks=masks, structure="LV", window=(50, 100), **changes)


def shown(page: Any, pane: int = 0) -> dict[str, str]:
    canvas = page.locator(".pane canvas").nth(pane)
    return {name: canvas.get_attribute(f"data-{name}") for name in SHARED}


def press(page: Any, *keys: str) -> dict[str, str]:
    for key in keys:
        page.keyboard.press(key)
    drawn(page)
    return shown(page)


@pytest.mark.parametrize(("mode", "sides"), [("pair", 2), ("best-of-four", 4)])
def test_after_random_keys_and_moves_all_panes_show_the_same(
    new_page: NewPage, mode: str, sides: int
) -> None:
    chance = random.Random(sides)
    keys = [
        "ArrowUp", "ArrowDown", "n", "p", "m", "o", "d", "t", "i", "[", "]", ",", ".", "+", "-", "0",
        "<", ">", "Shift+ArrowLeft", "Shift+ArrowUp", "1", "3",
    ]  # fmt: skip
    with comparing(new_page, Bench([volume(mode=mode, sides=sides)], HEART)) as page:
        seen = set()
        for _ in range(12):
            for key in chance.choices(keys, k=6):
                page.keyboard.press(key)
            page.mouse.move(chance.randrange(10, 1200), chance.randrange(100, 450))
            page.mouse.wheel(0, chance.choice([-1, 1]))
            page.mouse.down(button=chance.choice(["left", "right"]))
            page.mouse.move(chance.randrange(10, 1200), chance.randrange(100, 450))
            page.mouse.up(button="right")
            page.mouse.up()
            drawn(page)
            first, *others = (shown(page, pane) for pane in range(sides))
            assert all(other == first for other in others)
            seen.add(tuple(first.values()))
    assert len(seen) > 6


def test_keys_move_through_slices_and_planes(new_page: NewPage) -> None:
    one = volume()
    one.masks[1] = one.masks[0]
    one.masks[:, 2], one.masks[:, 5] = 3, 3
    one.masks[1, 2, 4, 6] = one.masks[1, 5, 4, 7] = 0
    with comparing(new_page, Bench([one], HEART)) as page:
        at = shown(page)
        assert (at["axis"], at["index"]) == ("axial", "2")
        assert press(page, "n")["index"] == "5"
        assert press(page, "n")["index"] == "2"
        assert press(page, "ArrowUp", "ArrowUp")["index"] == "4"
        assert press(page, *["ArrowDown"] * 9)["index"] == "0"
        at = press(page, "p")
        assert (at["axis"], at["index"]) == ("coronal", "4")
        at = press(page, "p")
        assert at["axis"] == "sagittal"
        assert at["index"] in "67"
        page.locator("#planes button").first.click()
        assert press(page)["axis"] == "axial"
        page.locator("#slice").focus()
        assert (
            press(page, "Home", "ArrowRight")["index"] == "1"
        )  # arrows belong to the slider, not to an answer
        assert page.locator("#slice-text").inner_text() == "2 / 8"


@pytest.mark.parametrize(
    ("axis", "letters"),
    [("axial", "APRL"), ("coronal", "SIRL"), ("sagittal", "SIAP")],
)
def test_letters_say_where_the_patient_is(new_page: NewPage, axis: str, letters: str) -> None:
    with comparing(new_page, Bench([volume(start=(axis, 3))], HEART)) as page:
        found = [
            page.locator(f".pane .letter.{edge}").nth(1).inner_text()
            for edge in ("top", "bottom", "left", "right")
        ]
        assert "".join(found) == letters


def test_where_the_file_does_not_say_there_are_no_letters_and_no_scale(new_page: NewPage) -> None:
    with comparing(new_page, Bench([volume(axes="unknown", spacing=None)], HEART)) as page:
        assert "".join(page.locator(".letter").all_inner_texts()) == ""
        assert page.locator(".scale").first.is_hidden()


def test_the_scale_bar_measures_millimetres(new_page: NewPage) -> None:
    with comparing(new_page, Bench([volume(spacing=(3.0, 0.8, 0.5))], HEART)) as page:
        for key in ("0", "+", "+", "p"):
            at = press(page, key)
            bar = page.locator(".scale").first
            width = bar.evaluate("bar => parseFloat(bar.style.width)")
            column_mm = {"axial": 0.5, "coronal": 0.5, "sagittal": 0.8}[at["axis"]]
            length = float(bar.get_attribute("data-mm"))
            assert width / float(at["scale-x"]) * column_mm == pytest.approx(length, rel=1e-3)
            assert bar.inner_text() == f"{length:g} mm"
            assert str(length).strip("0.")[0] in "125"
        assert float(at["scale-y"]) / float(at["scale-x"]) == pytest.approx(3.0 / 0.5)


def test_a_single_slice_of_a_volume_has_no_slider(new_page: NewPage) -> None:
    one = volume(shape=(9, 11, 1), start=("sagittal", 0))
    with comparing(new_page, Bench([one], HEART)) as page:
        assert page.locator("#slicer").is_hidden()
        assert shown(page)["axis"] == "sagittal"
        assert press(page, "p", "ArrowUp")["axis"] == "sagittal"


def test_held_space_lets_the_masks_alternate_in_place(new_page: NewPage) -> None:
    with comparing(new_page, Bench([volume()], HEART)) as page:
        side = page.locator(".pane canvas").first
        assert side.get_attribute("data-side") == "0"
        page.keyboard.down(" ")
        page.wait_for_selector(".pane.moved canvas[data-side='1']")
        page.wait_for_selector(".pane canvas[data-side='0'] >> nth=0")  # and back, and so on
        page.keyboard.up(" ")
        drawn(page)
        assert [one.get_attribute("data-side") for one in page.locator(".pane canvas").all()] == [
            "0",
            "1",
        ]
        assert page.locator(".pane .name").all_inner_texts() == ["Left", "Right"]


def test_only_its_own_server_is_asked_and_nothing_twice(new_page: NewPage) -> None:
    asked: list[str] = []
    bench = Bench([volume(0), volume(1)], HEART)
    console: list[str] = []
    page_of: list[Any] = []

    def opened(**options: Any) -> Any:
        page = new_page(**options)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: console.append(message.text))
        page_of.append(page)
        return page

    with comparing(opened, bench) as page:
        press(page, *["ArrowUp"] * 8, *["ArrowDown"] * 8, "[", ".", "+", "o", "d", "t")
        page.keyboard.press("=")
        page.wait_for_function("() => document.querySelector('#progress').value === 1")
        drawn(page)
        origin = page.url
    assert all(url.startswith(origin) for url in asked)
    slices = [url for url in asked if "/assignments/0/" in url]
    assert len(slices) == len(set(slices)) == 16
    assert [one for one in console if "Content Security Policy" in one] == []


def test_texts_of_a_study_never_become_markup(new_page: NewPage) -> None:
    evil = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>&amp;'
    bench = Bench(
        [volume(practice="left")],
        [(evil, 1), ("LV", 3)],
        title=evil,
        question=evil,
        instructions=evil,
    )
    bench.questions[0].structure = evil
    with comparing(new_page, bench) as page:
        assert page.locator("#question").inner_text() == evil
        assert evil in page.locator("#legend").inner_text()
        assert page.title() == evil
        assert page.locator("#title").text_content() == evil
        assert page.locator("#instructions").text_content() == evil
        assert page.locator("img, #compare script").count() == 0
        assert page.evaluate("() => window.hit") is None


@pytest.mark.parametrize("size", [(1280, 720), (820, 1180), (1180, 820), (1920, 1080)])
@pytest.mark.parametrize(
    ("mode", "sides"), [("pair", 2), ("accept-reject", 1), ("best-of-four", 4)]
)
def test_everything_fits_on_the_screen(
    new_page: NewPage, size: tuple[int, int], mode: str, sides: int
) -> None:
    bench = Bench([volume(mode=mode, sides=sides)], HEART)
    bench.question = (
        "Which of these would you rather use to measure the volume of the left ventricle?"
    )
    width, height = size
    with comparing(new_page, bench, viewport={"width": width, "height": height}) as page:
        scrolls = page.evaluate(
            "() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        )
        assert scrolls[0] <= width
        assert scrolls[1] <= height
        for one in page.locator("button:visible, input:visible, .pane").all():
            box = one.bounding_box()
            assert box["x"] >= 0
            assert box["y"] >= 0
            assert box["x"] + box["width"] <= width + 0.5
            assert box["y"] + box["height"] <= height + 0.5
        area = page.locator("#panes").bounding_box()
        assert area["height"] > 0.6 * height


def test_every_control_has_a_name_and_can_be_reached_by_tab(new_page: NewPage) -> None:
    with comparing(new_page, Bench([volume()], HEART)) as page:
        controls = page.locator("button:visible:not(:disabled), input:visible")
        names = controls.evaluate_all(
            """found => found.map(one => one.getAttribute("aria-label")
                ?? (one.labels?.length ? one.labels[0].textContent : one.textContent).trim())"""
        )
        assert len(names) > 25
        assert all(any(letter.isalpha() for letter in name) for name in names)
        assert len(set(names)) == len(names)
        reached = set()
        for _ in names:
            page.keyboard.press("Tab")
            reached.add(page.evaluate("() => document.activeElement.outerHTML"))
        assert len(reached) == len(names)
        assert (
            page.locator(".pane canvas").first.get_attribute("aria-label")
            == "Left mask, axial slice 1"
        )
        assert page.locator("[aria-live=polite]").count() == 1


def test_the_keys_are_shown_and_wait(new_page: NewPage) -> None:
    bench = Bench([volume()], HEART)
    with comparing(new_page, bench) as page:
        page.keyboard.press("?")
        text = page.locator("#keys").inner_text()
        for words in (
            "Left is better",
            "Both bad",
            "next slice on which the masks differ",
            "take the last answer back",
        ):
            assert words in text
        page.keyboard.press("ArrowLeft")  # no answer while they are open
        page.keyboard.press("Escape")
        page.wait_for_selector("#keys", state="hidden")
        assert bench.votes == []
        assert press(page, "ArrowUp")["index"] == "1"
