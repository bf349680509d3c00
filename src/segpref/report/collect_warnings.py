"""What to look at before votes are learned from."""

from __future__ import annotations

from segpref.report.collect_data import CollectFigures, RaterFigures

__all__ = ["collect_warnings"]

_ENOUGH = 10
"""Fewer known answers or repeats say nothing about a rater."""
_FAST = 0.1
_UNDECIDED = 0.3


def collect_warnings(found: CollectFigures) -> list[str]:
    """Sentences about what is amiss or may be; empty where all looks well."""
    said = []
    for name, one in found.raters.items():
        said += _about(name, one)
    if len(found.raters) == 1:
        said.append(
            "One rater voted: how far raters agree is not known. Ask for 2 votes on some of the pairs."
        )
    elif found.between.alpha.count == 0 and len(found.raters) > 1:
        said.append(
            "No two raters answered the same question: how far they agree is not known. Ask for 2 "
            "votes on some of the pairs."
        )
    elif found.between.alpha.count >= _ENOUGH and found.between.alpha.low <= 0:
        said.append(
            f"Raters agree no better than chance (Krippendorff's alpha "
            f"{found.between.alpha.value:.2f}, 95 % interval {found.between.alpha.low:.2f} to "
            f"{found.between.alpha.high:.2f}): is the question clear?"
        )
    for model in (found.families, found.models):
        if model is not None and model.statement:
            said.append(model.statement)
    return list(dict.fromkeys(said))


def _about(name: str, one: RaterFigures) -> list[str]:
    said = []
    side = one.side
    if side.count and not side.low <= 0.5 <= side.high:
        said.append(
            f"{name} chooses the {'left' if side.value > 0.5 else 'right'} side too often: left in "
            f"{side.value:.0%} of {side.count} answers (95 % interval {side.low:.0%} to "
            f"{side.high:.0%}), and sides are drawn by chance."
        )
    gold = one.gold
    if gold.count >= _ENOUGH and gold.high < 0.5:
        said.append(
            f"{name} answers known questions worse than chance ({gold.value:.0%} of {gold.count} "
            "right): was the question misunderstood?"
        )
    elif gold.count >= _ENOUGH and gold.low <= 0.5:
        said.append(
            f"{name} is not shown to be better than chance on known questions ({gold.value:.0%} of "
            f"{gold.count} right)."
        )
    again = one.repeats.same
    if again.count >= _ENOUGH and again.low <= 0.5:
        said.append(
            f"{name} is not shown to answer a question twice the same way more often than by chance "
            f"({again.value:.0%} of {again.count} repeats)."
        )
    times = one.times
    if times.count and times.too_fast > _FAST * times.count:
        said.append(
            f"{name} took less than a second for {times.too_fast} of {times.count} votes: too fast to "
            "compare two masks."
        )
    undecided = one.answers.get("cant-tell", 0)
    if one.votes >= _ENOUGH and undecided > _UNDECIDED * one.votes:
        said.append(
            f"{name} could not tell in {undecided} of {one.votes} votes: pairs may be too alike, or "
            "the image may not show what is asked about."
        )
    return said
