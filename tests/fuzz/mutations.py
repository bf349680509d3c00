"""What a fuzz test is made of: one change of something valid, and what must come of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from segpref.types import SegprefError

__all__ = ["Mutation", "cut", "flipped", "hold", "spread"]


@dataclass(frozen=True)
class Mutation:
    """One change, labelled with what must come of it.

    Args:
        name: of the change, unique in its module.
        must: ``refuse`` (one sentence that a user can act on) or ``equal`` (what was there before).
        attempt: makes the changed thing in an empty folder and reads it; what it returns is compared.
        right: what an equal change returns.
    """

    name: str
    must: Literal["refuse", "equal"]
    attempt: Callable[[Path], object]
    right: Callable[[], object] = lambda: None

    def __str__(self) -> str:
        return f"{self.must}: {self.name}"


def hold(mutation: Mutation, folder: Path) -> None:
    """Carry a change out and check its label.

    Raises:
        AssertionError: it passed in silence, changed something, or is refused in more than a sentence.
    """
    if mutation.must == "equal":
        same(mutation.attempt(folder), mutation.right())
        return
    with pytest.raises(SegprefError) as refused:
        mutation.attempt(folder)
    sentence(str(refused.value))


def sentence(told: str) -> None:
    """Check that it is one sentence, for a user and not for a programmer."""
    assert told.strip()
    assert "\n" not in told, told
    assert len(told) < 900, told
    for internal in ("Traceback", "usage:", "<class '", "typing.", "<function", "NoneType"):
        assert internal not in told, told


def same(got: object, right: object) -> None:
    """Compare nested plain values and arrays, bit by bit."""
    if isinstance(right, dict):
        assert isinstance(got, dict)
        assert list(got) == list(right)
        for name, value in right.items():
            same(got[name], value)
    elif isinstance(right, list | tuple):
        assert isinstance(got, list | tuple)
        assert len(got) == len(right)
        for one, other in zip(got, right, strict=True):
            same(one, other)
    elif isinstance(right, np.ndarray):
        np.testing.assert_array_equal(got, right)
    else:
        assert got == right


def spread(count: int, size: int, seed: int, first: int = 0) -> list[int]:
    """``count`` places from ``first`` up to the size, spread over it, at random but always the same."""
    draw = random.Random(seed)
    step = (size - first) / count
    return [first + int(step * (n + draw.random())) for n in range(count)]


def cut(data: bytes, count: int, seed: int, last: float = 1.0) -> Iterator[tuple[int, bytes]]:
    """The data cut off at some places, of which the last is at this share of it."""
    for place in spread(count, int(len(data) * last), seed):
        yield place, data[:place]


def flipped(data: bytes, count: int, seed: int, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """The data with one bit turned, at some places."""
    draw = random.Random(seed)
    for place in spread(count, len(data), seed, first):
        changed = bytearray(data)
        changed[place] ^= 1 << draw.randrange(8)
        yield place, bytes(changed)


def labelled(mutations: Iterable[Mutation]) -> list[object]:
    """As parameters of a test."""
    return [pytest.param(one, id=str(one)) for one in mutations]
