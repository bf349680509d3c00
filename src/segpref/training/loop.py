"""The loop that stage 1 and stage 2 share: epochs, validation, checkpoints, resume.

Randomness is a function of (seed, epoch, step) and never of a generator's history, so a run that was
killed continues from its last saved position to the bit-identical result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from segpref.locking import alone_in
from segpref.policies import ModelCard, save_model
from segpref.progress import console, progress_bar
from segpref.runtime import Runtime
from segpref.training.curves import name_of
from segpref.training.figures import EpochFigures, Logs, read_logs
from segpref.training.folder import RunFolder
from segpref.training.tracking import TrackerName, tracked
from segpref.types import SegprefError

__all__ = [
    "Following",
    "Step",
    "StepResult",
    "batch_stream",
    "following_steps",
    "run_loop",
]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one batch gives.

    Args:
        loss: differentiable sum over the batch's terms, or None where there is nothing to learn from.
        terms: number of terms (pairs, images) in that sum.
        logs: name -> (sum, weight); an epoch reports sum / weight. What is on the device may stay
            there: it is read once an epoch (:mod:`segpref.training.figures`).
    """

    loss: Tensor | None
    terms: int
    logs: Logs = field(default_factory=dict)


Step = Callable[[list[int], int, int], StepResult]
"""(indices of the batch, epoch, step in the epoch) -> result."""


Following = Callable[[int, int], tuple[list[int], int, int] | None]
"""(epoch, step in it) -> the arguments of the step after it; None after the last one."""


@dataclass(slots=True)
class Position:
    """Where a run is."""

    epoch: int = 0
    step: int = 0
    updates: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    totals: dict[str, list[float]] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def batch_stream(
    images: int, per_epoch: int | None, batch_size: int, seed: int
) -> Callable[[int], list[list[int]]]:
    """Batches of an epoch; images are not repeated before all have been drawn, across epochs too."""
    per_epoch = images if per_epoch is None else per_epoch
    if images < 1:
        raise SegprefError("there is no image to learn from: check which patients the split leaves")
    if per_epoch < 1 or batch_size < 1:
        raise SegprefError(
            f"images_per_epoch and batch_size must be at least 1, not {per_epoch} and {batch_size}"
        )

    # Kept, for every step asks, and a pool may have a hundred thousand images.
    @lru_cache(maxsize=2)
    def drawn(number: int) -> np.ndarray:
        # Pass p over the pool is a permutation that depends on the seed and on p alone.
        return np.random.default_rng([seed, number]).permutation(images)

    @lru_cache(maxsize=2)  # a step asks for its own epoch and the next one
    def batches(epoch: int) -> list[list[int]]:
        first = epoch * per_epoch
        passes = range(first // images, (first + per_epoch - 1) // images + 1)
        start = first - passes.start * images
        order = np.concatenate([drawn(number) for number in passes])[start : start + per_epoch]
        chosen: list[int] = order.tolist()
        return [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]

    return batches


def following_steps(
    batches: Callable[[int], list[list[int]]], epochs: int, runtime: Runtime
) -> Following:
    """What steps there are after each, with the part of the batch that falls to this process."""

    def following(epoch: int, number: int) -> tuple[list[int], int, int] | None:
        number += 1
        if number == len(batches(epoch)):
            epoch, number = epoch + 1, 0
        if epoch == epochs:
            return None
        return _share(batches(epoch)[number], runtime)[0], epoch, number

    return following


def run_loop(
    *,
    folder: RunFolder,
    network: nn.Module,
    card: ModelCard,
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[float], float],
    epochs: int,
    batches: Callable[[int], list[list[int]]],
    step: Step,
    validate: Callable[[], Mapping[str, float]],
    runtime: Runtime,
    description: str,
    checkpoint_seconds: float = 30.0,
    rounds: int | None = None,
    state_module: nn.Module | None = None,
    trackers: Sequence[TrackerName] = (),
    chosen_by: str = "val_iou",
) -> list[dict[str, float]]:
    """Train, validate after every epoch, keep the best; continue where the folder says.

    Args:
        folder: the run folder, opened.
        network: the module whose weights are saved (not wrapped).
        card: written into every model file.
        optimizer: of the network's parameters.
        learning_rate: share of the run that is done (0 to 1) -> learning rate.
        epochs: how many.
        batches: epoch -> batches of image indices.
        step: computes the loss of a batch.
        validate: figures of the current weights.
        runtime: devices, precision and processes.
        description: what the progress bar says.
        checkpoint_seconds: save the position at least this often, and with every best checkpoint; a
            resumed run repeats what came after.
        rounds: epochs of a round, whose files go when the next one begins, so that the position is
            saved before.
        state_module: all that a resumed run needs, where that is more than the network (a student
            and its teacher, say).
        trackers: what shows the figures of the epochs while it trains.
        chosen_by: which of the figures chooses the best checkpoint, the higher the better.

    Returns:
        One row per epoch; row 0 is the start, before any update.

    Raises:
        SegprefError: less than one epoch, another process trains in the folder, a tracker is not
            installed, or training has diverged: a loss or a weight is not finite.
    """
    if epochs < 1:
        raise SegprefError(f"epochs must be at least 1, not {epochs}")
    kept = network if state_module is None else state_module
    main = runtime.first
    total = sum(len(batches(epoch)) for epoch in range(epochs))
    writing = trackers if main else ()
    with (
        alone_in(folder.path),
        runtime.together(),
        tracked(folder, writing) as track,
        progress_bar() as bar,
    ):
        position = _restore(folder, kept, optimizer)
        if not position.history:
            position.history.append({"epoch": 0.0, **validate()})
        for row in position.history:
            track(row)
        done = sum(len(batches(epoch)) for epoch in range(position.epoch)) + position.step
        saved = time.monotonic()
        task = bar.add_task(description, total=total, completed=done, note="")
        for epoch in range(position.epoch, epochs):
            todo = batches(epoch)
            figures = EpochFigures(position.totals)
            for number in range(position.step, len(todo)):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(done / total)
                result = _shared(step, todo[number], epoch, number, runtime)
                _update(result, optimizer, position, runtime, figures, (epoch, number))
                done += 1
                bar.advance(task)
                position.step = number + 1
                if main and time.monotonic() - saved > checkpoint_seconds:
                    figures.read(kept)
                    _save(folder, kept, optimizer, position)
                    saved = time.monotonic()
            figures.read(kept)
            means = {name: _mean(*pair) for name, pair in sorted(position.totals.items())}
            row = {"epoch": float(epoch + 1), **validate(), **means}
            position.history.append(row)
            position.epoch, position.step, position.totals = epoch + 1, 0, {}
            better = row[chosen_by] > position.best or not position.best_epoch
            if better:
                known = not math.isnan(row[chosen_by])
                position.best = row[chosen_by] if known else -math.inf
                position.best_epoch = epoch + 1
            if main:
                folder.write_metrics(position.history)
                track(row)
                if better:
                    save_model(folder.best, network, card)
                whole = position.epoch == epochs or (rounds and position.epoch % rounds == 0)
                # An epoch may be shorter than it takes to write a large network and its moments.
                if better or whole or time.monotonic() - saved > checkpoint_seconds:
                    save_model(folder.last, network, card)
                    _save(folder, kept, optimizer, position)
                    saved = time.monotonic()
            note = f"{name_of(chosen_by)} {row[chosen_by]:.3f}, best {position.best:.3f}"
            bar.update(task, note=note)
            if main and not console.is_terminal:
                console.print(f"{description}: epoch {epoch + 1} of {epochs}, {note}")
        if main:
            folder.write_metrics(position.history)
    return position.history


