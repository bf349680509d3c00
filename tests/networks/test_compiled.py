"""Networks that are compiled: which passes are, and that the others see every hook.

The backend counts what runs compiled and runs it operation by operation, so that results are equal to
the bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from counting_backend import Counting
from segpref.networks import (
    Compiled,
    InjectedDropout,
    NotCompiled,
    SeededDropout,
    check_compiler,
    dropout_places,
    find_tail,
    keyed_dropout,
)
from segpref.policies import NetworkSpec, Segmenter
from segpref.types import LabelSpace, SegprefError

SPACE = LabelSpace("multi-label", ("a", "b"))


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    counting = Counting()
    monkeypatch.setattr("segpref.networks.compiled.BACKEND", counting)
    yield counting
    torch.compiler.reset()


@pytest.fixture(params=[2, 3])
def network(request: pytest.FixtureRequest, tiny_unet: Callable[..., NetworkSpec]) -> nn.Module:
    torch.manual_seed(0)
    built = tiny_unet(2, (4, 8, 8), spatial_dims=request.param, num_res_units=2).build()
    return built.eval()


def images(network: nn.Module, count: int, seed: int = 0) -> Tensor:
    dims = next(one.ndim for one in network.parameters() if one.ndim > 1) - 2
    return torch.randn(count, 1, *[16] * dims, generator=torch.Generator().manual_seed(seed))


def test_batches_of_a_step_run_compiled_and_all_others_as_written(
    network: nn.Module, backend: Counting
) -> None:
    names, compiled = list(network.state_dict()), Compiled(network, batch=4)
    # Others come first: what is compiled does not depend on what was seen before.
    for count, learning, ran in (
        (3, True, 0), (8, False, 0), (4, True, 1), (4, False, 1), (3, True, 0), (1, False, 0),
    ):  # fmt: skip
        batch = images(network, count)
        with torch.set_grad_enabled(learning):
            graphs, logits = backend.ran(lambda batch=batch: compiled(batch))
            assert graphs == ran, (count, learning)
            torch.testing.assert_close(logits, network(batch), rtol=0, atol=0)
            assert logits.requires_grad == learning
    assert backend.compiled == 2
    # In training also labelled and unlabelled images side by side.
    compiled.train()
    assert network.training
    assert [backend.ran(lambda n=n: compiled(images(network, n)))[0] for n in (6, 8)] == [0, 1]
    assert list(network.state_dict()) == names
    assert deepcopy(network)(images(network, 1)).shape == (1, 2, *images(network, 1).shape[2:])


def test_a_hook_that_is_there_for_a_while_is_never_left_out(
    network: nn.Module, backend: Counting
) -> None:
    compiled, batch = Compiled(network, batch=2), images(network, 2)
    with torch.no_grad():
        plain = compiled(batch)
        dropout = InjectedDropout(network, batch[:1])
        with dropout.active(0.3, [5, 6]):
            graphs, dropped = backend.ran(lambda: compiled(batch))
        with dropout.active(0.3, [5, 6]):
            expected = network(batch)
        assert graphs == 0
        assert torch.equal(dropped, expected)
        assert not torch.equal(dropped, plain)
        assert backend.ran(lambda: compiled(batch))[0] == 1


def test_dropout_of_a_training_is_drawn_by_the_seeds_of_its_images(
    network: nn.Module, backend: Counting
) -> None:
    dropout, plain = SeededDropout(), SeededDropout()
    dropout.compile()
    compiled = Compiled(network, batch=2)
    compiled.train()
    own, compiled_graphs = deepcopy(network), 0
    places = dropout_places(network)
    with keyed_dropout(places, dropout), keyed_dropout(dropout_places(own), plain):
        for seed in range(6):
            dropout.seeds = plain.seeds = [seed, 2**63 - 1 - seed]
            batch = images(network, 2, seed)
            graphs, logits = backend.ran(lambda batch=batch: compiled(batch))
            assert graphs == 1
            assert torch.equal(logits, own(batch))
            weights = list(zip(network.parameters(), own.parameters(), strict=True))
            logits.square().sum().backward()
            own(batch).square().sum().backward()
            assert all(torch.equal(one.grad, other.grad) for one, other in weights)
            assert seed == 0 or backend.compiled == compiled_graphs  # nothing is compiled again
            compiled_graphs = backend.compiled


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_a_policy_reruns_its_last_stage_and_drops_out_as_without(
    precision: torch.dtype | None, network: nn.Module, backend: Counting
) -> None:
    plain, compiled = Segmenter(deepcopy(network), SPACE), Segmenter(network, SPACE)
    compiled.network = Compiled(network, batch=2)
    assert compiled.digest() == plain.digest()
    with torch.autocast("cpu", precision, enabled=precision is not None):
        for seed in range(3):
            batch = images(network, 2, seed)
            graphs, state = backend.ran(lambda batch=batch: compiled.forward(batch))
            expected = plain.forward(batch)
            assert graphs == 1
            assert torch.equal(state.logits, expected.logits)
            assert state.tail is not None
            assert expected.tail is not None
            assert state.tail.precision == expected.tail.precision == precision
            kept = (state.tail.entered, *state.tail.settled)
            there = (expected.tail.entered, *expected.tail.settled)
            for one, other in zip(kept, there, strict=True):
                assert torch.equal(one, other)
                assert not one.requires_grad
            reruns = [
                policy.dropout_logits(made, 2, 0.3, [seed, 7])
                for policy, made in ((compiled, state), (plain, expected))
            ]
            assert torch.equal(*reruns)
            samples = [p.stochastic_logits(batch, 0.3, [seed, 7]) for p in (compiled, plain)]
            assert torch.equal(*samples)
            assert not torch.equal(samples[0], expected.logits)
            views = [policy.logits(batch * 2) for policy in (compiled, plain)]
            assert torch.equal(*views)
            # A batch of another size is watched, too.
            assert torch.equal(
                compiled.forward(batch[:1]).tail.entered, plain.forward(batch[:1]).tail.entered
            )
    assert find_tail(network, batch[:1]) is not None


def test_the_tenth_training_of_a_process_is_compiled_like_the_first(
    network: nn.Module, backend: Counting
) -> None:
    """Torch compiles a function eight times, and one class has one function for all its networks."""
    batch = images(network, 2)
    for _ in range(10):
        own = deepcopy(network)
        policy = Segmenter(own, SPACE)
        policy.network = Compiled(own, batch=2)
        with torch.no_grad():
            for weight in own.parameters():
                weight.mul_(1.1)
        graphs, state = backend.ran(lambda policy=policy: policy.forward(batch))
        expected = Segmenter(deepcopy(own), SPACE).forward(batch)
        assert graphs == 1
        assert torch.equal(state.logits, expected.logits)
        assert torch.equal(state.tail.entered, expected.tail.entered)
        network = own


def test_what_the_compiler_can_t_do_is_said_in_a_sentence(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        raise RuntimeError("no such layer\nhere")

    monkeypatch.setattr("segpref.networks.compiled.BACKEND", failing)
    policy = Segmenter(network, SPACE)
    policy.network = Compiled(network, batch=2)
    with pytest.raises(NotCompiled, match=r"this network can't be compiled .*leave --compile out"):
        policy.forward(images(network, 2))
    # What the network itself can't take is its own error.
    with pytest.raises(SegprefError, match="the network can't take images of"):
        policy.forward(images(network, 1).repeat_interleave(2, 1))
    with pytest.raises(SegprefError, match=r"can't be compiled on this machine \(.*no such layer"):
        check_compiler()


@pytest.mark.parametrize(("variable", "missing"), [("PATH", "g++"), ("CXX", "/nowhere/c++")])
def test_without_a_compiler_nothing_begins(
    variable: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv(variable, missing if variable == "CXX" else "/nowhere")
    with pytest.raises(SegprefError, match=f"there is no C\\+\\+ compiler {re.escape(missing)} "):
        check_compiler()
