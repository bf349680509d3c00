"""The page in the foreground: one server process for each study."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import uvicorn

from segpref.collect import StudyFolder, open_store
from segpref.locking import alone_in
from segpref.types import SegprefError
from segpref.web.app import create_app
from segpref.web.security import Origin
from segpref.web.settings import ServeConfig

__all__ = ["open_store", "serve"]

_PATIENCE_S = 5


def serve(
    study: Path | str,
    database: str | None = None,
    config: ServeConfig | None = None,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a study until the process is asked to stop; requests that came before are answered.

    Args:
        study: its folder.
        database: where votes are kept, as a file or URL; in the study if left out.
        config: where the page is.
        ready: is called with the address as soon as it is.

    Raises:
        SegprefError: no study, a port that is taken, or a study that another process serves.
    """
    config = config or ServeConfig()
    folder = StudyFolder(study)
    origin = Origin.of(config.address, behind_tls=config.behind_tls, local=config.is_local)
    with ExitStack() as stack:
        stack.enter_context(alone_in(folder.path / "served"))
        listening = stack.enter_context(_listening(config.host, config.port))
        store = stack.enter_context(closing(open_store(folder, database)))
        app = create_app(folder, store, origin=origin, cache_bytes=int(config.memory_gb * 1e9))
        server = _Server(
            uvicorn.Config(
                app, lifespan="off", log_level="warning", access_log=False, log_config=None,
                server_header=False, proxy_headers=config.behind_tls,
                forwarded_allow_ips="127.0.0.1,::1", ws="none", backlog=512,
                timeout_graceful_shutdown=_PATIENCE_S,
            )
        )  # fmt: skip
        host, port = listening.getsockname()[:2]
        shown = config.address or f"http://{f'[{host}]' if ':' in host else host}:{port}"
        server.told = lambda: ready(shown)
        server.run(sockets=[listening])


class _Server(uvicorn.Server):
    told: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that the page can be opened as soon as it can."""
        await super().startup(sockets)
        self.told()


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, number)
    except OSError as error:
        raise SegprefError(f"{host!r} is no address of this machine: correct --host") from error
    with made:
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except OSError as error:
            raise SegprefError(_why(error, host, port)) from error
        yield made


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken by another program: choose another --port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} is for administrators: choose another --port, such as 8000"
    return f"{host} is no address of this machine ({error.strerror}): correct --host"
