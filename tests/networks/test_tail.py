"""Reruns under dropout begin at the first dropout layer, bit-identical to reruns of the whole stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.overrides
from torch import Tensor, nn

from segpref.networks import Tail, find_tail
from segpref.policies import NetworkSpec


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))


class Stage(nn.Module):
    """A residual stage that works in place before and behind its dropout."""

    def __init__(self, width: int, in_place: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.skip = nn.Conv2d(width, width, 1)
        self.drop = nn.Dropout(0.5)
        self.act = nn.ReLU(inplace=in_place)
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.skip(x)
        y: Tensor = self.last(self.act(self.drop(self.first(x))))
        return y.add_(skip) if self.act.inplace else y + skip


def staged(in_place: bool) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), Stage(4, in_place), nn.Conv2d(4, 3, 1)
        ).eval()


def unet(tiny_unet: Callable[..., NetworkSpec], **changes: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tiny_unet(3, **changes).build().eval()


class Counted(torch.overrides.TorchFunctionMode):
    """Counts the convolutions that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.convolutions += "conv" in getattr(func, "__name__", "")
        return func(*args, **(kwargs or {}))


def samples(tail: Tail, network: nn.Module, images: Tensor) -> tuple[list[Tensor], int]:
    """Three samples, and how many convolutions each took; what the pass left is left as it was."""
    with tail.watched() as seen:
        network(images)
    left = [seen[0].entered, *seen[0].settled]
    before = [one.clone() for one in left]
    with Counted() as counted:
        found = list(tail.samples(seen[0], 3, 0.5, range(len(images))))
    assert all(torch.equal(a, b) for a, b in zip(left, before, strict=True))
    return found, counted.convolutions // 3


NETWORKS: dict[str, Callable[[Callable[..., NetworkSpec]], nn.Module]] = {
    "in place": lambda _: staged(True),
    "not in place": lambda _: staged(False),
    "unet": unet,
    "two units": lambda tiny: unet(tiny, num_res_units=2),
    "in-place unet": lambda tiny: unet(tiny, act=("leakyrelu", {"inplace": True})),
    "dropout last": lambda tiny: unet(tiny, adn_ordering="AND"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_reruns_begin_at_the_first_dropout_layer(
    name: str, tiny_unet: Callable[..., NetworkSpec], images: Tensor
) -> None:
    network = NETWORKS[name](tiny_unet)
    tail = find_tail(network, images[:1])
    assert tail is not None
    assert tail.settled, "nothing runs before the dropout layer"
    short, few = samples(tail, network, images)
    whole, many = samples(Tail(tail.parts), network, images)
    assert few < many
    for one, other in zip(short, whole, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(short[0], short[1])


def test_copies_are_made_only_where_layers_work_in_place(images: Tensor) -> None:
    for in_place in (True, False):
        tail = find_tail(staged(in_place), images[:1])
        assert tail is not None
        assert tail.in_place == in_place


def test_a_module_that_runs_twice_is_computed_again(images: Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.drop = nn.Conv2d(4, 4, 3, padding=1), nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(self.drop(self.conv(x)))
            return y

    network = nn.Sequential(nn.Conv2d(1, 4, 1), Twice(), nn.Conv2d(4, 3, 1)).eval()
    tail = find_tail(network, images[:1])
    assert tail is not None
    assert not tail.settled
    short, _ = samples(tail, network, images)
    assert not torch.equal(short[0], short[1])


def test_modules_are_themselves_again(images: Tensor) -> None:
    network = staged(True)
    tail = find_tail(network, images[:1])
    assert tail is not None
    samples(tail, network, images)
    assert not any("forward" in module.__dict__ for module in network.modules())
    with torch.no_grad():
        assert not torch.equal(network(images), network(images + 1))
