"""Joins a Ray cluster, or starts one on this machine and stops it afterwards."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from segpref.extras import needed
from segpref.types import SegprefError

__all__ = ["joined", "slots"]

_PATIENCE_S = 10.0


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """Ray, as part of the cluster at this address; what was started for it is stopped at the end.

    Args:
        address: ``local`` starts a cluster on this machine; others are Ray's. A cluster that this
            process is part of already is taken as it is.

    Raises:
        SegprefError: Ray is not installed, or there is no cluster at the address.
    """
    ray = needed("ray", "cluster")
    if ray.is_initialized():
        yield ray
        return
    _knock(address)
    # No figures about the use of Ray are sent, and its log goes to its files.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        with _own_signals(), _hushed():  # Ray takes SIGTERM for itself
            ray.init(
                address=address,
                include_dashboard=False if address == "local" else None,
                log_to_driver=False,
                configure_logging=False,
            )
    except (OSError, RuntimeError, ValueError) as error:
        ray.shutdown()
        raise _no_cluster(address, error) from error
    except BaseException:
        ray.shutdown()
        raise
    with suppress(AttributeError):  # what happens to workers would be printed among our results
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield ray
    finally:
        ray.shutdown()


def slots(ray: Any, address: str, cpus: float, gpus: float) -> int:
    """How many workers that ask for so much the cluster has room for.

    Raises:
        SegprefError: none.
    """
    resources: Mapping[str, float] = ray.cluster_resources()
    fit = [int(resources.get("CPU", 1) // cpus)] if cpus else []
    fit += [int(resources.get("GPU", 0) / gpus)] if gpus else []
    found = min(fit, default=1)
    if found < 1:
        raise SegprefError(
            f"no job fits on the Ray cluster at {address}: a job asks for {cpus} cores and "
            f"{gpus} GPUs, and it has {resources.get('CPU', 0):g} and {resources.get('GPU', 0):g}"
        )
    return found


def _knock(address: str) -> None:
    """Refuse an address where nobody listens, for which Ray would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: BaseException) -> SegprefError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if address == "local":
        return SegprefError(f"no Ray cluster could be started on this machine ({reason})")
    return SegprefError(f"there is no Ray cluster at {address}: {reason}")


@contextmanager
def _own_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _hushed() -> Iterator[None]:
    """What Ray's libraries write to standard error while they start is not seen; errors are raised."""
    sys.stderr.flush()
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(nowhere)
        os.close(before)