def _shared(step: Step, batch: list[int], epoch: int, number: int, runtime: Runtime) -> StepResult:
    """The step on the part of the batch that falls to this process."""
    share, due = _share(batch, runtime)
    if due:
        with runtime.step():
            return step(share, epoch, number)
    with runtime.step(idle=True):
        idle = step(share, epoch, number)
    return StepResult(None if idle.loss is None else idle.loss * 0, 0)


def _share(batch: list[int], runtime: Runtime) -> tuple[list[int], bool]:
    """The images of this process, and whether they are its own.

    Where there are fewer images than processes, all must take part in averaging gradients, the others
    with zeros.
    """
    share = list(runtime.shared(batch))
    return share or batch[:1], bool(share)


def _update(
    result: StepResult,
    optimizer: torch.optim.Optimizer,
    position: Position,
    runtime: Runtime,
    figures: EpochFigures,
    place: tuple[int, int],
) -> None:
    terms = result.terms
    if runtime.processes == 1:
        figures.add(result.logs)
    else:
        # Processes wait for each other at every step in any case.
        parts = runtime.gathered([(terms, read_logs([result.logs])[0])])
        terms = sum(count for count, _ in parts)
        for _, logs in parts:
            figures.add(logs)
    if terms == 0:
        return
    if result.loss is None:
        raise AssertionError(
            "a process without terms must return a zero that depends on its logits"
        )
    # With fp16 an update whose gradients are not finite is left out, and the run goes on.
    if result.terms and runtime.precision != "fp16":
        figures.watch(result.loss, *place)
    # Processes average their gradients; the loss is the sum over all terms of the step by their number.
    runtime.backward(result.loss * (runtime.processes / terms))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    position.updates += 1


def _mean(amount: float, weight: float) -> float:
    return amount / weight if weight else math.nan


def _save(
    folder: RunFolder, network: nn.Module, optimizer: torch.optim.Optimizer, position: Position
) -> None:
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{number}.{name}"] = value
    folder.save_state(tensors, asdict(position))


def _restore(folder: RunFolder, network: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    found = folder.load_state()
    if found is None:
        return Position()
    tensors, position = found
    weights: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "network":
            weights[rest] = value
        else:
            number, _, moment = rest.partition(".")
            moments.setdefault(int(number), {})[moment] = value
    network.load_state_dict(weights)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return Position(**position)
