"""No file runs code, reaches a network or imports anything unknown unless it is trusted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("gadgets")
    # A process of its own, for an audit hook is never taken away again.
    program = Path(__file__).with_name("gadgets.py")
    environment = {**os.environ, "SEGPREF_CACHE": str(root / "cache"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, str(program), str(root)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_no_gadget_is_opened(found: dict[str, Any]) -> None:
    assert found["tried"] > 1000
    assert found["opened"] == []


def test_nothing_happens_on_the_way(found: dict[str, Any]) -> None:
    assert found["events"] == {}


def test_a_poisoned_cache_is_made_anew(found: dict[str, Any]) -> None:
    assert found["evaluated"] == 0
