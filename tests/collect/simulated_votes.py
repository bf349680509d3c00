"""Votes of simulated raters with known habits, as rows of a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np

from segpref.collect import DisplayInfo, Item, Mask, Mode, Pair, VoteRow

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
DISPLAY = DisplayInfo(asset="image", shape=(1, 8, 8), axes="picture", dtype="uint8")

Use = Literal["train", "choose", "gold", "evaluate"]


@dataclass(frozen=True)
class Habits:
    """How a simulated rater answers.

    Args:
        flips: how often the truth is turned round.
        left: how often the left side is taken without a look.
        ties: how often neither is said to be better.
        seconds: per vote.
    """

    flips: float = 0.0
    left: float = 0.0
    ties: float = 0.0
    seconds: float = 6.0


def mask(name: str, item: str, family: str, score: float | None = None, model: str = "m") -> Mask:
    """A mask of a proposal family."""
    return Mask(
        id=name, item=item, prepared_id=name, display_id=name, asset=name, candidate=0, family=family,
        model=model, score=score,
    )  # fmt: skip


def row(
    number: int,
    rater: str,
    pair: Pair,
    item: Item,
    masks: tuple[Mask, ...],
    sides: tuple[int, ...],
    choice: str,
    repeat_of: str | None = None,
    counts: bool = True,
    seconds: float = 6.0,
) -> VoteRow:
    """A stored vote; what was chosen follows from the choice on the screen."""
    place = {"left": 0, "right": 1}.get(choice)
    if choice.startswith("best-"):
        place = int(choice[-1])
    return VoteRow(
        id=number, uuid=f"u{number}", rater=rater, pair=pair, item=item, masks=masks, sides=sides,
        assignment=f"a{number}", repeat_of=repeat_of, choice=choice,
        chosen=None if place is None else sides[place], confidence=2,
        shown_ms=round(1000 * seconds), slices_seen={}, stored_at=START + timedelta(minutes=7 * number),
        counts=counts,
    )  # fmt: skip


def simulated_votes(
    raters: Mapping[str, Habits],
    *,
    images: int = 60,
    pairs_per_image: int = 5,
    gold: float = 0.1,
    repeats: float = 0.2,
    mode: Mode = "pair",
    families: Mapping[str, float] | None = None,
    seed: int = 0,
) -> list[VoteRow]:
    """Every rater answers every pair, and some again with the sides exchanged.

    Which mask is better follows from the families' log-strengths, anew for each pair.
    """
    families = families or {"anchor": 0.5, "dropout": 0.0, "edited": -0.5}
    rng = np.random.default_rng(seed)
    found: list[VoteRow] = []
    for image in range(images):
        use: Use = "evaluate" if mode == "base-or-tuned" else "train"
        item = Item(
            id=f"i{image}", case=f"c{image}", patient=f"p{image // 2}", volume=f"v{image}", use=use,
            display=DISPLAY,
        )  # fmt: skip
        for number in range(pairs_per_image):
            name = f"{image}-{number}"
            two = rng.choice(list(families), 2, replace=False).tolist()
            gap = families[two[0]] - families[two[1]]
            better = int(rng.random() >= 1 / (1 + np.exp(-gap)))
            known = rng.random() < gold
            scores = (0.6, 0.4) if (better == 0) == (rng.random() < 0.9) else (0.4, 0.6)
            masks = tuple(mask(f"{name}-{k}", item.id, two[k], scores[k]) for k in (0, 1))
            pair = Pair(
                id=f"q{name}", item=item.id, masks=tuple(one.id for one in masks), mode=mode,
                structure=("RV", "LV")[number % 2], use="gold" if known else "normal",
                gold=better if known else None, votes=len(raters),
            )  # fmt: skip
            for rater, habits in raters.items():
                sides = tuple(rng.permutation(2).tolist())
                first = row(
                    len(found), rater, pair, item, masks, sides, _choice(better, sides, habits, rng),
                    seconds=habits.seconds,
                )  # fmt: skip
                found.append(first)
                if rng.random() < repeats:
                    turned = sides[::-1]
                    choice = _choice(better, turned, habits, rng)
                    asked = (pair, item, masks, turned)
                    found.append(row(len(found), rater, *asked, choice, first.assignment))
    return found


def _choice(better: int, sides: tuple[int, ...], habits: Habits, rng: np.random.Generator) -> str:
    if rng.random() < habits.left:
        return "left"
    if rng.random() < habits.ties:
        return "tie"
    chosen = better if rng.random() >= habits.flips else 1 - better
    return ("left", "right")[sides.index(chosen)]
