"""What the page draws equals numpy in every pixel: images, masks, differences, contours."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.web.page_study import Bench, Question, comparing, drawn

BLUE, ORANGE, GREEN = (86, 180, 233), (230, 159, 0), (0, 158, 115)
YELLOW = (240, 228, 66)
NewPage = Callable[..., Any]


def random_question(seed: int, shape: tuple[int, ...], dtype: str, **changes: Any) -> Question:
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        image = rng.normal(size=shape).astype(np.float32)
    else:
        low, high = (
            (-2000, 4000) if dtype.startswith("int") else (0, 255 if dtype == "uint8" else 6000)
        )
        image = rng.integers(low, high, shape, endpoint=True).astype(dtype)
    masks = rng.integers(0, 4, (changes.pop("sides", 2), *shape[:3])).astype(np.uint8)
    settings: dict[str, Any] = {"window": (500.0, 1700.0), "structure": "LV", **changes}
    return Question(image=image, masks=masks, **settings)


def pixels(page: Any, selector: str, at: int = 0) -> np.ndarray:
    found = page.evaluate(
        """async ([selector, at]) => {
            const canvas = document.querySelectorAll(selector)[at];
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const url = await new Promise(done => {
                const reader = new FileReader();
                reader.onload = () => done(reader.result);
                reader.readAsDataURL(new Blob([data]));
            });
            return [canvas.height, canvas.width, url.slice(url.indexOf(",") + 1)];
        }""",
        [selector, at],
    )
    height, width, encoded = found
    return np.frombuffer(base64.b64decode(encoded), np.uint8).reshape(height, width, 4)


def windowed(values: np.ndarray, window: tuple[float, float], inverted: bool = False) -> np.ndarray:
    """RGB of values: linear in the window, rounded half up."""
    low = window[0] - window[1] / 2
    grey = np.floor(np.clip((values.astype(np.float64) - low) / window[1], 0, 1) * 255 + 0.5)
    grey = 255 - grey if inverted else grey
    return np.broadcast_to(grey[..., None], (*grey.shape, 3)) if values.ndim == 2 else grey


def seen(volume: np.ndarray, axis: str, index: int) -> np.ndarray:
    """A slice as a radiologist sees it, from ``[z, y, x]`` growing to head, back and left."""
    if axis == "axial":
        return volume[index]
    flipped = np.flip(volume, 0)
    return flipped[:, index] if axis == "coronal" else flipped[:, :, index]


def check_native(page: Any, image: np.ndarray, masks: list[np.ndarray]) -> None:
    """Image and masks in native pixels: RGB, and for each mask RGB where it is (elsewhere -1)."""
    check_layer(page, "image", image)
    for side, mask in enumerate(masks):
        check_layer(page, f"mask-{side}", mask)


def check_layer(page: Any, name: str, colours: np.ndarray) -> None:
    expected = np.zeros((*colours.shape[:2], 4), np.uint8)
    expected[..., 3] = np.where(colours[..., 0] >= 0, 255, 0)
    expected[..., :3] = np.where(colours >= 0, colours, 0)
    if expected.size < 1_000_000:
        np.testing.assert_array_equal(pixels(page, f"[data-layer={name}]"), expected)
        return
    digest = page.evaluate(
        """async (name) => {
            const canvas = document.querySelector(`[data-layer=${name}]`);
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return [...new Uint8Array(await crypto.subtle.digest("SHA-256", data))];
        }""",
        name,
    )
    assert bytes(digest) == hashlib.sha256(expected.tobytes()).digest()


def check_screen(page: Any, image: np.ndarray, masks: list[np.ndarray], opacity: float) -> None:
    """What is on the screen, with filled masks and the image not smoothed: nearest pixels, blended."""
    for side, mask in enumerate(masks):
        pane = page.locator(".pane canvas").nth(side)
        place = {
            name: float(pane.get_attribute(f"data-{name}"))
            for name in ("scale-x", "scale-y", "left", "top")
        }
        screen = pixels(page, ".pane canvas", side)[..., :3].astype(float)
        y = (np.arange(screen.shape[0]) + 0.5 - place["top"]) / place["scale-y"]
        x = (np.arange(screen.shape[1]) + 0.5 - place["left"]) / place["scale-x"]
        sure_y, sure_x = (
            np.abs(one - np.round(one)) > 0.02 for one in (y, x)
        )  # not on an edge of two pixels
        rows, columns = np.floor(y).astype(int), np.floor(x).astype(int)
        inside = np.ix_(
            (rows >= 0) & (rows < image.shape[0]), (columns >= 0) & (columns < image.shape[1])
        )
        rows, columns = rows.clip(0, image.shape[0] - 1), columns.clip(0, image.shape[1] - 1)
        grey, colour = (
            image[np.ix_(rows, columns)].astype(float),
            mask[np.ix_(rows, columns)].astype(float),
        )
        blended = np.where(colour >= 0, grey * (1 - opacity) + colour * opacity, grey)
        expected = np.zeros_like(screen)
        expected[inside] = blended[inside]
        wrong = np.abs(screen - expected).max(-1) > 2
        assert inside[0].size * inside[1].size > 10_000  # a large part of the pane is image
        assert not wrong[np.ix_(sure_y, sure_x)].any()


def coloured(mask: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> np.ndarray:
    """RGB of the classes given; -1 elsewhere."""
    out = np.full((*mask.shape, 3), -1)
    for code, colour in colours.items():
        out[mask == code] = colour
    return out


HEART = (("RV", 1), ("MYO", 2), ("LV", 3))


@pytest.mark.parametrize(
    ("shape", "dtype", "changes"),
    [
        ((5, 24, 32), "int16", {"spacing": (8.0, 1.25, 1.25)}),
        ((6, 20, 33), "uint16", {"inverted": True, "spacing": (1.0, 2.5, 0.7)}),
        ((4, 17, 21), "float32", {"window": (0.1, 2.5), "spacing": None, "axes": "unknown"}),
        ((7, 19, 23), "int32", {"window": (-3.5, 801.0), "sides": 4, "mode": "best-of-four"}),
        ((1, 40, 50), "uint8", {"window": None, "axes": "picture", "spacing": None}),
        ((1, 40, 50, 3), "uint8", {"window": None, "axes": "picture", "spacing": None}),
        ((1, 31, 45, 3), "uint16", {"window": (3000.0, 5000.0), "axes": "picture"}),
    ],
    ids=["anisotropic", "inverted", "float", "four", "picture", "colour", "deep-colour"],
)
def test_every_pane_equals_numpy(
    new_page: NewPage, shape: tuple[int, ...], dtype: str, changes: dict[str, Any]
) -> None:
    one = random_question(sum(shape), shape, dtype, **changes)
    with comparing(new_page, Bench([one], HEART)) as page:
        page.keyboard.press("o")
        page.keyboard.press("i")
        window = one.window or (127.5, 255.0)
        for axis in ("axial", "coronal", "sagittal")[: 3 if shape[0] > 1 else 1]:
            drawn(page)
            index = int(page.locator(".pane canvas").first.get_attribute("data-index"))
            assert page.locator(".pane canvas").first.get_attribute("data-axis") == axis
            image = windowed(seen(one.image, axis, index), window, one.inverted)
            masks = [coloured(seen(mask, axis, index), {3: GREEN}) for mask in one.masks]
            check_native(page, image, masks)
            check_screen(page, image, masks, 0.4)
            page.keyboard.press("p")


def test_other_structures_and_differences_are_shown_on_demand(new_page: NewPage) -> None:
    one = random_question(1, (3, 24, 30), "int16")
    with comparing(new_page, Bench([one], HEART)) as page:
        index = int(page.locator(".pane canvas").first.get_attribute("data-index"))
        first, second = one.masks[0, index], one.masks[1, index]
        image = windowed(one.image[index], (500, 1700))
        check_native(page, image, [coloured(one, {3: GREEN}) for one in (first, second)])
        layer = pixels(page, "[data-layer=difference]")
        differs = (first == 3) != (second == 3)
        np.testing.assert_array_equal(layer[..., 3] == 255, differs)
        assert (layer[differs][:, :3] == YELLOW).all()
        page.keyboard.press("t")
        drawn(page)
        every = {1: BLUE, 2: ORANGE, 3: GREEN}
        check_native(page, image, [coloured(one, every) for one in (first, second)])


def test_overlapping_structures_are_bits_and_the_one_asked_about_is_on_top(
    new_page: NewPage,
) -> None:
    one = random_question(2, (1, 30, 40), "uint16", axes="picture", structure="lung", spacing=None)
    rng = np.random.default_rng(5)
    one.masks = rng.choice(
        np.array([0, 1, 2, 3, 1 << 31, (1 << 31) | 2], np.uint32), one.masks.shape
    )
    bench = Bench([one], (("heart", 0), ("lung", 1), ("clavicle", 31)), exclusive=False)
    with comparing(new_page, bench) as page:
        image = windowed(one.image[0], (500, 1700))
        lungs = [np.where((mask[0] & 2)[..., None] > 0, ORANGE, (-1, -1, -1)) for mask in one.masks]
        check_native(page, image, lungs)
        page.keyboard.press("t")
        drawn(page)
        masks = []
        for mask in one.masks[:, 0]:
            shown = np.full((*mask.shape, 3), -1)
            for bit, colour in ((31, GREEN), (0, BLUE), (1, ORANGE)):
                shown[(mask >> bit) & 1 == 1] = colour
            masks.append(shown)
        check_native(page, image, masks)


def test_window_keys_change_what_both_panes_show(new_page: NewPage) -> None:
    one = random_question(3, (2, 24, 30), "int16")
    with comparing(new_page, Bench([one], HEART)) as page:
        for key in ("]", "]", "[", ".", ",", ","):
            page.keyboard.press(key)
        drawn(page)
        pane = page.locator(".pane canvas").first
        window = tuple(float(pane.get_attribute(f"data-{name}")) for name in ("centre", "width"))
        assert window[1] == pytest.approx(1700 * 1.15)
        assert window[0] > 500  # darker
        index = int(pane.get_attribute("data-index"))
        np.testing.assert_array_equal(
            pixels(page, "[data-layer=image]")[..., :3], windowed(one.image[index], window)
        )


@pytest.mark.slow
def test_a_radiograph_larger_than_a_texture(new_page: NewPage) -> None:
    """3056 x 2544 pixels: beyond the texture limit of many graphics cards."""
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[:3056, :2544]
    image = ((rows * 2 + columns) % 4096 + rng.integers(0, 50, rows.shape)).astype(np.uint16)
    masks = np.zeros((2, 1, *image.shape), np.uint8)
    masks[0, 0, 500:2900, 300:2400] = 1
    masks[1, 0, 400:3056, 2000:2544] = 1  # to the last row and column
    one = Question(
        image=image[None],
        masks=masks,
        axes="picture",
        structure="lung",
        window=(2000, 4000),
        inverted=True,
    )
    with comparing(new_page, Bench([one], [("lung", 1)])) as page:
        page.keyboard.press("o")
        page.keyboard.press("i")
        drawn(page)
        native = windowed(image, (2000, 4000), True)
        shown = [coloured(mask[0], {1: BLUE}) for mask in masks]
        check_native(page, native, shown)
        check_screen(page, native, shown, 0.4)


def distance_to_edges(
    inside: np.ndarray, y: np.ndarray, x: np.ndarray, scale: tuple[float, float]
) -> np.ndarray:
    """Distance (screen pixels) of points to the nearest pixel edge between inside and outside."""
    padded = np.pad(inside, 1)
    nearest = np.full((len(y), len(x)), np.inf)
    for row, column in zip(
        *np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1]), strict=True
    ):  # along rows
        dx = np.maximum(np.maximum(column - x, x - column - 1), 0) * scale[1]
        nearest = np.minimum(nearest, np.hypot(((y - row) * scale[0])[:, None], dx[None]))
    for row, column in zip(*np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1]), strict=True):
        dy = np.maximum(np.maximum(row - y, y - row - 1), 0) * scale[0]
        nearest = np.minimum(nearest, np.hypot(dy[:, None], ((x - column) * scale[1])[None]))
    return nearest


@pytest.mark.parametrize("others", [False, True], ids=["one", "neighbours"])
def test_contours_run_along_the_edges_of_pixels(new_page: NewPage, others: bool) -> None:
    one = random_question(6, (1, 12, 14), "int16", axes="picture", spacing=(1.0, 1.4, 1.0))
    one.masks[:] = 0
    one.masks[0, 0, 2:7, 3:9] = 3
    one.masks[1, 0, 4:12, 8:14] = 3  # at the border of the image
    one.masks[1, 0, 6, 10] = 0
    one.masks[:, 0, :2, 3:9] = 2  # touches the first
    with comparing(new_page, Bench([one], HEART)) as page:
        if others:
            page.keyboard.press("t")
            drawn(page)
        for side in range(2):
            pane = page.locator(".pane canvas").nth(side)
            names = ("scale-x", "scale-y", "left", "top")
            sx, sy, left, top = (float(pane.get_attribute(f"data-{name}")) for name in names)
            assert sy / sx == pytest.approx(1.4)
            screen = pixels(page, ".pane canvas", side)[..., :3]
            y, x = (
                (np.arange(screen.shape[0]) + 0.5 - top) / sy,
                (np.arange(screen.shape[1]) + 0.5 - left) / sx,
            )
            inside = one.masks[side, 0] == 3
            distance = distance_to_edges(inside, y, x, (sy, sx))
            row, column = np.floor(y).astype(int), np.floor(x).astype(int)
            ok = np.ix_((row >= 0) & (row < 12), (column >= 0) & (column < 14))
            held = np.zeros(screen.shape[:2], bool)
            held[ok] = inside[np.ix_(row[ok[0].ravel()], column[ok[1].ravel()])]
            green = (screen == GREEN).all(-1)
            width = (
                2.0 if others else 1.0
            )  # drawn inside where there are neighbours, else on both sides
            line = distance < width - 0.75
            assert green[line & held & (distance > 0.75) if others else line].all()
            assert not green[distance > width * 1.42 + 0.75].any()
            if others:
                assert not green[~held & (distance > 0.75)].any()
