"""Worker processes for what needs no network: they work while the device does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
import torch

from segpref.array_pipe import Answering, Asking, Packed, packed
from segpref.process_setup import configure_process
from segpref.trust import adopt_trust, granted_trust
from segpref.types import SegprefError

__all__ = ["Workers"]

Result = TypeVar("Result")

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Workers(Generic[Result]):
    """Processes that all do the same work, with one CPU thread each and without a GPU.

    Results come in the order of the tasks, whichever process did them, and are those of this process:
    it is up to the work to draw nothing from a state that calls leave behind. Errors of the work are
    raised here. Without a process the work is done here, when its result is asked for.

    A worker ends when this process does, however that ends: its pipe closes. Ctrl-C reaches this
    process only, which ends them.

    Args:
        count: how many processes; 0 for none.
        work: what they do, as ``work(*task)``; with its tasks and results it can be pickled.

    Raises:
        SegprefError: the work can't be pickled.
    """

    def __init__(self, count: int, work: Callable[..., Result]) -> None:
        self._work = work
        self._closed = False
        self._workers: list[_Worker] = []
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        if not count:
            return
        told = _packed(work, "the judge and the families of candidates")
        self._threads = ThreadPoolExecutor(count, "workers")
        try:
            for _ in range(count):
                worker = _Worker(told)
                self._workers.append(worker)
                self._idle.put(worker)
        except BaseException:
            self.close()
            raise

    def begin(self, tasks: Sequence[tuple[Any, ...]]) -> Callable[[], list[Result]]:
        """Have these tasks done; the function that is returned waits for their results.

        Raises:
            SegprefError: then, where a worker was killed.
        """
        if not self._workers:
            return lambda: [self._work(*task) for task in tasks]
        futures = [self._threads.submit(self._done, task) for task in tasks]
        return lambda: [future.result() for future in futures]

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        self._closed = True
        for worker in self._workers:
            worker.kill()
        if hasattr(self, "_threads"):
            self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.join()
        self._workers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _done(self, task: tuple[Any, ...]) -> Result:
        """One task, in the first worker that has nothing to do."""
        worker = self._idle.get()
        try:
            result, error = worker.ask(task)
        except (EOFError, OSError):
            raise worker.gone() from None
        finally:
            # A dead one, too: the next task finds that out rather than waiting for ever.
            self._idle.put(worker)
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]


class _Worker:
    """One process, at the other end of a pipe."""

    def __init__(self, work: Packed) -> None:
        context = multiprocessing.get_context("spawn")
        self._work: Packed | None = work
        here, there = context.Pipe()
        self._asking = Asking(here)
        # Subnormal numbers count as zero or not: as they do here.
        flushed = bool(np.float32(2e-38) * np.float32(0.1) == 0)
        self._process = context.Process(
            target=_serve, args=(there, flushed, granted_trust()), daemon=True
        )
        # Python's own helper, where this is the first process to need it, would unblock interrupts.
        resource_tracker.ensure_running()
        with _one_thread(), _without_interrupts():
            self._process.start()
        there.close()

    def ask(self, task: tuple[Any, ...]) -> tuple[Any, Exception | None]:
        """The result of a task, or the error that it ended in."""
        if self._work is not None:
            self._asking.ask(self._work)
            self._work = None
        question = _packed(task, "the candidates of an image")
        answer: tuple[Any, Exception | None] = self._asking.ask(question).load()
        return answer

    def gone(self) -> SegprefError:
        """Why there is no answer."""
        self._process.join()
        status = self._process.exitcode or 0
        if status < 0:
            return SegprefError(
                f"a worker process was killed (exit status {status}), for want of memory perhaps: give "
                "fewer workers, or none, and resume the run"
            )
        return SegprefError(
            f"a worker process could not begin (exit status {status}, and what it printed): a script "
            "that trains with workers does so under if __name__ == '__main__', so that they can "
            "import it"
        )

    def kill(self) -> None:
        """End it at once; it holds nothing that would be lost."""
        self._process.kill()

    def join(self) -> None:
        """Wait until it has ended."""
        self._process.join()
        self._asking.close()


def _serve(pipe: connection.Connection, flushed: bool, trust: tuple[frozenset[str], ...]) -> None:
    """The whole life of a worker."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure_process(threads=1)
    torch.set_flush_denormal(flushed)
    adopt_trust(trust)
    with contextlib.suppress(EOFError, OSError):  # this process's parent has ended
        asked = Answering(pipe)
        received, work = asked.next(), None
        asked.answer(packed(None))
        while True:
            task = asked.next()
            answer: tuple[Any, Exception | None]
            try:
                if work is None:
                    work = received.load()
                answer = work(*task.load()), None
            except Exception as error:
                answer = None, _portable(error)
            asked.answer(packed(answer))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error as it can be sent, with where it came from."""
    where = "".join(traceback.format_exception(error))
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note(f"in a worker process:\n{where}")
    return copy


def _packed(content: Any, what: str) -> Packed:
    try:
        return packed(content)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SegprefError(
            f"{what} can't be handed to a worker process ({error}): define their classes and functions "
            "at the top of a module, or set workers to 0"
        ) from error


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that are started within compute with one thread each."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A signal that is blocked stays so in a process that is started within, from its first moment."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
