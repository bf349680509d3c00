"""What the page may ask: the study, the next comparison, its slices, and to store a vote."""

# FastAPI reads the types of arguments, some of which exist in a function only: they are no texts here.
import re
from typing import Annotated, cast

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import JSONResponse

from segpref.collect import (
    Assignment,
    Axis,
    NotYours,
    Rater,
    Refused,
    StudyFolder,
    VoteStore,
    is_opaque,
    slice_count,
)
from segpref.web import forms
from segpref.web.assets import Assets, slice_bytes
from segpref.web.security import AttemptLimit

__all__ = ["COOKIE", "TooMany", "api"]

COOKIE = "segpref"

_NUMBER = re.compile(r"0|[1-9][0-9]{0,5}")
_NO_COMPARISON = "there is no such comparison of yours: reload the page"
_NO_SLICE = "there is no such slice of yours: reload the page"


class TooMany(Exception):
    """An address that failed too often.

    Args:
        wait_s: how long it has to wait.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        self.wait_s = int(wait_s) + 1


async def _body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_body)]


def api(
    study: StudyFolder, store: VoteStore, assets: Assets, limit: AttemptLimit, *, secure: bool
) -> APIRouter:
    """The endpoints of a study.

    Args:
        study: what is asked.
        store: where votes are kept.
        assets: images and masks.
        limit: how often an address may try links that do not count.
        secure: whether the cookie travels through TLS only.
    """
    router = APIRouter(prefix="/api")

    def who(request: Request) -> Rater:
        secret = request.cookies.get(COOKIE, "")
        rater = store.rater_of(secret) if is_opaque(secret) else None
        if rater is None:
            raise Refused("open your personal link, or ask for a new one")
        return rater

    Who = Annotated[Rater, Depends(who)]

    def own(rater: Rater, number: str) -> Assignment:
        return store.assignment(rater, _opaque(number))

    def slices(
        names: list[str], cut: tuple[Axis, int], dtype: np.dtype
    ) -> tuple[bytes, tuple[int, ...]]:
        found = slice_bytes([assets.get(name) for name in names], *cut, dtype)
        for name in names:
            assets.unpack_rest(name)
        return found

    @router.post("/enter", status_code=204)
    def enter(request: Request, body: Body) -> Response:
        address = request.client.host if request.client else ""
        if wait := limit.wait_s(address):
            raise TooMany(wait)
        try:
            token = forms.text_of(forms.read_json(body, {"token"}), "token")
            if not is_opaque(token):
                raise Refused("this link does not count: ask for a new one")
            secret = store.enter(token)
        except (Refused, forms.BadRequest):
            limit.failed(address)
            raise
        answer = Response(status_code=204)
        most_s = int(store.rules.session_days * 86400)
        answer.set_cookie(
            COOKIE,
            secret,
            max_age=most_s,
            path="/",
            secure=secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    @router.post("/leave", status_code=204)
    def leave(request: Request, rater: Who) -> Response:
        store.leave(request.cookies[COOKIE])
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, path="/", secure=secure, httponly=True, samesite="strict")
        return answer

    @router.get("/study")
    def of_study(rater: Who) -> JSONResponse:
        return JSONResponse(forms.study_json(study.note, rater.pseudonym, store.progress(rater)))

    @router.post("/next")
    def following(rater: Who) -> JSONResponse:
        found = store.ask(rater)
        undo, given = found.last_vote, found.assignment
        if given is not None:
            return JSONResponse(forms.task_json(study.note, given, found.progress, undo))
        progress = forms.progress_json(found.progress)
        return JSONResponse(
            {"done": True, "progress": progress, "can_undo": undo is not None, "undo": undo}
        )

    @router.get("/assignments/{number}/image/{axis}/{index}")
    def image(number: str, axis: str, index: str, rater: Who) -> Response:
        given = own(rater, number)
        told = given.item.display
        cut = _cut(given, axis, index)
        data, shape = slices([told.asset], cut, np.dtype(told.dtype))
        if not given.image_opened:
            store.mark_opened(rater, given.id, "image")
        return _raw(data, shape)

    @router.get("/assignments/{number}/masks/{axis}/{index}")
    def masks(number: str, axis: str, index: str, rater: Who) -> Response:
        given = own(rater, number)
        cut = _cut(given, axis, index)
        kind = np.dtype(forms.mask_dtype(study.note))
        data, shape = slices([one.asset for one in given.masks], cut, kind)
        if not given.masks_opened:
            store.mark_opened(rater, given.id, "masks")
        return _raw(data, (len(given.masks), *shape))

    @router.post("/votes")
    def vote(rater: Who, body: Body) -> JSONResponse:
        told = forms.vote_of(body)
        _opaque(told.assignment)
        stored = store.vote(rater, told)
        status = 200 if stored.duplicate else 201
        return JSONResponse({"progress": forms.progress_json(stored.progress)}, status)

    @router.post("/undo")
    def undo(rater: Who, body: Body) -> JSONResponse:
        given = store.undo(rater, forms.uuid_of(body))
        progress, last = store.progress(rater), store.last_vote(rater)
        return JSONResponse(forms.task_json(study.note, given, progress, last))

    @router.get("/practice/{number}/answer")
    def practice(number: str, rater: Who) -> JSONResponse:
        given = own(rater, number)
        said = store.answer(rater, given.id) if given.pair.use == "practice" else None
        if said is None:
            raise NotYours(_NO_COMPARISON)
        return JSONResponse(forms.practice_json(given, said))

    return router


def _opaque(number: str) -> str:
    """An id that may be one of an assignment."""
    if not is_opaque(number):
        raise NotYours(_NO_COMPARISON)
    return number


def _cut(given: Assignment, axis: str, index: str) -> tuple[Axis, int]:
    if axis in ("axial", "coronal", "sagittal") and _NUMBER.fullmatch(index):
        named = cast(Axis, axis)
        if int(index) < slice_count(given.item.display.shape, named):
            return named, int(index)
    raise NotYours(_NO_SLICE)


def _raw(data: bytes, shape: tuple[int, ...]) -> Response:
    return Response(
        data,
        media_type="application/octet-stream",
        headers={"X-Segpref-Shape": ",".join(map(str, shape))},
    )
