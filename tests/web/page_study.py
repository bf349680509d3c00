"""A study of arrays in memory, served as the page expects it, without a folder or a database."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from segpref.collect import OPTIONS, slice_of

STATIC = Path(__file__).parents[2] / "src" / "segpref" / "web" / "static"


@dataclass(kw_only=True)
class Question:
    """One assignment: an image ``[z, y, x(, 3)]`` and masks ``[side, z, y, x]`` as they are packed."""

    image: np.ndarray
    masks: np.ndarray
    mode: str = "pair"
    structure: str | None = None
    axes: str = "LPS"
    spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    window: tuple[float, float] | None = None
    inverted: bool = False
    practice: str | None = None
    start: tuple[str, int] | None = None

    def slices(self) -> dict[str, list[int]]:
        differs = (self.masks != self.masks[:1]).any(0)
        others = {"axial": (1, 2), "coronal": (0, 2), "sagittal": (0, 1)}
        return {
            axis: [int(i) for i in np.nonzero(differs.any(at))[0]] for axis, at in others.items()
        }


@dataclass
class Bench:
    """The HTTP contract over questions in a list; what was voted is in ``votes``."""

    questions: Sequence[Question]
    structures: Sequence[tuple[str, int]]
    exclusive: bool = True
    title: str = "Short-axis cardiac MRI"
    question: str = "Which mask would you rather use to measure volumes?"
    instructions: str = "Compare the masks on all slices."
    votes: list[dict[str, Any]] = field(default_factory=list)
    expired: bool = False
    full: bool = False
    refuses: str | None = None  # the sentence with which votes are refused for good
    broken: dict[str, Response] = field(default_factory=dict)  # sent for "1/masks" instead

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def guard(request: Request, follow: Any) -> Response:
            path = request.url.path
            open_to_all = not path.startswith("/api/") or path == "/api/enter"
            if not open_to_all and (self.expired or "segpref" not in request.cookies):
                return JSONResponse({"error": "Your session has ended."}, 401)
            answer: Response = await follow(request)
            answer.headers["Content-Security-Policy"] = (
                "default-src 'none'; script-src 'self'; style-src 'self'; "
                "img-src 'self' blob:; connect-src 'self'"
            )
            answer.headers["Cache-Control"] = "no-store"
            return answer

        @app.get("/{name}")
        def static(name: str) -> Response:
            return (
                FileResponse(STATIC / name)
                if (STATIC / name).is_file()
                else Response(status_code=404)
            )

        @app.get("/")
        def index() -> FileResponse:
            return FileResponse(STATIC / "index.html")

        @app.post("/api/enter")
        def enter() -> Response:
            answer = Response(status_code=204)
            answer.set_cookie("segpref", "secret", httponly=True, samesite="strict")
            return answer

        @app.get("/api/study")
        def study() -> dict[str, Any]:
            return {
                "title": self.title,
                "question": self.question,
                "instructions": self.instructions,
                "mode": self.questions[0].mode,
                "choices": {
                    mode: [[one.answer, one.key, one.shown, one.words] for one in options]
                    for mode, options in OPTIONS.items()
                },
                "structures": [{"name": name, "code": code} for name, code in self.structures],
                "exclusive": self.exclusive,
                "rater": "rater-1",
                "progress": self.progress(),
            }

        @app.post("/api/next")
        def following() -> dict[str, Any]:
            return self.task()

        @app.get("/api/assignments/{at}/{kind}/{axis}/{index}")
        def values(at: int, kind: str, axis: Any, index: int) -> Response:
            if f"{at}/{kind}" in self.broken:
                return self.broken[f"{at}/{kind}"]
            one = self.questions[at]
            shown = [one.image] if kind == "image" else list(one.masks)
            slices = [np.ascontiguousarray(slice_of(each, axis, index)) for each in shown]
            return Response(
                b"".join(each.tobytes() for each in slices), media_type="application/octet-stream"
            )

        @app.post("/api/votes")
        def vote(body: dict[str, Any]) -> JSONResponse:
            if self.full:
                return JSONResponse({"error": "The disk is full."}, 507)
            if self.refuses:
                return JSONResponse({"error": self.refuses}, 409)
            known = any(one["uuid"] == body["uuid"] for one in self.votes)
            if not known:
                self.votes.append(body)
            return JSONResponse({"progress": self.progress()}, 200 if known else 201)

        @app.post("/api/undo")
        def undo(body: dict[str, Any]) -> dict[str, Any]:
            if self.votes and self.votes[-1]["uuid"] == body["uuid"]:
                self.votes.pop()
            return self.task()

        @app.get("/api/practice/{at}/answer")
        def practice(at: int) -> dict[str, Any]:
            right = self.questions[at].practice
            said = next(one["choice"] for one in self.votes if one["assignment"] == str(at))
            return {
                "choice": right,
                "correct": said == right,
                "why": "The other one misses a part.",
            }

        return app

    def progress(self) -> dict[str, int]:
        practice = [one.practice is not None for one in self.questions]
        done = [self.questions[int(one["assignment"])].practice is None for one in self.votes]
        left = sum(practice) - (len(done) - sum(done))
        return {"done": sum(done), "total": len(practice) - sum(practice), "practice_left": left}

    def task(self) -> dict[str, Any]:
        at = len(self.votes)
        last = self.votes[-1]["uuid"] if self.votes else None
        shared = {"progress": self.progress(), "undo": last}
        if at == len(self.questions):
            return {"done": True, **shared}
        one = self.questions[at]
        axis, index = one.start or ("axial", (one.slices()["axial"] or [0])[0])
        return {
            "assignment": str(at),
            "mode": one.mode,
            "practice": one.practice is not None,
            "structure": one.structure,
            "sides": len(one.masks),
            "image": {
                "shape": one.image.shape[:3],
                "axes": one.axes,
                "channels": 3 if one.image.ndim == 4 else 1,
                "dtype": str(one.image.dtype),
                "spacing_mm": one.spacing,
                "window": one.window,
                "inverted": one.inverted,
            },
            "mask_dtype": str(one.masks.dtype),
            "structures": [name for name, _ in self.structures],
            "slices": one.slices(),
            "start": {"axis": axis, "index": index},
            **shared,
        }


class Server:
    """An application on a free port, in a thread; once stopped, it can start again on the same port."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        config = uvicorn.Config(self._app, port=self.port, log_level="error", lifespan="off")
        self._server = uvicorn.Server(config)
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, daemon=True
        )
        self._thread.start()
        # The socket accepts connections from now on, whenever the server gets to them.
        listening.listen(128)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


@contextmanager
def comparing(new_page: Callable[..., Any], bench: Bench, **options: Any) -> Iterator[Any]:
    """The page on the first question, drawn."""
    server = Server(bench.app())
    page = new_page(**options)
    try:
        page.goto(f"{server.origin}/#token")
        page.locator("#begin").click()
        drawn(page)
        yield page
    finally:
        server.stop()


def drawn(page: Any) -> None:
    page.wait_for_selector('#compare[data-phase="ready"]')
    # Whatever the last key changed is drawn with the next frame.
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
