"""Arrays that processes hand over through memory that both map."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from segpref.array_pipe import Answering, Asking, packed


class Echo:
    """Answers questions in a thread, as a worker does in its process."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        here, self._there = Pipe()
        self._asking, self._work = Asking(here), work
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        answering = Answering(self._there)
        while (question := answering.next().load()) is not None:
            answering.answer(packed(self._work(question)))
        self._there.close()

    def __call__(self, question: Any) -> Any:
        return self._asking.ask(packed(question)).load()

    def close(self) -> None:
        with pytest.raises(EOFError):
            self._asking.ask(packed(None))
        self._asking.close()
        self._thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    one = Echo(lambda question: question)
    yield one
    one.close()


@pytest.mark.parametrize("mapped", [True, False])
def test_arrays_come_as_they_were(mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not mapped:
        monkeypatch.delattr(os, "memfd_create")
    echo = Echo(lambda question: question)
    rng = np.random.default_rng(0)
    # Small and large in turn, so that memory is used again and grows.
    for shape in [(3, 5), (40, 70, 31), (), (0, 4), (50, 70, 31), (2,)]:
        content: dict[str, Any] = {
            "float32": rng.normal(size=shape).astype(np.float32),
            "columns first": np.asfortranarray(rng.normal(size=shape)),
            "every second": rng.integers(0, 9, (*shape, 4)).astype(np.uint8)[..., ::2],
            "text": ["a", {"b": (None, 1.5)}],
        }
        content["read only"] = content["float32"].copy()
        content["read only"].flags.writeable = False
        found = echo(content)
        assert found["text"] == content["text"]
        for name in ("float32", "columns first", "every second", "read only"):
            np.testing.assert_array_equal(found[name], content[name])
            assert found[name].dtype == content[name].dtype
        found["float32"][...] = 7  # a copy of one's own
        assert not (content["float32"] == 7).any()
    echo.close()


def test_without_a_descriptor_left_all_goes_through_the_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(name: str) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", none_left)
    echo = Echo(lambda question: question)
    assert (echo(np.full(1 << 18, 3, np.uint8)) == 3).all()
    echo.close()


def test_answers_that_are_kept_do_not_change(echo: Echo) -> None:
    kept = [echo(np.full(1 << 16, number, np.uint8)) for number in range(70)]
    assert [int(one[-1]) for one in kept] == list(range(70))
    part = kept[3][:5]
    del kept
    for number in range(9):
        echo(np.full(1 << 16, 100 + number, np.uint8))
    assert (part == 3).all()


def test_what_the_other_end_keeps_does_not_change() -> None:
    seen: list[np.ndarray] = []

    def keep(question: np.ndarray) -> int:
        seen.append(question)
        return len(seen)

    echo = Echo(keep)
    for number in range(5):
        assert echo(np.full(1 << 16, number, np.uint8)) == number + 1
    assert [int(one[-1]) for one in seen] == list(range(5))
    echo.close()


def open_descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_memory_is_used_again_and_no_descriptor_is_left_open() -> None:
    before = open_descriptors()
    echo = Echo(lambda question: question)
    echo(np.zeros(1 << 20, np.uint8))
    first = open_descriptors()
    for _ in range(20):
        echo(np.zeros(1 << 20, np.uint8))
    assert open_descriptors() == first
    kept = [echo(np.zeros(1 << 16, np.uint8)) for _ in range(200)]
    assert open_descriptors() <= first + 4 * 17  # both ends are in this process
    echo.close()
    assert len(kept) == 200
    del echo
    assert (
        open_descriptors() <= before + 2 * 17
    )  # those of the end that answers go with its process


def test_whoever_asks_a_process_that_has_ended_is_told() -> None:
    here, there = Pipe()
    there.close()
    with pytest.raises(OSError, match="Broken pipe"):
        Asking(here).ask(packed(1))
