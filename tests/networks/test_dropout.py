"""Dropout put into networks of all kinds from outside."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks import nets
from torch import Tensor, nn
from torch.nn import functional

from segpref.metrics import pairwise_dice
from segpref.networks import InjectedDropout, SeededDropout, keyed_dropout
from segpref.types import LabelSpace, SegprefError


class Residual(nn.Module):
    """A residual unit in the common way: one activation for two places, a shortcut with its norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inside = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(inside + self.shortcut(x))


class Functional(nn.Module):
    """A network of somebody who writes activations as functions, and shares a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.middle = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x))
        return self.head(functional.relu(self.middle(functional.relu(self.middle(x)))))


class Tokens(nn.Module):
    """A small transformer on patches, batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 12, 4, stride=4)
        layer = nn.TransformerEncoderLayer(12, 2, 24, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.embed(x)
        tokens = self.encoder(features.flatten(2).transpose(1, 2))
        logits = self.head(tokens.transpose(1, 2).reshape(features.shape))
        return functional.interpolate(logits, scale_factor=4)


def flat() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 3, 1),
    )  # fmt: skip


def residual() -> nn.Module:
    return nn.Sequential(Residual(1, 8), Residual(8, 8), nn.Conv2d(8, 3, 1))


def u_net(dims: int, **options: float | None) -> nn.Module:
    return nets.UNet(
        spatial_dims=dims, in_channels=1, out_channels=3, channels=(8, 16, 16), strides=(2, 2),
        num_res_units=1, **options,
    )  # fmt: skip


def dyn_unet(dims: int) -> nn.Module:
    return nets.DynUNet(
        dims, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 8, 8], deep_supervision=True,
        deep_supr_num=1, res_block=dims == 3,
    )  # fmt: skip


NEEDS_EINOPS = pytest.mark.skipif(
    find_spec("einops") is None, reason="MONAI's transformers need einops"
)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "U-Net 2D": (lambda: u_net(2), (32, 32)),
    "U-Net 3D without dropout": (lambda: u_net(3, dropout=None), (16, 16, 16)),
    "Attention U-Net 2D": (lambda: nets.AttentionUnet(2, 1, 3, (8, 16, 16), (2, 2)), (32, 32)),
    "U-Net++ 2D": (lambda: nets.BasicUNetPlusPlus(2, 1, 3, features=(8,) * 6), (32, 32)),
    "V-Net 2D": (lambda: nets.VNet(2, 1, 3), (16, 16)),
    "V-Net 3D": (lambda: nets.VNet(3, 1, 3), (16, 16, 16)),
    "DynUNet 2D": (lambda: dyn_unet(2), (32, 32)),
    "DynUNet 3D": (lambda: dyn_unet(3), (16, 16, 16)),
    "SegResNet 3D": (lambda: nets.SegResNet(3, 8, 1, 3, None, blocks_down=(1, 1), blocks_up=(1,)),
                     (16, 16, 16)),
    "UNETR 3D": (lambda: nets.UNETR(1, 3, (16, 16, 16), 4, 24, 24, 2), (16, 16, 16)),
    "Swin UNETR 2D": (lambda: nets.SwinUNETR(1, 3, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2),
                                            feature_size=12, spatial_dims=2, window_size=4),
                      (64, 64)),
    "residual units": (residual, (16, 16)),
    "one chain": (flat, (16, 16)),
    "functions": (Functional, (16, 16)),
    "torch's transformer": (Tokens, (16, 16)),
}  # fmt: skip
LARGE = [pytest.mark.slow, NEEDS_EINOPS]
# 45 million weights.
MARKS = {"V-Net 3D": pytest.mark.slow, "UNETR 3D": LARGE, "Swin UNETR 2D": LARGE}
EACH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS.get(name, ())) for name in NETWORKS]
)
CLASSES = LabelSpace("multi-class", ("background", "a", "b"))


