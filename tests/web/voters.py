"""Raters as programs: they ask a running server what the page asks, and try again until it answers."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from tests.waiting import FAILED_S

Choose = Callable[[dict[str, Any], "Voter"], str | dict[str, Any]]
"""From a task, as ``api/next`` gives it, and its voter to a choice, or to changes of the vote."""

DOWN_S = 0.02
PATIENCE = 30_000
FIRST = {"best-of-four": "best-0", "accept-reject": "accept"}


@dataclass
class Voter:
    """One rater.

    Args:
        address: of the server.
        session: value of the cookie.
        choose: what is voted; the first choice of the mode if left out.
    """

    address: str
    session: str
    choose: Choose = lambda task, _: FIRST.get(task["mode"], "left")
    acknowledged: list[dict[str, Any]] = field(default_factory=list)
    conflicts: int = 0
    repeated: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    interrupted: int = 0

    def __post_init__(self) -> None:
        headers = {"X-Segpref": "1", "Origin": self.address, "Cookie": f"segpref={self.session}"}
        self.client = httpx.Client(
            base_url=f"{self.address}/api/", headers=headers, timeout=FAILED_S
        )

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """An answer; where there is none, or the server can't now, the same again."""
        for _ in range(PATIENCE):
            started = time.perf_counter()
            try:
                options = {} if method == "GET" else {"json": {} if body is None else body}
                answer = self.client.request(method, path, **options)
            except httpx.TransportError:
                self.interrupted += 1
                time.sleep(DOWN_S)
                continue
            if answer.status_code < 500:
                kind = "slice" if method == "GET" else path
                self.seconds.setdefault(kind, []).append(time.perf_counter() - started)
                return answer
            time.sleep(DOWN_S)
        raise AssertionError(f"no answer to {method} {path}")

    def next(self) -> dict[str, Any] | None:
        """What is asked next; None after the last."""
        answer = self.ask("POST", "next")
        assert answer.status_code == 200, answer.text
        task: dict[str, Any] = answer.json()
        return None if task.get("done") else task

    def slice(self, task: dict[str, Any], kind: str, axis: str, index: int) -> np.ndarray:
        """Values as the page draws them."""
        answer = self.ask("GET", f"assignments/{task['assignment']}/{kind}/{axis}/{index}")
        assert answer.status_code == 200, answer.text
        dtype = task["image"]["dtype"] if kind == "image" else task["mask_dtype"]
        shape = [int(one) for one in answer.headers["X-Segpref-Shape"].split(",")]
        return np.frombuffer(answer.content, np.dtype(dtype).newbyteorder("<")).reshape(shape)

    def slices(self, task: dict[str, Any], kind: str, axis: str | None = None) -> np.ndarray:
        """All slices along an axis, the first of the study's axes if left out: ``[index, ...]``."""
        axis = axis or task["start"]["axis"]
        count = task["image"]["shape"][("axial", "coronal", "sagittal").index(axis)]
        return np.stack([self.slice(task, kind, axis, index) for index in range(count)])

    def open(self, task: dict[str, Any]) -> None:
        """Look at the slice that is shown first."""
        for kind in ("image", "masks"):
            self.slice(task, kind, **task["start"])

    def vote(self, task: dict[str, Any], choice: str | dict[str, Any]) -> bool:
        """Vote, with the same uuid until it is acknowledged.

        Returns:
            Whether it was stored; False where the comparison has another vote.
        """
        changes = choice if isinstance(choice, dict) else {"choice": choice}
        body = {
            "uuid": str(uuid.uuid4()),
            "assignment": task["assignment"],
            "confidence": 2,
            "shown_ms": 1500,
            "slices_seen": {task["start"]["axis"]: [task["start"]["index"]]},
            "window": task["image"]["window"],
            "voted_at": "2026-03-01T08:00:00Z",
            **changes,
        }
        answer = self.ask("POST", "votes", body)
        if answer.status_code == 409:
            self.conflicts += 1
            return False
        assert answer.status_code in (200, 201), answer.text
        self.repeated += answer.status_code == 200
        self.acknowledged.append(body)
        return True

    def vote_all(self, most: int | None = None) -> None:
        """Answer what there is, or as many as said."""
        while most is None or len(self.acknowledged) < most:
            task = self.next()
            if task is None:
                return
            self.open(task)
            self.vote(task, self.choose(task, self))


def enter(address: str, token: str) -> str:
    """Use a link up; the value of the cookie."""
    headers = {"X-Segpref": "1", "Origin": address}
    answer = httpx.post(
        f"{address}/api/enter", json={"token": token}, headers=headers, timeout=FAILED_S
    )
    assert answer.status_code == 204, answer.text
    return answer.cookies["segpref"]


class Crowd:
    """Raters who vote at the same time, each in a thread.

    Args:
        voters: who.
        most: votes of each; all that there are if left out.
    """

    def __init__(self, voters: Iterable[Voter], most: int | None = None) -> None:
        self.voters = list(voters)
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(one, most), daemon=True) for one in self.voters
        ]

    def start(self) -> None:
        for one in self._threads:
            one.start()

    def join(self) -> None:
        """Wait until all are done; the first error of any."""
        for one in self._threads:
            one.join()
        for voter in self.voters:
            voter.client.close()
        if self._errors:
            raise self._errors[0]

    @property
    def acknowledged(self) -> int:
        """Votes that the server said it has stored."""
        return sum(len(one.acknowledged) for one in self.voters)

    def check_alive(self) -> None:
        """The first error of any, while they vote."""
        if self._errors:
            raise self._errors[0]

    def _run(self, voter: Voter, most: int | None) -> None:
        try:
            voter.vote_all(most)
        except BaseException as error:
            self._errors.append(error)


def biased(seed: int, left: float) -> Choose:
    """Somebody who looks at nothing: left with this chance, right otherwise."""
    rng = random.Random(seed)
    return lambda *_: "left" if rng.random() < left else "right"


def by_choice(crowd: Crowd) -> Counter[str]:
    """How often each choice was acknowledged."""
    return Counter(body["choice"] for voter in crowd.voters for body in voter.acknowledged)
