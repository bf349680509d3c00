"""Masks of many images: the next are read and the last written while the network is busy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from torch import Tensor

from segpref.data.source import Reader, Source
from segpref.inference.attempts import Outcome, attempt, failure
from segpref.inference.case_masks import Ready
from segpref.inference.mask_maker import MaskMaker
from segpref.memory import Setting
from segpref.types import Case

__all__ = ["pipelined"]

_NUMBERS = 2**23
"""Of the images and network inputs of a batch, at most, but for a single image: eight slices of 512 x
512 are half of that."""


def pipelined(
    reader: Reader,
    todo: Sequence[tuple[Source, Path]],
    make: MaskMaker,
    batch_size: int,
    sizes: Mapping[str, Setting],
    begins: Callable[[Path], None],
) -> Generator[tuple[int, Outcome]]:
    """Masks of images, by a thread that reads, this one with the network, and a thread that writes.

    Images that follow one another and are of one size for the network go through it together. What
    stops one image does not stop another; where a batch fails, its images go alone. Two batches of
    images are in memory at most, or two images where they are large. Once this ends, in whatever way,
    no thread is left, and no file that is half written; close it to end it early.

    Args:
        reader: reads the images, in a thread of its own.
        todo: images and what their masks are called.
        make: makes and writes the masks.
        batch_size: images that the network is given at once, at most.
        sizes: what memory grows with, by the names of the options.
        begins: is told what the network is given next.

    Yields:
        The places of images in ``todo`` and what became of them, nearly in order.
    """
    room = _Room(batch_size)
    ahead: SimpleQueue[_Image | None] = SimpleQueue()
    behind: deque[tuple[int, Future[Outcome]]] = deque()
    with ThreadPoolExecutor(1, "reading") as reading, ThreadPoolExecutor(1, "writing") as writing:
        read = reading.submit(_read_all, reader, todo, make, sizes, room, ahead)
        try:
            for batch in _batches(ahead):
                for image, work in _passed(batch, make, sizes, begins):
                    behind.append((image.number, writing.submit(_end, room, image.numbers, work)))
                    del image, work  # or they would stay until the next ones are there
                while behind and behind[0][1].done():
                    yield behind[0][0], behind.popleft()[1].result()
            read.result()
            for number, ended in behind:
                yield number, ended.result()
        finally:
            room.close()
            writing.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Image:
    """One that was read: what it needs to become a mask, or what came of it."""

    number: int
    source: Source
    path: Path
    numbers: int = 0
    case: Case | None = None
    ready: Ready | None = None
    together: int = 1
    outcome: Outcome | None = None


def _read_all(
    reader: Reader,
    todo: Sequence[tuple[Source, Path]],
    make: MaskMaker,
    sizes: Mapping[str, Setting],
    room: _Room,
    ahead: SimpleQueue[_Image | None],
) -> None:
    try:
        for number, (source, path) in enumerate(todo):
            if not room.enter():
                return
            ahead.put(_read(reader, make, sizes, room, number, source, path))
    finally:
        ahead.put(None)


def _read(
    reader: Reader,
    make: MaskMaker,
    sizes: Mapping[str, Setting],
    room: _Room,
    number: int,
    source: Source,
    path: Path,
) -> _Image:
    try:
        case = reader.read(source)
        ready = make.ready(source, case)
    except Exception as error:  # as in attempt
        return _Image(number, source, path, outcome=failure(error, source, sizes))
    items = None if ready is None else ready.items
    numbers = case.image.size + (0 if items is None else items.size)
    room.grow(numbers)
    together = 1 if ready is None else make.together(ready)
    return _Image(number, source, path, numbers, case, ready, together)


def _batches(ahead: SimpleQueue[_Image | None]) -> Iterator[list[_Image]]:
    """Images that may go through the network together, in lists that are to be emptied."""
    batch: list[_Image] = []
    while (image := ahead.get()) is not None:
        if batch and not _fits(batch, image):
            yield batch
        batch.append(image)
        full = len(batch) == image.together
        del image
        if full:
            yield batch
    if batch:
        yield batch


def _fits(batch: Sequence[_Image], image: _Image) -> bool:
    return (
        image.together > 1
        and _shape(batch[0]) == _shape(image)
        and sum(one.numbers for one in (*batch, image)) <= _NUMBERS
    )


def _shape(image: _Image) -> tuple[int, ...] | None:
    items = None if image.ready is None else image.ready.items
    return None if items is None else items.shape


def _passed(
    batch: list[_Image],
    make: MaskMaker,
    sizes: Mapping[str, Setting],
    begins: Callable[[Path], None],
) -> Iterator[tuple[_Image, Callable[[], Outcome]]]:
    """Images that the network has seen, and what is left to do for each; empties the batch."""
    logits = None
    if len(batch) > 1:
        begins(batch[0].path)
        try:
            logits = make.logits([image.ready for image in batch if image.ready is not None])
        except Exception:  # the images alone will say why, or fit
            logits = None
    for place in range(len(batch)):
        image = batch.pop(0)
        if logits is None:
            begins(image.path)
            yield image, _alone(image, make, sizes)
        else:
            yield image, _finishing(image, make, sizes, logits[place : place + 1])


def _alone(image: _Image, make: MaskMaker, sizes: Mapping[str, Setting]) -> Callable[[], Outcome]:
    if image.case is None:
        assert image.outcome is not None
        return partial(_known, image.outcome)
    try:
        if image.ready is not None and make.one_pass(image.ready):
            return _finishing(image, make, sizes, make.logits([image.ready]))
        mask = make.mask(image.source, image.case, image.ready)
    except Exception as error:  # as in attempt
        return partial(_known, failure(error, image.source, sizes))
    writes = partial(make.write, image.source, image.path, image.case, mask)
    return partial(attempt, writes, image.source, sizes)


def _finishing(
    image: _Image, make: MaskMaker, sizes: Mapping[str, Setting], logits: Tensor
) -> Callable[[], Outcome]:
    assert image.ready is not None
    assert image.case is not None
    writes = partial(make.finish, image.source, image.path, image.case, image.ready, logits)
    return partial(attempt, writes, image.source, sizes)


def _known(outcome: Outcome) -> Outcome:
    return outcome


def _end(room: _Room, numbers: int, work: Callable[[], Outcome]) -> Outcome:
    try:
        return work()
    finally:
        room.leave(numbers)


class _Room:
    """Room for the images in memory: two batches of them, or two images where these are large."""

    def __init__(self, batch_size: int) -> None:
        self._most = 2 * batch_size
        self._images = self._numbers = 0
        self._closed = False
        self._changed = threading.Condition()

    def enter(self) -> bool:
        """Wait for room for one more; False where no more are wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._free())
            self._images += 1
            return not self._closed

    def grow(self, numbers: int) -> None:
        """The image that entered last has so many numbers."""
        with self._changed:
            self._numbers += numbers

    def leave(self, numbers: int) -> None:
        """An image is no longer in memory."""
        with self._changed:
            self._images, self._numbers = self._images - 1, self._numbers - numbers
            self._changed.notify_all()

    def close(self) -> None:
        """No more images are wanted."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _free(self) -> bool:
        # A batch that waits for more images holds half of this, so that there is room for them.
        return self._images < 2 or (self._images < self._most and self._numbers < 2 * _NUMBERS)