def made(name: str, batch: int = 2) -> tuple[nn.Module, Tensor]:
    build, size = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval(), torch.randn(batch, 1, *size)


def logits(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        output = network(images)
    return output[0] if isinstance(output, list) else output


@EACH
def test_any_network_takes_dropout_and_gives_it_back(name: str) -> None:
    network, images = made(name)
    keys = list(network.state_dict())
    plain = logits(network, images)
    before = torch.random.get_rng_state()
    dropout = InjectedDropout(network, images[:1])
    assert dropout.blocks or dropout.own_layers
    with dropout.active(0.0, [1, 2]):
        assert torch.equal(logits(network, images), plain)
    # Untrained networks may favour one class throughout; centred, all classes are there.
    centre = plain.mean(dim=(0, *range(2, plain.ndim)), keepdim=True)
    similar = {}
    for rate in (0.02, 0.1, 0.4):
        masks = []
        for sample in range(5):
            with dropout.active(rate, [sample, 100 + sample]):
                assert list(network.state_dict()) == keys
                masks.append(CLASSES.decode(logits(network, images) - centre).numpy())
        slates = np.stack(masks, axis=1)
        similar[rate] = np.mean([pairwise_dice(slate, CLASSES) for slate in slates])
    assert all(below < above for above, below in pairwise([1.0, *similar.values()])), similar
    assert torch.equal(logits(network, images), plain)
    assert not any(module._forward_hooks for module in network.modules())
    assert not network.training
    assert torch.equal(torch.random.get_rng_state(), before)


@EACH
@pytest.mark.parametrize("kind", ["element", "channel"])
def test_masks_belong_to_the_seed_of_the_image(name: str, kind: str) -> None:
    network, images = made(name, batch=3)
    dropout = InjectedDropout(network, images[:1])

    def under(order: list[int], seeds: list[int]) -> Tensor:
        with dropout.active(0.2, seeds, kind):  # type: ignore[arg-type]
            return logits(network, images[order])

    together = under([0, 1, 2], [7, 8, 9])
    assert torch.equal(under([0, 1, 2], [7, 8, 9]), together)
    torch.testing.assert_close(under([2, 0], [9, 7]), together[[2, 0]], rtol=1e-4, atol=1e-4)
    other = under([0, 1, 2], [7, 8, 10])
    torch.testing.assert_close(other[:2], together[:2], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(other[2], together[2], rtol=1e-2, atol=1e-2)


def found(network: nn.Module, images: Tensor, **options: str) -> InjectedDropout:
    return InjectedDropout(network, images, **options)  # type: ignore[arg-type]


def test_blocks_of_known_networks() -> None:
    network, images = made("U-Net 2D")
    driven = found(network, images)
    assert driven.blocks == ()
    assert driven.own_layers == (
        "model.0.conv.unit0.adn.D",
        "model.1.submodule.0.conv.unit0.adn.D",
        "model.1.submodule.1.submodule.conv.unit0.adn.D",
        "model.1.submodule.2.0.adn.D",
        "model.1.submodule.2.1.conv.unit0.adn.D",
        "model.2.0.adn.D",
    )
    left = found(network, images, own="leave")
    assert left.own_layers == ()
    # The same places, behind the activation; the last unit is the head.
    assert left.blocks == tuple(name.removesuffix(".adn.D") for name in driven.own_layers)
    assert found(*made("DynUNet 2D")).blocks == (
        "input_block", "downsamples.0", "bottleneck", "upsamples.0.conv_block",
        "upsamples.1.conv_block",
    )  # fmt: skip
    vnet = found(*made("V-Net 2D"))
    assert len(vnet.own_layers) == 8
    assert {"in_tr.conv_block", "down_tr32", "down_tr32.ops.0.conv_block"} < {*vnet.blocks}
    assert not {"down_tr128", "out_tr", "out_tr.conv2"} & {*vnet.blocks}


def test_blocks_of_networks_of_users() -> None:
    assert found(*made("residual units")).blocks == ("0.shortcut", "0", "1.shortcut", "1")
    assert found(*made("one chain")).blocks == ("1", "3")
    assert found(*made("functions")).blocks == ("first", "middle")
    transformer = found(*made("torch's transformer"))
    assert transformer.blocks == ()
    assert len(transformer.own_layers) == 6
    left = found(*made("torch's transformer"), own="leave")
    assert left.blocks == ("encoder.layers.0", "encoder.layers.1")


def test_a_gate_of_one_channel_is_no_block() -> None:
    left = found(*made("Attention U-Net 2D"), own="leave")
    assert "model.1.attention.W_g" in left.blocks
    assert "model.1.attention.psi" not in left.blocks


class One(nn.Module):
    """Features that are all 1, and a head that shows them."""

    def __init__(self, drop: nn.Module | None = None, tokens: bool = False) -> None:
        super().__init__()
        mix = nn.Linear(1, 4) if tokens else nn.Conv2d(1, 4, 1)
        self.body = nn.Sequential(mix, nn.ReLU(), *([drop] if drop else []))
        self.head = nn.Linear(4, 4, bias=False) if tokens else nn.Conv2d(4, 4, 1, bias=False)
        with torch.no_grad():
            mix.weight.zero_()
            mix.bias.fill_(1)
            self.head.weight.copy_(torch.eye(4).reshape(self.head.weight.shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


@settings(max_examples=20)
@given(st.floats(0.05, 0.9), st.integers(0, 2**62))
def test_features_are_kept_and_stretched_at_the_rate(rate: float, seed: int) -> None:
    network, images = One().eval(), torch.zeros(2, 1, 40, 40)
    with InjectedDropout(network, images).active(rate, [seed, seed]):
        features = logits(network, images)
    assert torch.equal(features[0], features[1])
    kept = features != 0
    torch.testing.assert_close(features[kept], torch.full((int(kept.sum()),), 1 / (1 - rate)))
    share, deviation = float(kept[0].float().mean()), (rate * (1 - rate) / kept[0].numel()) ** 0.5
    assert abs(share - (1 - rate)) < 6 * deviation


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("tokens", [False, True])
def test_channels_fall_at_all_places_at_once(tokens: bool, own: bool) -> None:
    network = One(nn.Dropout(0.1) if own else None, tokens).eval()
    images = torch.zeros((40, 30, 1) if tokens else (40, 1, 6, 5))
    dropout = InjectedDropout(network, images)
    assert (dropout.own_layers == ("body.2",)) == own
    with dropout.active(0.5, range(40), "channel"):
        evaluated = logits(network, images)
    with keyed_dropout(dropout.places(0.5, "channel"), SeededDropout(range(40))):
        trained = logits(network.train(), images)
    network.eval()
    for features in (evaluated, trained):
        channels = features.movedim(-1, 1).flatten(2) if tokens else features.flatten(2)
        assert ((channels == 0).all(2) | (channels == 2).all(2)).all()
        assert 0.25 < float((channels[..., 0] == 0).float().mean()) < 0.75
    with dropout.active(0.5, range(40)):
        assert not (logits(network, images).flatten(2) == 0).all(2).all()


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("spatial", [False, True])
def test_a_layer_of_the_networks_own_is_driven_alone(
    p: float, inplace: bool, spatial: bool
) -> None:
    network = One((nn.Dropout2d if spatial else nn.Dropout)(p, inplace)).eval()
    images = torch.zeros(1, 1, 30, 30)
    dropout = InjectedDropout(network, images)
    assert (dropout.blocks, dropout.own_layers) == ((), ("body.2",))
    with dropout.active(0.75, [3]):
        features = logits(network, images)
    # Once and not twice: stretched by 4 and not by 16.
    assert set(features.unique().tolist()) <= {0.0, 4.0}
    assert ((features == 4).flatten(2).float().mean(2) % 1 == 0).all() == spatial
    assert network.body[2].p == p
    left = InjectedDropout(network, images, own="leave")
    assert (left.blocks, left.own_layers) == (("body",), ())


def test_the_head_is_left_alone() -> None:
    # Norm and activation after the last convolution, and a copy of the logits as auxiliary output.
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 2, 1), nn.Softplus(), nn.Dropout(0.5)),
    )
    dropout = InjectedDropout(network.eval(), torch.zeros(1, 1, 4, 4))
    assert (dropout.blocks, dropout.own_layers) == (("0",), ())


def test_an_auxiliary_head_that_runs_last_does_not_make_the_logits_a_block() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU())
            self.main = nn.Sequential(nn.Conv2d(4, 2, 1), nn.Softplus())
            self.aux = nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> list[Tensor]:
            features = self.body(x)
            main = self.main(features)
            return [main.view_as(main), self.aux(features)]

    assert found(Twice().eval(), torch.zeros(1, 1, 4, 4)).blocks == ("body",)


