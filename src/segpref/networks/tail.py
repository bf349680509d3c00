"""A network's last stage with dropout, rerun many times on what one pass of the whole network left."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segpref.networks.seeded_dropout import DROPOUT, SeededDropout, dropout_places, keyed_dropout
from segpref.networks.tail_watch import StandingWatch
from segpref.seeds import image_seeds
from segpref.types import SegprefError

__all__ = ["Tail", "TailPass", "find_tail", "full_size"]

_NAMES = ("logits", "pred", "out")


@dataclass(frozen=True, slots=True)
class TailPass:
    """What one pass of the whole network left for reruns of its last stage.

    Args:
        entered: what went into the stage, without a graph.
        settled: what the stage's modules gave that run before its first dropout layer.
        precision: the mixed precision of the pass; None without one.
    """

    entered: Tensor
    settled: tuple[Tensor, ...]
    precision: torch.dtype | None


class Tail:
    """The last stage of a network that holds a dropout layer, up to the logits.

    Reruns begin at the first dropout layer: what runs before it gives what it gave in the pass of the
    whole network, bit for bit.

    Args:
        parts: submodules that make up the stage, in the order in which they run.
        settled: modules inside of it that have run before the first dropout layer does.
        in_place: whether the stage may change in place what goes into it and what ``settled`` gives, so
            that passes and reruns need copies.
    """

    def __init__(
        self,
        parts: Sequence[nn.Module],
        settled: Sequence[nn.Module] = (),
        in_place: bool = True,
    ) -> None:
        self.parts, self.settled, self.in_place = tuple(parts), tuple(settled), in_place
        self._standing: StandingWatch | None = None

    def stay(self) -> None:
        """Watch from now on by hooks that stay, as a network needs them that is compiled."""
        self._standing = StandingWatch(self.parts[0], self.settled, self.in_place)

    @contextmanager
    def watched(self) -> Iterator[list[TailPass]]:
        """Passes of the whole network inside leave what reruns need, where it has ended."""
        seen: list[TailPass] = []
        if self._standing is not None:
            watch = self._standing
            with watch.on():
                yield seen
            assert watch.entered is not None
            seen.append(TailPass(watch.entered, tuple(watch.given), watch.precision))
            return
        own = torch.clone if self.in_place else _itself
        entered: list[tuple[Tensor, torch.dtype | None]] = []
        given: dict[nn.Module, Tensor] = {}

        def begin(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            kind = inputs[0].device.type
            mixed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
            entered.append((own(inputs[0].detach()), mixed))

        def keep(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> None:
            given[module] = own(output.detach())

        def end(*_: Any) -> None:
            if entered:
                tensor, precision = entered.pop()
                settled = tuple(given[module] for module in self.settled)
                seen.append(TailPass(tensor, settled, precision))

        with ExitStack() as hooks:
            for hook in (
                self.parts[0].register_forward_pre_hook(begin),
                *(module.register_forward_hook(keep) for module in self.settled),
                self.parts[-1].register_forward_hook(end),
            ):
                hooks.callback(hook.remove)
            yield seen

    def rerun(self, left: TailPass) -> Any:
        """What the stage gives for what a pass of the whole network left.

        In the precision of that pass, or where it had none, in what is asked for here.
        """
        own = torch.clone if self.in_place else _itself
        result: Any = own(left.entered)
        with ExitStack() as stack:
            for module, output in zip(self.settled, left.settled, strict=True):
                stack.enter_context(_giving(module, own(output)))
            if left.precision is not None:
                stack.enter_context(torch.autocast(left.entered.device.type, left.precision))
            for part in self.parts:
                result = part(result)
        return result

    def samples(
        self, left: TailPass, count: int, rate: float | None, seeds: Sequence[int]
    ) -> Iterator[Any]:
        """What the stage gives under dropout, ``count`` times; nothing where no layer drops anything.

        Args:
            left: by a pass of the whole network.
            count: how many.
            rate: dropout probability; None keeps the network's own.
            seeds: one per image; it determines the image's masks, whatever else is in the batch.
        """
        places = [place for part in self.parts for place in dropout_places(part, rate)]
        if not any(place.rate > 0 for place in places):
            return
        dropout = SeededDropout()
        layers = [place.module for place in places]
        for number in range(count):
            dropout.seeds = image_seeds(seeds, number)
            with torch.no_grad(), _training(layers), keyed_dropout(places, dropout):
                sample = self.rerun(left)
            yield sample

    def reproduces(self, network: nn.Module, image: Tensor) -> bool:
        """Whether a rerun without dropout gives what the network gives."""
        with torch.no_grad():
            with self.watched() as seen:
                expected = full_size(network(image))
            return len(seen) == 1 and _same(self.rerun(seen[0]), expected)


def find_tail(network: nn.Module, image: Tensor, names: Sequence[str] | None = None) -> Tail | None:
    """The last stage with dropout, checked by running it; None where there is none.

    Args:
        network: gives logits, or a list of outputs whose first are the logits.
        image: any that it takes.
        names: of the submodules that make up the stage, in the order in which they run; found by
            itself where None.

    Raises:
        SegprefError: a name that is no submodule, or submodules that do not give the logits.
    """
    if names is None:
        parts = _trace(network, image)
    else:
        try:
            parts = tuple(network.get_submodule(name) for name in names)
        except AttributeError as error:
            raise SegprefError(
                f"the network has no submodule {error}: name its last stage as "
                "`dict(network.named_modules())` does"
            ) from error
    if not parts:
        return None
    whole = Tail(parts)
    if not whole.reproduces(network, image):
        if names is None:
            return None
        raise SegprefError(
            f"the submodules {', '.join(names)} do not give the network's logits when "
            "they run one after the other: name the last decoder stage and the head"
        )
    settled = _settled(network, parts, image)
    short = Tail(parts, settled, _changes_in_place(Tail(parts, settled), network, image))
    return short if short.reproduces(network, image) else whole


def full_size(output: Any) -> Any:
    """The segmentation among several outputs: heads of deep supervision only propose.

    Of a list it is the first of the largest ones, of a mapping what is named as logits usually are.
    """
    if isinstance(output, Mapping):
        output = next((output[name] for name in _NAMES if name in output), output)
    if isinstance(output, list | tuple) and output:
        return max(output, key=_voxels)  # the first of those that are equal
    return output


def _voxels(output: Any) -> int:
    return math.prod(output.shape[2:]) if isinstance(output, Tensor) and output.ndim > 2 else 0


def _trace(network: nn.Module, image: Tensor) -> tuple[nn.Module, ...]:
    """Walk back from the logits to the last stage that holds a dropout layer.

    A part belongs to the chain when its output is the same tensor that the next part takes. The
    outermost such module that is not fed the image itself is taken: the whole last decoder stage.
    """
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
            return
        # What gives back its very input (nn.Identity) would be met again and again on the way back.
        if output is not inputs[0] or isinstance(module, DROPOUT):
            calls.append((module, inputs[0], output))

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            logits = full_size(network(image))
    finally:
        for hook in hooks:
            hook.remove()
    calls = [call for call in calls if call[1] is not image]
    wanted = logits
    if not any(call[2] is logits for call in calls):
        # Under mixed precision the network hands out a float32 copy of its head's output.
        wanted = next((out for _, _, out in reversed(calls) if _same(out, logits)), logits)
    tail: list[nn.Module] = []
    while not any(isinstance(m, DROPOUT) for part in tail for m in part.modules()):
        # Hooks fire inner modules first, so the last match is the outermost.
        found = [call for call in calls if call[2] is wanted]
        if not found:
            return ()
        module, wanted, _ = found[-1]
        tail.insert(0, module)
    return tuple(tail)


def _settled(
    network: nn.Module, parts: Sequence[nn.Module], image: Tensor
) -> tuple[nn.Module, ...]:
    """The outermost modules of a stage that have run when its first dropout layer begins."""
    inside = {module for part in parts for module in part.modules()}
    ended: list[nn.Module] = []
    calls: dict[nn.Module, int] = {}
    dropping = False

    def begin(module: nn.Module, _: tuple[Any, ...]) -> None:
        nonlocal dropping
        calls[module] = calls.get(module, 0) + 1
        dropping = dropping or isinstance(module, DROPOUT)

    def end(module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        if not dropping and isinstance(output, Tensor):
            ended.append(module)

    with ExitStack() as hooks, torch.no_grad():
        for module in inside:
            hooks.callback(module.register_forward_pre_hook(begin).remove)
            hooks.callback(module.register_forward_hook(end).remove)
        network(image)
    once = [module for module in ended if calls[module] == 1]
    within = {inner for module in once for inner in module.modules() if inner is not module}
    return tuple(module for module in once if module not in within)


def _changes_in_place(tail: Tail, network: nn.Module, image: Tensor) -> bool:
    """Whether a rerun changes in place what a pass left."""
    if torch.is_inference_mode_enabled():
        return True  # torch counts no changes there
    with torch.no_grad():
        with tail.watched() as seen:
            network(image)
        left = seen[0]
        own = [one.clone() for one in (left.entered, *left.settled)]
        before = [one._version for one in own]
        Tail(tail.parts, tail.settled, in_place=False).rerun(
            TailPass(own[0], tuple(own[1:]), left.precision)
        )
    return [one._version for one in own] != before


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _same(output: Tensor, logits: Tensor) -> bool:
    return torch.equal(output.to(logits.dtype), logits)


@contextmanager
def _giving(module: nn.Module, output: Tensor) -> Iterator[None]:
    """Inside, the module gives this whatever it is called with, and computes nothing."""
    before = module.__dict__.get("forward")
    module.forward = lambda *_, **__: output
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


@contextmanager
def _training(layers: Sequence[nn.Module]) -> Iterator[None]:
    before = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.train()
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.train(training)
