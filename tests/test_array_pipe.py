"""Arrays that processes hand over through memory that both map."""

from __future__ import annotations

import os
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from segpref.array_pipe import packed, receive


def handed_over(content: Any) -> Any:
    here, there = Pipe()
    # A pipe holds less than some of these objects.
    sending = Thread(target=packed(content).send, args=(here,))
    sending.start()
    found = receive(there).load()
    sending.join()
    return found


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("shape", [(), (0, 4), (3, 5), (40, 70, 31)])
def test_arrays_come_as_they_were(
    mapped: bool, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not mapped:
        monkeypatch.delattr(os, "memfd_create")
    rng = np.random.default_rng(0)
    content = {
        "float32": rng.normal(size=shape).astype(np.float32),
        "columns first": np.asfortranarray(rng.normal(size=shape)),
        "every second": rng.integers(0, 9, (*shape, 4)).astype(np.uint8)[..., ::2],
        "text": ["a", {"b": (None, 1.5)}],
    }
    content["read only"] = content["float32"].copy()
    content["read only"].flags.writeable = False
    found = handed_over(content)
    assert found["text"] == content["text"]
    for name in ("float32", "columns first", "every second", "read only"):
        np.testing.assert_array_equal(found[name], content[name])
        assert found[name].dtype == content[name].dtype
    found["float32"][...] = 7  # a copy of one's own
    assert not (content["float32"] == 7).any()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_is_left_open() -> None:
    array = np.zeros(1 << 20, np.uint8)
    handed_over(array)
    before = open_descriptors()
    for _ in range(20):
        handed_over(array)
    assert open_descriptors() <= before + 4  # pipes that are not collected yet


def test_memory_lasts_as_long_as_its_arrays() -> None:
    first, second = handed_over([np.full(1 << 18, 3, np.uint8), np.full(1 << 18, 4, np.uint8)])
    del first
    assert (second == 4).all()


def test_whoever_waits_for_a_process_that_has_ended_is_told() -> None:
    here, there = Pipe()
    here.close()
    with pytest.raises(EOFError):
        receive(there)