def test_blocks_can_be_named() -> None:
    network, images = made("DynUNet 2D")
    named = InjectedDropout(network, images, blocks=["bottleneck", "upsamples.0"])
    assert named.blocks == ("bottleneck", "upsamples.0")
    with named.active(0.3, [0, 1]):
        assert not torch.equal(logits(network, images), logits(network, images))
    with pytest.raises(SegprefError, match="no part 'middle'"):
        InjectedDropout(network, images, blocks=["middle"])
    with pytest.raises(SegprefError, match="'output_block' gives no feature map"):
        InjectedDropout(network, images, blocks=["output_block"])


def test_training_has_dropout_in_training_mode_only() -> None:
    network, images = One().train(), torch.zeros(1, 1, 30, 30)
    dropout = InjectedDropout(network, images)
    assert network.training
    for kind in ("element", "channel"):
        seeded = SeededDropout([0])
        places = dropout.places(0.5, kind)  # type: ignore[arg-type]
        with keyed_dropout(places, seeded):
            values = set()
            for number in range(8):
                seeded.seeds = [number]
                values |= set(logits(network, images).unique().tolist())
            assert values == {0.0, 2.0}
            assert (logits(network.eval(), images) == 1).all()
            with dropout.active(0.75, [0]):
                assert set(logits(network, images).unique().tolist()) == {0.0, 4.0}
        assert (logits(network.train(), images) == 1).all()
    own = One(nn.Dropout(0.1)).train()
    with keyed_dropout(InjectedDropout(own, images).places(0.75), SeededDropout([0])):
        assert set(logits(own, images).unique().tolist()) == {0.0, 4.0}
    assert own.body[2].p == 0.1


