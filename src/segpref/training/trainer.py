"""One trainer for all tasks.

A task says which network learns, what a step's loss is, how the weights are validated and what is said
at the end. The trainer gives it a device, an optimiser and the processes, and sees to epochs,
checkpoints and resume (:mod:`segpref.training.loop`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from segpref.networks import Compiled, SeededDropout, keyed_dropout
from segpref.networks.seeded_dropout import DropoutPlace
from segpref.policies import ModelCard
from segpref.progress import console
from segpref.runtime import Runtime, emulates_bfloat16
from segpref.training.compiling import check_compiled
from segpref.training.config import TrainingConfig
from segpref.training.folder import RunFolder
from segpref.training.loop import Step, batch_stream, run_loop
from segpref.training.schedules import learning_rate_of
from segpref.training.validation import Validate

__all__ = ["History", "Task", "TrainingContext", "TrainingPlan", "train"]

History = Sequence[Mapping[str, float]]
"""One row per epoch; row 0 is the start, before any update."""

_OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class TrainingPlan(NamedTuple):
    """What a task hands to the training loop.

    Args:
        step: from the places of a batch's images in the pool to the loss.
        validate: figures of the current weights.
        rounds: epochs of a round, whose files are deleted when the next one begins; None without
            rounds.
        chosen_by: which of the figures chooses the best checkpoint, the higher the better.
    """

    step: Step
    validate: Validate
    rounds: int | None = None
    chosen_by: str = "val_iou"


@dataclass(frozen=True, slots=True)
class TrainingContext:
    """What the trainer hands to a task.

    Args:
        network: on the device, in the run's precision, its gradients shared by all processes; compiled
            where that is asked for.
        unwrapped: the same module, not wrapped.
        validated: the module that is validated and saved: ``unwrapped``, or the average that
            follows it.
        runtime: device, precision and processes.
        dropout: where dropout layers draw; its seeds are set before every pass in training mode.
        config: of the training.
        batches: epoch -> batches of image indices.
        kept: what :meth:`Task.kept` gave, on the device.
        closing: what is entered here is closed when the training ends, however it does.
    """

    network: nn.Module
    unwrapped: nn.Module
    validated: nn.Module
    runtime: Runtime
    dropout: SeededDropout
    config: TrainingConfig
    batches: Callable[[int], list[list[int]]]
    kept: Mapping[str, nn.Module]
    closing: ExitStack


class Task(ABC):
    """What a training learns."""

    kind: str
    """What the summary calls it."""

    card: ModelCard
    """Written into every model file."""

    title: str
    """What the progress bar says."""

    @property
    @abstractmethod
    def images(self) -> int:
        """How many images an epoch draws from."""

    @abstractmethod
    def network(self) -> nn.Module:
        """The network before its first update; what does not learn in it requires no gradient."""

    @abstractmethod
    def begin(self, context: TrainingContext) -> TrainingPlan:
        """Make ready what the steps need."""

    @abstractmethod
    def summary(self, history: History) -> dict[str, Any]:
        """What the run came to; ``kind`` and ``seed`` are added to it."""

    def average(self, network: nn.Module) -> AveragedModel | None:
        """An average that follows the weights, and is validated and saved; None for the weights."""
        return None

    def kept(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """What a resumed run needs besides the network and its average, by name."""
        return {}

    normalises = False
    """Whether normalisation statistics are learned, too: the network is in training mode."""

    def leaves_weights_out(self, network: nn.Module) -> bool:
        """Whether some weights that learn may have no part in a step's loss; asked of launches only."""
        return True

    def dropout(self, network: nn.Module) -> Sequence[DropoutPlace]:
        """Where features are dropped while the network is in training mode."""
        return ()


def train(
    task: Task, config: TrainingConfig, folder: RunFolder, runtime: Runtime | None = None
) -> dict[str, Any]:
    """Train, or go on where the folder says; a finished run is not done again.

    Args:
        task: what is learned.
        config: how long, how fast and from which seed.
        folder: where the run goes, opened.
        runtime: device, precision and processes; the usual ones in the config's precision where None.

    Returns:
        The run's summary.

    Raises:
        SegprefError: another process trains in the folder, or it holds another run's state.
    """
    if folder.finished:
        return folder.finished_summary()
    check_compiled(config, task.card.preparation, task.card.policy)
    runtime = runtime or Runtime(config.precision)
    if runtime.first and emulates_bfloat16():
        for name in config.in_bfloat16:
            console.print(
                "This CPU emulates bfloat16, which takes several times longer than float32: use "
                f"--{name} no."
            )
    network = runtime.place(task.network())
    if task.normalises:
        network = runtime.in_common(network)
    partly = runtime.processes > 1 and task.leaves_weights_out(network)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = _OPTIMIZERS[config.optimizer](
        weights, config.learning_rate, weight_decay=config.weight_decay
    )
    average = task.average(network)
    validated, modules = network, dict(task.kept(network))
    kept = dict(modules)
    if average is not None:
        follow = average.update_parameters
        optimizer.register_step_post_hook(lambda *_: follow(network))
        validated, modules["average"] = average.module, average
    state = nn.ModuleDict({"network": network, **modules}) if modules else None
    wrapped, prepared = runtime.learning(network, optimizer, partly)
    dropout = SeededDropout()
    batches = batch_stream(task.images, config.images_per_epoch, config.batch_size, config.seed)
    if config.compile:
        wrapped = Compiled(wrapped, len(runtime.shared(batches(0)[0])) or 1)
        dropout.compile()
    with ExitStack() as closing:
        context = TrainingContext(
            wrapped, network, validated, runtime, dropout, config, batches, kept, closing
        )
        plan = task.begin(context)
        closing.enter_context(keyed_dropout(task.dropout(network), dropout))
        history = run_loop(
            folder=folder,
            network=validated,
            state_module=state,
            card=task.card,
            optimizer=prepared,
            learning_rate=learning_rate_of(config),
            epochs=config.epochs,
            batches=batches,
            step=plan.step,
            validate=plan.validate,
            runtime=runtime,
            description=task.title,
            checkpoint_seconds=config.checkpoint_seconds,
            rounds=plan.rounds,
            chosen_by=plan.chosen_by,
            trackers=config.trackers,
        )
    summary = {"kind": task.kind, "seed": config.seed, **task.summary(history)}
    if runtime.first:
        folder.write_summary(summary)
    return summary
