"""An accelerator that is not there: tensors that compute on the CPU and insist that they are elsewhere.

A tensor on it wraps the numbers and tells torch that its device is ``meta``, which every torch has and
nothing of ours uses (transformers does, while it reads a checkpoint). All operations come by
:class:`Accelerator`, which does what a GPU does: it takes tensors that are all on the accelerator, lets
through what torch lets through (numbers without an axis, indices from the host, copies between devices)
and refuses everything else. ``numpy()`` of such a tensor is refused by torch itself.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

from segpref.runtime import Runtime
from segpref.training import loop

transformers: Any
try:
    import transformers
except ImportError:  # in the environment of nnU-Net
    transformers = None

DEVICE = torch.device("meta")

aten = torch.ops.aten

BETWEEN_DEVICES = {aten._to_copy.default, aten.copy_.default}
"""Operations that read one device and write another."""

INDEXED = {
    aten.index.Tensor, aten.index_put_.default, aten.index_put.default,
    aten._unsafe_index.Tensor, aten._index_put_impl_.default,
}  # fmt: skip
"""Operations whose indices may be on the host."""

SIZED = {
    aten.nonzero.default, aten.masked_select.default, aten._unique2.default,
    aten.unique_dim.default, aten.unique_consecutive.default,
}  # fmt: skip
"""Operations whose result is as large as the numbers say, for which a GPU is waited for."""

READ = {aten._local_scalar_dense.default, aten.equal.default, aten.is_same_size.default}
"""What comes back as a number."""


ON_HOST = {"GaussianFilter"}
"""Modules of transforms, with which images are prepared before a network sees them."""


class MixedDevices(AssertionError):
    """An operation that a GPU would refuse."""


class OnAccelerator(Tensor):
    """A tensor of the accelerator."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnAccelerator:
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"OnAccelerator({self.held!r})"

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    flat = tree_flatten((args, kwargs))[0]
    there = [one for one in flat if isinstance(one, OnAccelerator)]
    for one in flat:
        if isinstance(one, Tensor) and not isinstance(one, OnAccelerator) and one.is_meta:
            raise AssertionError(f"{func} got a tensor without numbers, made past the stand-ins")
    wanted = kwargs.get("device")
    if func in BETWEEN_DEVICES:
        return _copied(func, args, kwargs)
    if not there and (wanted is None or torch.device(wanted) != DEVICE):
        return func(*args, **kwargs)
    if there and wanted is not None and torch.device(wanted) != DEVICE:
        there = []  # zeros of the same shape, say, on the host
    elif there:
        _refuse_mixed(func, args, kwargs)
    plain_args, plain = tree_map(_held, (tuple(args), dict(kwargs)))
    if wanted is not None:
        plain["device"] = torch.device("cpu")
    result = func(*plain_args, **plain)
    if func in READ or (wanted is not None and torch.device(wanted) != DEVICE):
        return result
    return _wrapped(args, kwargs, result)


