"""The app that shows a study's comparisons to raters and stores their votes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from segpref.collect import (
    Conflict,
    NotAnAnswer,
    NotYours,
    Refused,
    StoreFull,
    StudyFolder,
    Unavailable,
    VoteStore,
)
from segpref.types import SegprefError
from segpref.web.assets import Assets
from segpref.web.endpoints import TooMany, api
from segpref.web.forms import BadRequest
from segpref.web.security import AttemptLimit, Guard, Origin

__all__ = ["create_app"]

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
CACHE_BYTES = 2 * 1024**3

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
_SAYS_ITSELF = {Refused: 401, NotYours: 404, Conflict: 409, NotAnAnswer: 400, BadRequest: 400}
_FULL = (
    "the disk of the server is full, so nothing can be stored now; everything that was acknowledged is "
    "kept: tell whoever runs this study"
)
_UNAVAILABLE = "the database can't be reached at the moment: wait a little, and try again"
_UNREADABLE = "this can't be read on the server: tell whoever runs this study"
_KNOWN = {404: "there is nothing here: open your own link", 405: "this can't be asked in this way"}


def create_app(
    study: StudyFolder,
    store: VoteStore,
    *,
    origin: Origin | None = None,
    cache_bytes: int = CACHE_BYTES,
    limit: AttemptLimit | None = None,
) -> FastAPI:
    """The app of a study.

    Args:
        study: what is asked.
        store: where votes are kept.
        origin: under which addresses it answers; under any where None.
        cache_bytes: memory for images and masks that were unpacked.
        limit: how often an address may try links that do not count.
    """
    origin = origin or Origin()
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    assets = Assets(study.open_display, cache_bytes)
    app.include_router(api(study, store, assets, limit or AttemptLimit(), secure=origin.secure))
    _serve_files(app)
    app.add_exception_handler(SegprefError, _sentence)
    app.add_exception_handler(TooMany, _too_many)
    app.add_exception_handler(HTTPException, _known)
    app.add_exception_handler(RequestValidationError, _known)
    app.add_middleware(Guard, origin=origin)
    return app


def _serve_files(app: FastAPI) -> None:
    """The page's own files, by names that were listed before anybody asks."""
    files = {
        file.name: (file.read_bytes(), _TYPES[file.suffix])
        for file in sorted(STATIC.iterdir())
        if file.suffix in _TYPES
    }

    @app.get("/")
    def index() -> Response:
        return static("index.html")

    @app.get("/{name}")
    def static(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        content, kind = files[name]
        return Response(content, headers={"Content-Type": kind})


def _error(status: int, sentence: str, **headers: str) -> Response:
    return JSONResponse({"error": sentence}, status, headers)


def _sentence(_: Request, error: Exception) -> Response:
    """What a rater may know: sentences about files and databases are for the log."""
    for kind, status in _SAYS_ITSELF.items():
        if isinstance(error, kind):
            return _error(status, str(error))
    log.error("%s", error)
    if isinstance(error, StoreFull):
        return _error(507, _FULL)
    if isinstance(error, Unavailable):
        return _error(503, _UNAVAILABLE, **{"Retry-After": "5"})
    return _error(500, _UNREADABLE)


def _too_many(_: Request, error: Any) -> Response:
    told = f"too many links that do not count came from here: wait {error.wait_s} seconds"
    return _error(429, told, **{"Retry-After": str(error.wait_s)})


def _known(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = getattr(error, "headers", None) or {}
    return _error(status, _KNOWN.get(status, "this can't be asked: reload the page"), **headers)
