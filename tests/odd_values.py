"""Values that somebody may have written where another one is due, for every place of a description."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

ODD: list[Any] = [
    *(None, True, 0, -1, 1.5, 10**30, "", "a", "os.system", "../x"),
    *([], [1], ["a"], [[1]], [None], {}, {"a": 1}, {"class_path": 1, "init_args": 2}),
]


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    if isinstance(value, list):
        value = dict(enumerate(value))
    for name, part in value.items() if isinstance(value, dict) else ():
        yield from places(part, (*above, name))


def changed(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    if not place:
        return odd
    content = copy.deepcopy(value)
    part = content
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = odd
    return content