def _refuse_mixed(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    if func in INDEXED:
        args = (args[0], *args[2:])
    for one in tree_flatten((args, kwargs))[0]:
        if isinstance(one, Tensor) and not isinstance(one, OnAccelerator) and one.ndim:
            raise MixedDevices(
                f"{func} got a tensor of shape {tuple(one.shape)} on the host beside one on the "
                "accelerator"
            )


def _copied(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    plain = {name: value for name, value in kwargs.items() if name != "device"}
    if func is aten.copy_.default:
        func(*(_held(one) for one in args), **plain)
        return args[0]
    source = args[0]
    wanted = kwargs.get("device")
    target = source.device if wanted is None else torch.device(wanted)
    copied = func(_held(source), **plain)
    return OnAccelerator(copied) if target == DEVICE else copied


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnAccelerator) else value


def _wrapped(args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Any:
    """Results on the accelerator; what an operation changes in place stays the same tensor."""
    known = {
        id(one.held): one
        for one in tree_flatten((args, kwargs))[0]
        if isinstance(one, OnAccelerator)
    }

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else OnAccelerator(value)

    return tree_map(wrap, result)


class Accelerator(TorchDispatchMode):
    """Inside, a tensor may be made on the accelerator, and what ran where is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        """How often the host had to wait for the accelerator, by what and where, while it counts."""
        self.counts = False

    @contextmanager
    def counting(self) -> Iterator[None]:
        """What is waited for inside is counted."""
        before, self.counts = self.counts, True
        try:
            yield
        finally:
            self.counts = before

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if self.counts and (why := waited(func, args, kwargs or {})):
            self.waits[f"{why} in {_place()}"] += 1
        return computed(func, args, kwargs or {})


def waited(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Why a GPU is waited for at an operation: a number, a size or a copy; None where it is not.

    A copy to the GPU that goes by ``segpref.runtime.moved`` is pinned there, and not waited for.
    """
    there = [isinstance(one, OnAccelerator) for one in tree_flatten((args, kwargs))[0]]
    if func is aten.copy_.default:
        target, source = (isinstance(one, OnAccelerator) for one in args[:2])
        return None if target is source else "copy to it" if target else "copy from it"
    if func is aten._to_copy.default:
        source, device = isinstance(args[0], OnAccelerator), kwargs.get("device")
        target = source if device is None else torch.device(device) == DEVICE
        if target is source or (target and _place().endswith(" moved")):
            return None
        if not target and _follows(args[0]):
            return None
        return "copy to it" if target else "copy from it"
    if not any(there):
        return None
    if func in READ:
        return "number" if func is not aten.is_same_size.default else None
    if func is aten.repeat_interleave.Tensor:
        return "size" if kwargs.get("output_size") is None else None
    by_mask = func in INDEXED and any(
        one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1]
    )
    if func in INDEXED and not by_mask:
        return "copy to it" if any(
            one is not None and one.ndim and not isinstance(one, OnAccelerator) for one in args[1]
        ) else None  # fmt: skip
    return "size" if by_mask or func in SIZED else None


def _follows(tensor: Tensor) -> bool:
    """Whether ``segpref.runtime.fetched`` copies it beside another one, which is waited for once."""
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "fetched":
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None and tensor is not frame.f_locals["tensors"][0]


def _place() -> str:
    """The function of segpref that asked; for ``segpref.runtime.fetched`` who called it."""
    frame = sys._getframe()
    while frame is not None:
        name = frame.f_code.co_filename
        fetches = frame.f_code.co_name in ("fetched", "<listcomp>")
        if "/src/segpref/" in name and not fetches:
            return f"{name.rpartition('/src/segpref/')[2]} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def _stand_ins() -> Iterator[tuple[Any, str, Any]]:
    """What torch does before operations are dispatched, for a device that it does not know."""

    # What torch remembers for good at the first ``with torch.device(...)`` must be its own.
    _device_constructors()

    def known(device: Any) -> Any:
        return "cpu" if device is not None and torch.device(device) == DEVICE else device

    class Generator(torch.Generator):
        def __new__(cls, device: Any = "cpu") -> Any:
            return super().__new__(cls, known(device))

    class Autocast(torch.autocast):
        def __init__(self, device_type: str, *rest: Any, **settings: Any) -> None:
            super().__init__(known(device_type), *rest, **settings)

    yield torch, "Generator", Generator
    yield torch, "autocast", Autocast
    for name in ("is_autocast_enabled", "get_autocast_dtype"):
        ask = getattr(torch, name)
        yield torch, name, lambda device=None, ask=ask: ask(known(device or "cpu"))

    def from_numbers(make: Any) -> Any:
        def made(*args: Any, device: Any = None, **settings: Any) -> Tensor:
            found = make(*args, device=known(device), **settings)
            return found.to(DEVICE) if known(device) is not device else found

        return made

    yield torch, "tensor", from_numbers(torch.tensor)
    yield torch, "as_tensor", from_numbers(torch.as_tensor)

    def new_tensor(like: Tensor, data: Any, **settings: Any) -> Tensor:
        return torch.tensor(data, **{"dtype": like.dtype, "device": like.device, **settings})

    yield Tensor, "new_tensor", new_tensor

    if transformers is None:
        return
    read = transformers.PreTrainedModel.from_pretrained.__func__

    def from_pretrained(cls: Any, *args: Any, **settings: Any) -> Any:
        torch.__future__.set_swap_module_params_on_conversion(False)
        try:
            with _disable_current_modes():
                return read(cls, *args, **settings)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(True)

    yield transformers.PreTrainedModel, "from_pretrained", classmethod(from_pretrained)


def counted_steps(monkeypatch: pytest.MonkeyPatch, mode: Accelerator) -> list[Counter[str]]:
    """What every step of the trainings that follow waits for; a step's update is part of it."""
    steps: list[Counter[str]] = []

    def counted(work: Any, begins: bool) -> Any:
        def run(*args: Any) -> Any:
            if begins:
                mode.waits = Counter()
                steps.append(mode.waits)
            with mode.counting():
                return work(*args)

        return run

    monkeypatch.setattr(loop, "_shared", counted(loop._shared, True))
    monkeypatch.setattr(loop, "_update", counted(loop._update, False))
    return steps


@contextmanager
def accelerator(monkeypatch: pytest.MonkeyPatch, strict: bool = True) -> Iterator[Accelerator]:
    """Inside, the runtime has an accelerator.

    Args:
        monkeypatch: undoes what stands in for torch.
        strict: whether every network that runs must be on it.
    """
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    # As on a GPU, a parameter stays the same object when its network is placed.
    torch.__future__.set_swap_module_params_on_conversion(True)
    for place, name, stand_in in _stand_ins():
        monkeypatch.setattr(place, name, stand_in)
    monkeypatch.setattr(Runtime, "device", DEVICE)
    mode = Accelerator()

    def before(module: nn.Module, _: Any) -> None:
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        name = type(module).__name__
        if not own or name in ON_HOST:
            return
        mode.ran[name] += 1
        if strict and any(value.device != DEVICE for value in own):
            raise MixedDevices(f"a {name} runs on the host, beside an idle accelerator")

    hook = nn.modules.module.register_module_forward_pre_hook(before)
    try:
        with mode:
            yield mode
    finally:
        hook.remove()
        torch.__future__.set_swap_module_params_on_conversion(swaps)
