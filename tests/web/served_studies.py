"""Study folders of random images and masks, made at once, and clients of their page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from tests.vote_studies import made_store, small_contents

from segpref.collect import Contents, StudyFolder, StudyNote, VoteStore, write_display
from segpref.types import LabelSpace
from segpref.web import Origin, create_app

HEART = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
HOST = "http://votes.test"
OWN = {"X-Segpref": "1", "Origin": HOST}


def made_study(
    folder: Path, contents: Contents | None = None, *, space: LabelSpace = HEART, **note: Any
) -> StudyFolder:
    """A study whose every voxel is random, and another one in every image and mask."""
    contents = contents or small_contents()
    rng = np.random.default_rng(0)
    exclusive = space.kind == "multi-class"
    shapes = {}
    for item in contents.items:
        shown = item.display
        shapes[item.id] = shown.shape
        colours = (3,) if shown.channels == 3 else ()
        values = rng.integers(0, 200, (*shown.shape, *colours)).astype(shown.dtype)
        write_display(folder, shown.asset, values)
    for mask in contents.masks:
        most, kind = (len(space.names), np.uint8) if exclusive else (2**32, np.uint32)
        values = rng.integers(0, most, shapes[mask.item], dtype=kind)
        write_display(folder, mask.asset, values)
    told = StudyNote(
        **{
            "mode": "pair",
            "title": "Hearts",
            "question": "Which is better?",
            "instructions": "Compare.",
            "label_space": space,
            "model": "runs/base",
            "model_digest": "0" * 32,
            "made_at": "2026-01-01T00:00:00+00:00",
            **note,
        }
    )
    return StudyFolder.create(folder, told, contents)


class Page:
    """What the page's script asks, as one rater; nothing is sent that it would not send."""

    def __init__(self, client: TestClient, token: str | None = None) -> None:
        self.client = client
        if token is not None:
            answer = self.post("enter", {"token": token})
            assert answer.status_code == 204, answer.text

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(f"/api/{path}", headers={**OWN, **headers})

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        headers = {**OWN, **options.pop("headers", {})}
        options = options or {"json": {} if body is None else body}
        if "content" in options:
            headers.setdefault("Content-Type", "application/json")
        return self.client.post(f"/api/{path}", headers=headers, **options)

    def next(self) -> dict[str, Any]:
        answer = self.post("next")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def open(self, task: dict[str, Any]) -> None:
        where = f"{task['start']['axis']}/{task['start']['index']}"
        for kind in ("image", "masks"):
            answer = self.get(f"assignments/{task['assignment']}/{kind}/{where}")
            assert answer.status_code == 200, answer.text

    def opened(self) -> dict[str, Any]:
        task = self.next()
        self.open(task)
        return task


@contextmanager
def served(
    folder: Path, study: StudyFolder | None = None, *, where: str | None = None, **options: Any
) -> Iterator[Served]:
    """The app of a study, asked without a network."""
    study = study or made_study(folder / "study")
    store = made_store(
        where or str(folder / "votes.sqlite"), study.contents(), **options.pop("store", {})
    )
    options.setdefault("origin", Origin(HOST))
    try:
        yield Served(study, store, create_app(study, store, **options))
    finally:
        store.close()


class Served:
    """An app and its store."""

    def __init__(self, study: StudyFolder, store: VoteStore, app: Any) -> None:
        self.study, self.store, self.app = study, store, app

    def client(self, **options: Any) -> TestClient:
        return TestClient(self.app, base_url=options.pop("base_url", HOST), **options)

    def rater(self, name: str = "anna") -> Page:
        return Page(self.client(), self.store.add_rater(name))


def ballot(task: dict[str, Any], number: int = 0, **changes: Any) -> dict[str, Any]:
    """A vote as the page sends it; the same number is the same uuid."""
    first = {"best-of-four": "best-0", "accept-reject": "accept"}.get(task["mode"], "left")
    return {
        "uuid": f"00000000-0000-4000-8000-{number:012}",
        "assignment": task["assignment"],
        "choice": first,
        "confidence": 2,
        "shown_ms": 1200,
        "slices_seen": {"axial": [0, 1]},
        "window": [40.0, 350.5],
        "voted_at": "2026-03-01T08:00:00.123Z",
        **changes,
    }
