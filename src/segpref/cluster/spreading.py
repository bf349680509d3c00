"""Work spread over a pool of processes, here or on other machines, by Ray Data.

A worker opens what it needs once and then takes item after item. What goes through Ray is small: names
of files to the workers, and what they made of them back, a few at a time (Ray Data's back pressure).
"""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

from segpref.cluster.joining import joined, slots
from segpref.cluster.options import RayPool
from segpref.cluster.worker import PoolWorker, received, told
from segpref.extras import needed
from segpref.types import SegprefError

__all__ = ["spread"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_RETRIES = 2
"""How often an item is given to a worker again after its own died."""
_BLOCKS = 16
"""Per worker: what comes together is given to one worker, and done again if that dies."""
_MOST = 16


def spread(
    pool: RayPool,
    make: Callable[..., Callable[[Item], Result]],
    arguments: Sequence[Any],
    items: Sequence[Item],
    *,
    lost: Callable[[Item], Result] | None = None,
    ordered: bool = False,
) -> Iterator[tuple[int, Result]]:
    """What workers make of items, with the places of these, each exactly once.

    A worker that dies is replaced, and what it had not handed over is done again. What a worker prints
    and warns of is printed here.

    Args:
        pool: where the workers are; ``ray`` is an address.
        make: makes what does the work, once in every worker; importable there.
        arguments: of ``make``; can be pickled.
        items: what there is to do; can be pickled, as can what is made of them.
        lost: what comes of an item whose worker died every time; an error where None.
        ordered: whether results come in the order of the items, and not as they are ready.

    Raises:
        SegprefError: no cluster, no room for a worker, or a worker that could not begin.
    """
    if not items:
        return
    assert pool.ray is not None
    data = needed("ray.data", "cluster")
    with joined(pool.ray) as ray:
        workers = min(slots(ray, pool.ray, pool.cpus, pool.gpus), len(items))
        beginning = told(make, arguments)
        left = dict(enumerate(items))
        if not ordered:
            per_block = max(1, min(_MOST, len(items) // (workers * _BLOCKS)))
            for number, result in _mapped(data, pool, beginning, left, workers, per_block):
                del left[number]
                yield number, result
        # What died in company is tried alone: it may have been another's fault.
        for number, result in _mapped(data, pool, beginning, left, workers) if left else ():
            del left[number]
            yield number, result
    for number, item in left.items():
        if lost is None:
            raise SegprefError(
                f"workers of the Ray cluster at {pool.ray} died {_RETRIES + 1} times at the same work, "
                "perhaps for want of memory: raise --cpus, so that fewer of them share a machine"
            )
        yield number, lost(item)


def _mapped(
    data: Any,
    pool: RayPool,
    beginning: bytes,
    items: Mapping[int, Any],
    workers: int,
    size: int | None = None,
) -> Iterator[tuple[int, Any]]:
    """One pass over items with Ray Data; those whose workers died are missing.

    So many items go to a worker at a time, and more wait there; alone and in their order where None.
    """
    rows = [{"number": number, "item": pickle.dumps(item)} for number, item in items.items()]
    context = data.DataContext.get_current()
    before = context.enable_progress_bars, context.max_errored_blocks
    keeps_order = context.execution_options.preserve_order
    context.enable_progress_bars, context.max_errored_blocks = False, -1
    context.execution_options.preserve_order = size is None
    rows_of = None
    try:
        with _quiet():
            blocks = data.from_items(rows, override_num_blocks=-(-len(rows) // (size or 1)))
            with warnings.catch_warnings():
                # Ray 2.64, which is not allowed yet, will want the number of retries elsewhere.
                warnings.simplefilter("ignore")
                mapped = blocks.map_batches(
                    PoolWorker,
                    batch_size=1,
                    compute=data.ActorPoolStrategy(
                        size=workers, max_tasks_in_flight_per_actor=None if size else 1
                    ),
                    num_cpus=pool.cpus,
                    num_gpus=pool.gpus or None,
                    fn_constructor_args=(beginning, max(1, int(pool.cpus))),
                    ray_remote_args_fn=_retried,
                )
            rows_of = iter(mapped.iter_rows())
            for row in rows_of:
                yield int(row["number"]), received(row["result"])
    except needed("ray", "cluster").exceptions.RayError as error:
        reason = next(iter(str(error).strip().splitlines()[-1:]), type(error).__name__)
        raise SegprefError(
            f"the workers of the Ray cluster at {pool.ray} could not begin ({reason}): install the "
            "same segpref with the same extras on all of its machines"
        ) from error
    finally:
        with suppress(AttributeError):
            rows_of.close()  # type: ignore[union-attr]
        context.enable_progress_bars, context.max_errored_blocks = before
        context.execution_options.preserve_order = keeps_order


def _retried() -> dict[str, Any]:
    return {"max_task_retries": _RETRIES}


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data's log goes to its file alone."""
    with ExitStack() as stack:
        for handler in logging.getLogger("ray.data").handlers:
            if isinstance(handler, logging.StreamHandler):
                stack.callback(handler.setLevel, handler.level)
                handler.setLevel(logging.CRITICAL + 1)
        yield
