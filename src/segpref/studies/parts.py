"""Parts of a study that are done one after the other, each once, resumed where it was killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from segpref.locking import alone_in
from segpref.progress import console, stdout
from segpref.types import SegprefError

__all__ = ["Part", "list_parts", "named", "run_parts"]


@dataclass(frozen=True)
class Part:
    """One thing to do.

    Args:
        kind: such as ``fit`` or ``align``; parts of a kind take about as long.
        name: what progress calls it.
        finished: whether it is done.
        do: does it, or what is left of it.
    """

    kind: str
    name: str
    finished: Callable[[], bool] = field(repr=False)
    do: Callable[[], None] = field(repr=False)


def named(parts: Sequence[Part], words: Sequence[str]) -> list[Part]:
    """Those with one of the words in their name, whatever the case; all where there is no word.

    Raises:
        SegprefError: there is none.
    """
    wanted = [word.lower() for word in words]
    found = [p for p in parts if not wanted or any(word in p.name.lower() for word in wanted)]
    if not found:
        raise SegprefError(
            f"no part of the study has {' or '.join(words)} in its name: --list_only names all"
        )
    return found


def list_parts(parts: Sequence[Part]) -> None:
    """Print them, and whether they are finished."""
    for part in parts:
        stdout.print("finished" if part.finished() else "to do   ", part.name, soft_wrap=True)


def run_parts(out: Path, todo: Sequence[Part]) -> None:
    """Do what is not finished yet, one part after the other, and tell how long the rest will take.

    Args:
        out: the study's folder; one process at a time works in it.
        todo: the parts, each after those that it needs.

    Raises:
        SegprefError: a part can't be done, or another process works in the folder.
    """
    taken: dict[str, list[float]] = {}
    with alone_in(out):
        for number, part in enumerate(todo, start=1):
            if part.finished():
                continue
            left = _left([one.kind for one in todo[number - 1 :] if not one.finished()], taken)
            console.print(f"{number} of {len(todo)}: {part.name}{left}", soft_wrap=True)
            start = time.monotonic()
            part.do()
            taken.setdefault(part.kind, []).append(time.monotonic() - start)


def _left(kinds: Sequence[str], taken: dict[str, list[float]]) -> str:
    """Time left, from how long parts of the same kind took."""
    known = [seconds for each in taken.values() for seconds in each]
    if not known:
        return ""
    expected = {kind: median(each) for kind, each in taken.items()}
    minutes = sum(expected.get(kind, median(known)) for kind in kinds) / 60
    return f", about {max(minutes, 1):.0f} min left"
