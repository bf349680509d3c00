"""The parts of the study, each done once and resumed where it was killed, with the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from segpref.progress import console
from segpref.studies.ambiguity.lab import REFERENCE, AmbiguityLab, Drawing
from segpref.studies.runner import alone_in

__all__ = ["Part", "parts", "run_parts"]


@dataclass(frozen=True)
class Part:
    """One thing to do.

    Args:
        kind: ``fit``, ``align``, ``draw`` or ``time``; parts of a kind take about as long.
        name: what progress calls it.
        finished: whether it is done.
        do: does it, or what is left of it.
    """

    kind: str
    name: str
    finished: Callable[[], bool] = field(repr=False)
    do: Callable[[], None] = field(repr=False)


def parts(
    lab: AmbiguityLab, seeds: Sequence[int] | None = None, only: Sequence[str] = ()
) -> list[Part]:
    """All parts in the order in which they need each other.

    Args:
        lab: the study.
        seeds: instead of the recipe's.
        only: words; just parts with one of them in their name.
    """
    recipe = lab.recipe
    found = []
    for seed in recipe.seeds if seeds is None else seeds:
        found += [_trained(lab, "fit", REFERENCE, seed, partial(lab.fit, REFERENCE, seed))]
        found += [_drawn(lab, Drawing(REFERENCE, seed))]
        for name in recipe.methods:
            found += [_trained(lab, "align", name, seed, partial(lab.align, name, seed))]
            found += [_drawn(lab, Drawing(name, seed))]
        found += [_drawn(lab, Drawing(n, seed, w)) for n in recipe.knob_of for w in recipe.knob]
        found += [_drawn(lab, Drawing(REFERENCE, seed, described=one)) for one in recipe.control]
        if seed != recipe.seeds[0]:
            continue
        for sampler in recipe.speed:
            path = lab.timed(sampler)
            title = f"speed of {sampler.solver}, {sampler.steps} steps"
            found.append(Part("time", title, path.exists, partial(lab.time, sampler, path)))
        for name, variant in recipe.variants.items():
            found += [_trained(lab, "fit", name, seed, partial(lab.fit, name, seed, variant))]
            found += [_drawn(lab, Drawing(name, seed))]
    words = [word.lower() for word in only]
    return [part for part in found if not words or any(word in part.name.lower() for word in words)]


def run_parts(lab: AmbiguityLab, todo: Sequence[Part]) -> None:
    """Do what is not finished yet, one part after the other.

    Raises:
        SegprefError: a part can't be done, or another process works in the folder.
    """
    taken: dict[str, list[float]] = {}
    with alone_in(lab.out):
        for number, part in enumerate(todo, start=1):
            if part.finished():
                continue
            left = _left([one.kind for one in todo[number - 1 :] if not one.finished()], taken)
            console.print(f"{number} of {len(todo)}: {part.name}{left}", soft_wrap=True)
            start = time.monotonic()
            part.do()
            taken.setdefault(part.kind, []).append(time.monotonic() - start)


def _trained(lab: AmbiguityLab, kind: str, name: str, seed: int, do: Callable[[], None]) -> Part:
    folder = lab.folder(name, seed)
    return Part(kind, f"{kind} {name}, seed {seed}", lambda: folder.finished, do)


def _drawn(lab: AmbiguityLab, drawing: Drawing) -> Part:
    return Part(
        "draw", f"draw {drawing.name}", partial(lab.drawn, drawing), partial(lab.draw, drawing)
    )


def _left(kinds: Sequence[str], taken: dict[str, list[float]]) -> str:
    """Time left, from how long parts of the same kind took."""
    known = [seconds for each in taken.values() for seconds in each]
    if not known:
        return ""
    expected = {kind: median(each) for kind, each in taken.items()}
    minutes = sum(expected.get(kind, median(known)) for kind in kinds) / 60
    return f", about {max(minutes, 1):.0f} min left"
