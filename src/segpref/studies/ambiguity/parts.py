"""The parts of the study, in the order in which they need each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from segpref.studies.ambiguity.lab import REFERENCE, AmbiguityLab, Drawing
from segpref.studies.parts import Part, named

__all__ = ["parts"]


def parts(lab: AmbiguityLab, only: Sequence[str] = ()) -> list[Part]:
    """All parts in the order in which they need each other.

    Args:
        lab: the study.
        only: words; just parts with one of them in their name.
    """
    recipe = lab.recipe
    found = []
    for seed in recipe.seeds:
        found += [_trained(lab, "fit", REFERENCE, seed, partial(lab.fit, REFERENCE, seed))]
        found += [_drawn(lab, Drawing(REFERENCE, seed))]
        for name in recipe.methods:
            found += [_trained(lab, "align", name, seed, partial(lab.align, name, seed))]
            found += [_drawn(lab, Drawing(name, seed))]
        found += [
            _drawn(lab, Drawing(n, seed, w)) for n, stops in recipe.knob.items() for w in stops
        ]
        found += [_drawn(lab, Drawing(REFERENCE, seed, described=one)) for one in recipe.control]
        if seed != recipe.seeds[0]:
            continue
        for sampler in recipe.speed:
            path = lab.timed(sampler)
            title = f"speed of {sampler.solver}, {sampler.steps} steps"
            found.append(Part("time", title, path.exists, partial(lab.time, sampler, path)))
        for name in recipe.variants:
            found += [_trained(lab, "fit", name, seed, partial(lab.fit, name, seed))]
            found += [_drawn(lab, Drawing(name, seed))]
    return named(found, only)


def _trained(lab: AmbiguityLab, kind: str, name: str, seed: int, do: Callable[[], None]) -> Part:
    return Part(kind, f"{kind} {name}, seed {seed}", partial(lab.trained, name, seed), do)


def _drawn(lab: AmbiguityLab, drawing: Drawing) -> Part:
    def finished() -> bool:
        return lab.drawn(drawing) and lab.as_it_is(drawing)

    return Part("draw", f"draw {drawing.name}", finished, partial(lab.draw, drawing))
