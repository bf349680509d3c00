"""Programs that vote through the HTTP interface of a served page."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import numpy as np

from segpref.collect import slice_count

__all__ = ["Voter", "served", "vote"]

Choose = Callable[[np.ndarray, np.ndarray, Mapping[str, Any]], str]
"""From a slice of the image, the masks (``[side, h, w]``, of a volume ``[side, slice, h, w]``) and what
was asked, to what is answered."""


class Voter:
    """A rater with a session of the page.

    Args:
        address: of the server.
        token: of a link.
        choose: answers.
    """

    def __init__(self, address: str, token: str, choose: Choose) -> None:
        self.address, self.choose, self.cookie = address, choose, ""
        with self._ask("POST", "enter", {"token": token}) as answer:
            self.cookie = str(answer.headers["Set-Cookie"]).partition(";")[0]

    def vote_once(self) -> tuple[bool, bool]:
        """Answer the next question.

        Returns:
            Whether there was one, and whether it was practice.
        """
        with self._ask("POST", "next", {}) as answer:
            task = json.load(answer)
        if task.get("done"):
            return False, False
        axis, index = task["start"]["axis"], task["start"]["index"]
        image = self._slice(task, "image", task["image"]["dtype"], axis, index)
        count = slice_count(tuple(task["image"]["shape"]), axis)
        every = [self._slice(task, "masks", task["mask_dtype"], axis, n) for n in range(count)]
        masks = every[0] if count == 1 else np.stack(every, axis=1)
        sent = {
            "uuid": str(uuid.uuid4()), "assignment": task["assignment"],
            "choice": self.choose(image, masks, task), "confidence": None, "shown_ms": 5000,
            "slices_seen": {axis: list(range(count))}, "window": None,
            "voted_at": "2026-03-01T08:00:00Z",
        }  # fmt: skip
        with self._ask("POST", "votes", sent):
            return True, bool(task["practice"])

    def _slice(
        self, task: Mapping[str, Any], kind: str, dtype: str, axis: str, index: int
    ) -> np.ndarray:
        path = f"assignments/{task['assignment']}/{kind}/{axis}/{index}"
        with self._ask("GET", path) as answer:
            shape = [int(one) for one in answer.headers["X-Segpref-Shape"].split(",")]
            values = np.frombuffer(answer.read(), np.dtype(dtype).newbyteorder("<"))
        return values.reshape(shape if kind == "image" else (int(task["sides"]), *shape[-2:]))

    def _ask(self, method: str, path: str, body: Any = None) -> HTTPResponse:
        request = urllib.request.Request(
            f"{self.address}/api/{path}",
            None if body is None else json.dumps(body).encode(),
            {"X-Segpref": "1", "Origin": self.address, "Content-Type": "application/json"},
            method=method,
        )
        if self.cookie:
            request.add_header("Cookie", self.cookie)
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=60)
        return answer


def vote(voters: list[Voter], total: int, stored: int = 0) -> int:
    """Let raters vote in turns until so many votes are stored, practice not counted.

    Args:
        voters: who votes.
        total: how many votes.
        stored: how many are there already.

    Returns:
        How many there are; fewer than wanted where there was nothing more to ask.
    """
    waiting = list(voters)
    while waiting and stored < total:
        for voter in list(waiting):
            asked, practice = voter.vote_once()
            if not asked:
                waiting.remove(voter)
            stored += asked and not practice
            if stored >= total:
                break
    return stored


@contextmanager
def served(study: Path) -> Iterator[str]:
    """Serve a study as a user does; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "segpref.cli.main", "collect", "serve", str(study), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "http://" in line:
                # Nobody reads on: a full pipe would stop the server.
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield "http://" + line.partition("http://")[2].split()[0].rstrip("/.")
                return
        raise RuntimeError(f"{study} is not served: the command ended with {process.wait()}")
    finally:
        process.terminate()
        process.wait()
