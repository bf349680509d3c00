"""A study from end to end in a browser: files as packed, the real server, the real store."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tests.vote_studies import small_contents
from tests.web.page_study import Bench, Question, Server, comparing, drawn
from tests.web.served_studies import made_study, served
from tests.web.test_page_pixels import BLUE, check_native, coloured, pixels, windowed

from segpref.collect import layout_of, native_of, packed_mask, slice_of
from segpref.data import Source, read_volume
from segpref.types import Case, LabelSpace

pytestmark = pytest.mark.slow  # together they take minutes: each opens a page in a browser
NewPage = Callable[..., Any]
HEART = LabelSpace("multi-class", ("background", "LV"))


def oblique() -> np.ndarray:
    """Axes turned by 20 degrees, exchanged, and one flipped."""
    angle = np.deg2rad(20)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    axes = np.array([[0, 0, 1.5], [-0.9, 0, 0], [0, 2.5, 0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes
    return affine


AFFINES = {
    "RAS": np.diag([0.8, 0.9, 3.0, 1]),
    "LPS": np.diag([-0.8, -0.9, 3.0, 1]),
    "LAS": np.diag([-1.0, 1.0, 1.0, 1]),
    "oblique": oblique(),
}


@pytest.mark.parametrize("name", AFFINES)
def test_a_file_is_shown_as_radiologists_see_it(
    new_page: NewPage, tmp_path: Path, name: str
) -> None:
    """What is expected comes from nibabel's own reorientation."""
    rng = np.random.default_rng(1)
    values = rng.integers(-200, 1000, (9, 11, 7)).astype(np.int16)
    candidates = rng.integers(0, 2, (2, 9, 11, 7)).astype(np.uint8)
    path = tmp_path / "image.nii.gz"
    nib.Nifti1Image(values, AFFINES[name]).to_filename(path)
    read = read_volume(path)
    case = Case(
        id="a", patient="a", volume="a", image=read.array.astype(np.float32), affine=read.affine,
        spacing_mm=read.spacing_mm, oriented=read.oriented,
    )  # fmt: skip
    native = native_of(Source(id="a", patient="a", images=(path,)), case)
    layout = layout_of(case)
    one = Question(
        image=layout(native.values), structure="LV", axes=layout.axes, spacing=layout.spacing_mm,
        masks=np.stack([packed_mask(mask[None], layout, HEART) for mask in candidates]),
        window=(400, 1000),
    )  # fmt: skip

    def canonical(array: np.ndarray) -> np.ndarray:
        image = nib.Nifti1Image(array, AFFINES[name])
        return np.asanyarray(nib.as_closest_canonical(image).dataobj)

    def cut(array: np.ndarray, axis: str, at: int) -> np.ndarray:
        right_first = canonical(array)[::-1, ::-1, :]  # x from right to left, y from front to back
        if axis == "axial":
            return right_first[:, :, at].T
        from_head = right_first[:, :, ::-1]
        return from_head[:, at].T if axis == "coronal" else from_head[at].T

    sizes = nib.as_closest_canonical(nib.Nifti1Image(values, AFFINES[name])).header.get_zooms()
    with comparing(new_page, Bench([one], [("LV", 1)])) as page:
        for axis, (wide, tall) in {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}.items():
            drawn(page)
            pane = page.locator(".pane canvas").first
            at = int(pane.get_attribute("data-index"))
            assert pane.get_attribute("data-axis") == axis
            masks = [coloured(cut(mask, axis, at), {1: BLUE}) for mask in candidates]
            check_native(page, windowed(cut(values, axis, at), (400, 1000)), masks)
            scale = [float(pane.get_attribute(f"data-scale-{one}")) for one in "xy"]
            assert scale[1] / scale[0] == pytest.approx(sizes[tall] / sizes[wide], rel=1e-3)
            page.keyboard.press("p")


def test_a_study_is_voted_by_keyboard_alone(new_page: NewPage, tmp_path: Path) -> None:
    pressed: dict[str, tuple[str, int | None]] = {}
    keys = {
        "ArrowLeft": "left",
        "ArrowRight": "right",
        "=": "tie",
        "b": "both-bad",
        "u": "cant-tell",
    }
    study = made_study(tmp_path / "study", small_contents(10))
    with served(tmp_path, study, origin=None, store={"random": random.Random(1)}) as app:
        store = app.store
        token = store.add_rater("anna")
        server = Server(app.app)
        page = new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{server.origin}/#{token}")
        page.wait_for_selector("#begin:visible")
        page.keyboard.press("Enter")
        number = 0
        while True:
            page.wait_for_selector('#done:visible, #compare[data-phase="ready"]')
            if page.locator("#done").is_visible():
                break
            with page.expect_response("**/api/votes") as sent:
                key = list(keys)[number % len(keys)]
                if number % 2:
                    page.keyboard.press("2")
                page.keyboard.press("ArrowUp")
                drawn(page)
                check_sides(page, app, asked)
                page.keyboard.press(key)
            assert sent.value.status == 201
            body = sent.value.request.post_data_json
            pressed[body["assignment"]] = (keys[key], 2 if number % 2 else None)
            number += 1
            # The answer's receipt and the next question, or the end.
            page.wait_for_function(
                "number => document.querySelector('#progress').value >= number", arg=number
            )
        server.stop()
        rows = list(store.votes())
        assert len(rows) == len(pressed) >= 10
        for row in rows:
            choice, confidence = pressed[row.assignment]
            assert (row.rater, row.choice, row.confidence) == ("anna", choice, confidence)
            place = {"left": 0, "right": 1}.get(choice)
            assert row.chosen == (None if place is None else row.sides[place])
            assert row.counts
            assert row.shown_ms is not None
        assert {row.sides for row in rows} == {(0, 1), (1, 0)}
        assert all(url.startswith(server.origin) for url in asked)


def check_sides(page: Any, app: Any, asked: list[str]) -> None:
    """The masks on the screen are those that the store put there, side by side."""
    number = next(url.split("/")[-4] for url in reversed(asked) if "/masks/" in url)
    given = app.store.assignment(app.store.raters()[0], number)
    pane = page.locator(".pane canvas").first
    axis, at = pane.get_attribute("data-axis"), int(pane.get_attribute("data-index"))
    for side, mask in enumerate(given.masks):
        held = slice_of(app.study.read_display(mask.asset), axis, at) == 3
        np.testing.assert_array_equal(
            pixels(page, f"[data-layer=mask-{side}]")[..., 3] == 255, held
        )