def test_gradients_go_through_the_features_that_were_kept() -> None:
    network, images = One().eval(), torch.zeros(1, 1, 8, 8)
    with InjectedDropout(network, images).active(0.5, [0]):
        out = network(images)
    out.sum().backward()
    kept = (out != 0).sum(dim=(0, 2, 3))
    torch.testing.assert_close(network.body[0].bias.grad, 2.0 * kept)


def test_hooks_go_also_when_a_pass_fails() -> None:
    network, images = made("one chain")
    dropout = InjectedDropout(network, images)
    with pytest.raises(RuntimeError), dropout.active(0.5, [0, 1]):
        network(torch.zeros(1, 5, 4, 4))
    assert not any(module._forward_hooks for module in network.modules())


def test_mistakes_are_told() -> None:
    network, images = made("one chain", batch=3)
    dropout = InjectedDropout(network, images)
    for rate in (-0.1, 1.0, float("nan")):
        with (
            pytest.raises(SegprefError, match="rate is from 0 to below 1"),
            dropout.active(rate, [0]),
        ):
            pass
    with pytest.raises(SegprefError, match="one seed per image"), dropout.active(0.1, [0, 1]):
        network(images)
    network.train()
    with pytest.raises(SegprefError, match=r"call network\.eval"), dropout.active(0.1, [0, 1, 2]):
        pass
