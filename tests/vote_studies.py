"""Small studies to vote on, and raters who do."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from segpref.collect import (
    Assignment,
    Contents,
    DisplayInfo,
    Item,
    Mask,
    Mode,
    Pair,
    Rater,
    VoteIn,
    VoteStore,
)

COUNTS = {"pair": 2, "base-or-tuned": 2, "best-of-four": 4, "accept-reject": 1}
FIRST = {
    "pair": "left",
    "base-or-tuned": "left",
    "best-of-four": "best-0",
    "accept-reject": "accept",
}


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = field(default_factory=lambda: datetime(2026, 3, 1, 8, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def pass_minutes(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)


def small_contents(
    normal: int = 6,
    *,
    gold: int = 0,
    practice: int = 0,
    mode: Mode = "pair",
    votes: int = 1,
    use: Literal["train", "choose", "evaluate"] = "train",
    patients: int = 3,
) -> Contents:
    """One pair per image; every third image is of the same patient."""
    items, masks, pairs = [], [], []
    kinds: list[tuple[str, Any]] = [("practice", practice), ("normal", normal), ("gold", gold)]
    for kind, count in kinds:
        for i in range(count):
            name = f"{kind}{i}"
            items.append(
                _item(name, f"patient-{i % patients}", "gold" if kind != "normal" else use)
            )
            own = [_mask(name, k) for k in range(COUNTS[mode])]
            masks += own
            pairs.append(
                Pair(
                    id=f"pair-{name}", item=f"item-{name}", masks=tuple(one.id for one in own),
                    mode=mode, structure="LV", field_index=0, use=kind,  # type: ignore[arg-type]
                    information=0.1 * i, gold=None if kind == "normal" else 0, votes=votes,
                    slices={"axial": [0, 2]},
                )
            )  # fmt: skip
    return Contents(items=tuple(items), masks=tuple(masks), pairs=tuple(pairs))


def content_id(text: str) -> str:
    """32 hexadecimal digits."""
    return uuid.uuid5(uuid.NAMESPACE_OID, text).hex


def _item(name: str, patient: str, use: Any) -> Item:
    display = DisplayInfo(
        asset=f"image-{name}", shape=(3, 8, 8), axes="LPS", dtype="int16",
        spacing_mm=(5.0, 0.7, 0.7), window=(40.0, 350.5),
    )  # fmt: skip
    return Item(
        id=f"item-{name}", case=f"{patient}-{name}-case", patient=patient, volume=f"{patient}-vol",
        use=use, display=display,
    )  # fmt: skip


def _mask(name: str, number: int) -> Mask:
    return Mask(
        id=f"mask-{name}-{number}", item=f"item-{name}", asset=f"mask-asset-{name}-{number}",
        prepared_id=content_id(f"prepared {name} {number}"),
        display_id=content_id(f"display {name} {number}"), candidate=number, family="dropout",
        settings={"rate": 0.1 * number}, model="abc", score=None if number else 0.25,
    )  # fmt: skip


def made_store(where: str, contents: Contents | None = None, **options: Any) -> VoteStore:
    """A store with a study in it; ``rules`` go to the study, all else to the store."""
    rules = options.pop("rules", None)
    store = VoteStore(where, **options)
    store.create(contents or small_contents(), rules)
    return store


def welcome(store: VoteStore, pseudonym: str = "anna") -> Rater:
    """A new rater who has come in."""
    rater = store.rater_of(store.enter(store.add_rater(pseudonym)))
    assert rater is not None
    return rater


def opened(store: VoteStore, rater: Rater) -> Assignment | None:
    """The next assignment, looked at."""
    given = store.next_assignment(rater)
    if given is not None:
        store.mark_opened(rater, given.id, "image")
        store.mark_opened(rater, given.id, "masks")
    return given


def ballot(given: Assignment, choice: str | None = None, **more: Any) -> VoteIn:
    """A vote with a new uuid."""
    told: dict[str, Any] = {"uuid": str(uuid.uuid4()), "confidence": 2, **more}
    told["choice"] = choice or FIRST[given.pair.mode]
    return VoteIn(assignment=given.id, **told)


def vote_all(
    store: VoteStore,
    rater: Rater,
    choose: Callable[[Assignment], str | None] = lambda _: None,
    most: int | None = None,
) -> list[Assignment]:
    """Answer what there is, or some of it."""  # fmt: skip
    answered: list[Assignment] = []
    while (most is None or len(answered) < most) and (given := opened(store, rater)):
        store.vote(rater, ballot(given, choose(given)))
        answered.append(given)
    return answered
