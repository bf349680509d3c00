"""What every request passes: hosts, origins, sizes, and headers that keep other pages out."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segpref.types import SegprefError

__all__ = ["AttemptLimit", "Guard", "Origin"]

log = logging.getLogger(__name__)

MOST_BODY_BYTES = 256 * 1024
"""A vote about 10,000 slices has a quarter of it."""

_CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}
_HSTS = "max-age=31536000"


@dataclass(frozen=True, slots=True)
class Origin:
    """Under which addresses the page may be asked for.

    Args:
        address: the only one, such as ``https://votes.hospital.example``; any where None.
        secure: whether browsers reach it through TLS.
        local: without an address, whether only names of this machine are answered, so that a foreign
            name that leads here gets nothing.
    """

    address: str | None = None
    secure: bool = False
    local: bool = False

    @classmethod
    def of(cls, address: str | None, *, behind_tls: bool = False, local: bool = False) -> Origin:
        """Checked.

        Raises:
            SegprefError: an address that is none, or is not encrypted though it should be.
        """
        if address is None:
            return cls(None, behind_tls, local and not behind_tls)
        scheme, host = _scheme_and_host(address)
        if behind_tls and scheme == "http":
            raise SegprefError("behind TLS the address begins with https://: correct --address")
        return cls(f"{scheme}://{host}", scheme == "https")

    def answers(self, host: str) -> bool:
        """Whether a request for this host is answered."""
        if self.address is not None:
            return host == urlsplit(self.address).netloc
        if not self.local:
            return bool(host)
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        return name in _LOOPBACK

    def is_own(self, origin: str, host: str) -> bool:
        """Whether a request comes from the page itself."""
        own = self.address or f"{'https' if self.secure else 'http'}://{host}"
        return origin.lower() == own


def _scheme_and_host(address: str) -> tuple[str, str]:
    """As browsers send them: lower case, IDNA, and no port that the scheme has anyway."""
    try:
        parts = urlsplit(address)
        scheme, name, port = parts.scheme, parts.hostname or "", parts.port
        # An address of IPv6 has its brackets; what has a colon is no name.
        host = f"[{name}]" if ":" in name else name.encode("idna").decode()
    except ValueError:  # UnicodeError is one
        scheme, host, port = "", "", None
    more = (
        parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
        if host
        else ""
    )
    if scheme not in ("http", "https") or not host or more:
        raise SegprefError(
            f"{address!r} is no address of a page: give one such as https://votes.hospital.example"
        )
    usual = {"http": 80, "https": 443}[scheme]
    return scheme, host if port in (None, usual) else f"{host}:{port}"


class AttemptLimit:
    """How often an address may fail within a time.

    Args:
        most: failures after which it has to wait.
        within_s: the time (seconds).
        clock: seconds that never go back.
    """

    _MOST_ADDRESSES = 10_000

    def __init__(
        self, most: int = 20, within_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._within, self._clock = most, within_s, clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, address: str) -> float:
        """How long it has to wait; 0 if it may try."""
        with self._lock:
            failures = self._recent(address)
            return 0.0 if len(failures) < self._most else failures[0] + self._within - self._clock()

    def failed(self, address: str) -> None:
        """Count a failure."""
        with self._lock:
            failures = self._recent(address)
            failures.append(self._clock())
            self._failures[address] = failures
            self._failures.move_to_end(address)
            while len(self._failures) > self._MOST_ADDRESSES:
                self._failures.popitem(last=False)

    def _recent(self, address: str) -> deque[float]:
        failures = self._failures.get(address, deque(maxlen=self._most))
        while failures and failures[0] <= self._clock() - self._within:
            failures.popleft()
        return failures


class Guard:
    """Outermost layer of the app: refuses what does not come from the page, and sets headers.

    Every answer has them, errors too.

    Args:
        app: what is behind it.
        origin: where the page is.
    """

    def __init__(self, app: ASGIApp, origin: Origin) -> None:
        self._app = app
        self._origin = origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # WebSockets: there are none
            await send({"type": "websocket.close", "code": 1008})
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in self._headers():
                    headers[name] = value
            await send(message)

        if (refusal := self._refusal(scope)) is not None:
            await _answer(sending, *refusal)
            return
        try:
            body = await _whole_body(receive)
            if body is None:
                await _answer(sending, 413, "this request is too large: reload the page")
                return
            await self._app(scope, _replayed(body, receive), sending)
        except Exception:
            # What went wrong is for the log; it may name files and patients.
            log.exception("%s failed", scope["method"])
            if not started:
                await _answer(sending, 500, "something went wrong on the server: try again")

    def _headers(self) -> Iterable[tuple[str, str]]:
        yield from _HEADERS.items()
        if self._origin.secure:
            yield "Strict-Transport-Security", _HSTS

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        if not self._origin.answers(host):
            return 421, "this server does not answer under this name: open your own link"
        if not scope["path"].startswith("/api"):
            return None
        if headers.get("x-segpref") != "1":
            return 403, "this request does not come from the page: open your own link"
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return 403, "this request comes from another page: open your own link"
        if scope["method"] not in _CHANGING:
            return None
        origins = headers.getlist("origin")
        if len(origins) != 1 or not self._origin.is_own(origins[0], host):
            return 403, "this request comes from another page: open your own link"
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, "a request of the page is JSON: reload the page"
        return None


async def _whole_body(receive: Receive) -> bytes | None:
    """What was sent; None as soon as it is too much."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""  # gone
        size += len(message.get("body", b""))
        if size > MOST_BODY_BYTES:
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
