"""All tests on the accelerator that is not there: ``pytest -p tests.devices.everywhere TESTS``.

Tests that run a network by themselves, or time something, need not pass; what is refused tells.
"""

from __future__ import annotations

from collections.abc import Iterator

import diffusers  # noqa: F401  before torch is changed
import pytest
import transformers  # noqa: F401
from tests.devices.accelerator import accelerator


@pytest.fixture(autouse=True, scope="session")
def _on_accelerator() -> Iterator[None]:
    monkeypatch = pytest.MonkeyPatch()
    with accelerator(monkeypatch, strict=False):
        yield
    monkeypatch.undo()
