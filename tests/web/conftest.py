"""One Chromium for the tests of a module; a new page, with storage of its own, for each.

Not one for the session: while playwright runs, no other test of the process could run an event loop.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.waiting import FAILED_S

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
REQUIRED = os.environ.get("SEGPREF_REQUIRE_CHROMIUM") == "1"
WITHOUT_GPU = ["--no-sandbox", "--disable-gpu", "--disable-3d-apis"]


def missing(what: str) -> None:
    sentence = f"{what} is not installed, so the page is not tested in a browser"
    if REQUIRED:
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        missing("Chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    with sync_playwright() as play:
        one = play.chromium.launch(executable_path=CHROMIUM, args=WITHOUT_GPU)
        yield one
        one.close()


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """A page of a new context; what goes wrong in its scripts fails the test."""
    contexts, errors = [], []

    def opened(**options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}, **options})
        context.set_default_timeout(FAILED_S * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        # Shown where a test fails: what the page asked for, and what became of it.
        page.on("requestfailed", lambda one: print("failed", one.method, one.url, one.failure))
        page.on("response", lambda one: print(one.status, one.request.method, one.url))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []
