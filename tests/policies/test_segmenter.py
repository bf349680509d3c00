from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segpref.policies import NetworkSpec, Segmenter
from segpref.types import LabelSpace, Policy, Predictor, SegprefError, State
from waiting import in_time

SPACE = LabelSpace("multi-class", ("background", "a", "b"))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def unet(tiny_unet: Callable[..., NetworkSpec], **changes: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tiny_unet(3, **changes).build()


VARIANTS: list[dict[str, Any]] = [
    {},
    {"num_res_units": 0},
    {"num_res_units": 2},
    {"channels": (4, 8, 16)},
    {"norm": "batch"},
    {"act": ("leakyrelu", {"inplace": True})},
    {"adn_ordering": "AND"},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_tail_of_a_unet_reproduces_its_logits(
    changes: dict[str, Any], tiny_unet: Callable[..., NetworkSpec], images: Tensor
) -> None:
    policy = Segmenter(unet(tiny_unet, **changes), SPACE)
    state = policy.forward(images)
    with torch.no_grad():
        torch.testing.assert_close(state.logits, policy.network(images), rtol=0, atol=0)
    # With next to no dropout the reruns of the last stage are the logits, bit by bit.
    samples = policy.dropout_logits(state, 2, 1e-12, seeds=[0] * len(images))
    assert samples is not None
    assert samples.shape == (2, *state.logits.shape)
    for sample in samples:
        assert torch.equal(sample, state.logits.detach())


def test_monais_basic_unet_has_a_tail(images: Tensor) -> None:
    from monai.networks.nets import BasicUNet

    network = BasicUNet(2, 1, 3, features=(4, 4, 8, 8, 8, 4), dropout=0.2)
    policy = Segmenter(network, SPACE)
    state = policy.forward(images.repeat(1, 1, 2, 2))
    samples = policy.dropout_logits(state, 3, None, seeds=[0] * len(images))
    assert samples is not None
    assert not torch.equal(samples[0], samples[1])


def test_samples_differ_are_seeded_and_leave_no_trace(
    tiny_unet: Callable[..., NetworkSpec], images: Tensor
) -> None:
    network = unet(tiny_unet)
    policy = Segmenter(network, SPACE)
    state = policy.forward(images)
    flags = {name: module.training for name, module in network.named_modules()}
    rates = {n: m.p for n, m in network.named_modules() if isinstance(m, nn.Dropout)}
    weights = policy.digest()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = policy.dropout_logits(state, 2, 0.5, seeds=[1] * len(images))
    assert torch.equal(torch.get_rng_state(), before)
    assert {name: module.training for name, module in network.named_modules()} == flags
    assert {n: m.p for n, m in network.named_modules() if isinstance(m, nn.Dropout)} == rates
    assert policy.digest() == weights
    torch.manual_seed(6)
    again = policy.dropout_logits(state, 2, 0.5, seeds=[1] * len(images))
    other = policy.dropout_logits(state, 2, 0.5, seeds=[2] * len(images))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    assert not first.requires_grad
    state.logits.sum().backward()


def test_the_networks_own_rate_is_the_default(
    tiny_unet: Callable[..., NetworkSpec], images: Tensor
) -> None:
    policy = Segmenter(unet(tiny_unet, dropout=0.3), SPACE)
    state = policy.forward(images)
    own, same, other = (
        policy.dropout_logits(state, 1, rate, seeds=[0] * len(images)) for rate in (None, 0.3, 0.6)
    )
    assert own is not None
    assert same is not None
    assert other is not None
    assert torch.equal(own, same)
    assert not torch.equal(own, other)


def test_a_rate_of_zero_changes_nothing(
    tiny_unet: Callable[..., NetworkSpec], images: Tensor
) -> None:
    policy = Segmenter(unet(tiny_unet), SPACE)
    state = policy.forward(images)
    samples = policy.dropout_logits(state, 1, 0.0, seeds=[0] * len(images))
    assert samples is None or torch.equal(samples[0], state.logits.detach())


@pytest.mark.parametrize(
    "network",
    [
        nn.Conv2d(1, 3, 3, padding=1),
        nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1)),
        nn.Sequential(nn.Conv2d(1, 4, 1), nn.Identity(), nn.Conv2d(4, 3, 1), nn.Identity()),
        nn.Sequential(nn.Conv2d(1, 4, 1), nn.Dropout(0.0), nn.Conv2d(4, 3, 1)),
    ],
)
def test_without_dropout_there_are_no_samples(network: nn.Module, images: Tensor) -> None:
    policy = Segmenter(network, SPACE)
    with in_time():
        state = policy.forward(images)
    assert policy.dropout_logits(state, 2, None, seeds=[0] * len(images)) is None


def test_a_residual_unet_without_dropout(
    tiny_unet: Callable[..., NetworkSpec], images: Tensor
) -> None:
    policy = Segmenter(unet(tiny_unet, dropout=0.0), SPACE)
    with in_time():
        assert (
            policy.dropout_logits(policy.forward(images), 2, None, seeds=[0] * len(images)) is None
        )


def test_dropout_in_place_reaches_neither_the_graph_nor_the_next_sample(images: Tensor) -> None:
    head = nn.Sequential(nn.Dropout(0.5, inplace=True), nn.Conv2d(4, 3, 1))
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), head)
    policy = Segmenter(network, SPACE)
    state = policy.forward(images)
    samples = policy.dropout_logits(state, 2, None, seeds=[0] * len(images))
    one = policy.dropout_logits(state, 1, None, seeds=[0] * len(images))
    assert samples is not None
    assert one is not None
    assert torch.equal(samples[0], one[0])
    state.logits.square().sum().backward()
    (weight,) = torch.autograd.grad(
        policy.network(images).square().sum(),
        [network[1][1].weight],  # type: ignore[index]
    )
    torch.testing.assert_close(network[1][1].weight.grad, weight)  # type: ignore[index]


class Deep(nn.Module):
    """Heads at full and half size."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 4, 3, padding=1)
        self.stage = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.5))
        self.head, self.coarse = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 1, stride=2)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.body(images)
        return [self.head(self.stage(features)), self.coarse(features)]


@pytest.mark.parametrize("tail", [None, ("stage", "head")])
def test_deep_supervision(tail: tuple[str, ...] | None, images: Tensor) -> None:
    network = Deep()
    policy = Segmenter(network, SPACE, tail)
    state = policy.forward(images)
    assert torch.equal(state.logits, network(images)[0])
    assert torch.equal(policy.logits(images), network(images)[0])
    samples = policy.dropout_logits(state, 2, None, seeds=[0] * len(images))
    assert samples is not None
    assert not torch.equal(samples[0], samples[1])


def test_a_named_tail_is_checked(tiny_unet: Callable[..., NetworkSpec], images: Tensor) -> None:
    network = unet(tiny_unet)
    with pytest.raises(SegprefError, match="no submodule"):
        Segmenter(network, SPACE, ["decoder.9"]).forward(images)
    with pytest.raises(SegprefError, match="do not give the network's logits"):
        Segmenter(network, SPACE, ["model.0"]).forward(images)
    named = Segmenter(network, SPACE, ["model.2"])
    found = Segmenter(network, SPACE)
    first = named.dropout_logits(named.forward(images), 2, None, seeds=[0] * len(images))
    second = found.dropout_logits(found.forward(images), 2, None, seeds=[0] * len(images))
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)


def test_a_named_tail_is_found_inside_a_wrapper(
    tiny_unet: Callable[..., NetworkSpec], images: Tensor
) -> None:
    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor) -> Any:
            return self.module(x)

    for tail in (None, ["model.2"]):
        policy = Segmenter(Wrapped(unet(tiny_unet)), SPACE, tail)
        assert (
            policy.dropout_logits(policy.forward(images), 1, None, seeds=[0] * len(images))
            is not None
        )


def test_the_tail_runs_in_the_mixed_precision_of_the_pass(
    tiny_unet: Callable[..., NetworkSpec], images: Tensor
) -> None:
    class Mixed(nn.Module):
        """What Accelerate makes of a network: low precision inside, float32 outside."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.module(x).float()  # type: ignore[no-any-return]

    policy = Segmenter(Mixed(unet(tiny_unet)), SPACE)
    state = policy.forward(images)
    assert state.logits.dtype == torch.float32
    samples = policy.dropout_logits(state, 1, 1e-12, seeds=[0] * len(images))
    assert samples is not None
    assert torch.equal(samples[0], state.logits.detach())


class Says(nn.Module):
    def __init__(self, output: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.weight, self.output = nn.Parameter(torch.ones(1)), output

    def forward(self, images: Tensor) -> Any:
        return self.output(images * self.weight)


@pytest.mark.parametrize(
    "output",
    [
        lambda x: x.expand(-1, 2, -1, -1),
        lambda x: x.expand(-1, 3, -1, -1)[..., ::2, ::2],
        lambda x: [x.expand(-1, 2, -1, -1)],
        lambda x: x.mean(),
    ],
)
def test_outputs_of_the_wrong_shape(output: Any, images: Tensor) -> None:
    policy = Segmenter(Says(output), SPACE)
    for use in (policy.forward, policy.logits):
        with pytest.raises(SegprefError, match=r"where \(3, 3, 16, 16\) is needed: check"):
            use(images)


def test_an_output_that_is_no_tensor(images: Tensor) -> None:
    policy = Segmenter(Says(lambda x: {"boxes": x.expand(-1, 3, -1, -1)}), SPACE)
    for use in (policy.forward, policy.logits):
        with pytest.raises(SegprefError, match="gives a dict where a tensor"):
            use(images)


def test_the_digest_names_the_weights(tiny_unet: Callable[..., NetworkSpec]) -> None:
    policy = Segmenter(unet(tiny_unet, norm="batch"), SPACE)
    same = Segmenter(unet(tiny_unet, norm="batch"), SPACE)
    assert policy.digest() == same.digest()
    weight = next(policy.network.parameters())
    with torch.no_grad():
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(9.0))
    assert policy.digest() != same.digest()
    for name, value in same.network.named_buffers():
        if name.endswith("running_mean"):
            value += 1
            break
    assert same.digest() != Segmenter(unet(tiny_unet, norm="batch"), SPACE).digest()


def test_logits_have_no_graph_and_the_state_has(
    tiny_unet: Callable[..., NetworkSpec], images: Tensor
) -> None:
    policy = Segmenter(unet(tiny_unet), SPACE)
    assert not policy.logits(images).requires_grad
    state = policy.forward(images)
    assert state.logits.requires_grad
    assert state.tail is not None
    assert not state.tail.entered.requires_grad
    assert not any(one.requires_grad for one in state.tail.settled)
    assert isinstance(state, State)
    assert isinstance(policy, Policy)
    assert isinstance(policy, Predictor)


def test_hooks_are_taken_away_again(tiny_unet: Callable[..., NetworkSpec], images: Tensor) -> None:
    network = unet(tiny_unet)
    policy = Segmenter(network, SPACE)
    policy.forward(images)
    with pytest.raises(SegprefError, match="16 x 16 voxels and 7 channels"):
        policy.forward(torch.zeros(1, 7, 16, 16))
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
