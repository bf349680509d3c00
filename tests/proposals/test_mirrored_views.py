"""Mirrored views: by hand, against a plain loop, and of a real network in a slate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from torch import Tensor

from segpref.policies import Segmenter
from segpref.proposals import MirroredViews, NetworkProposal, ProposalContext, SlateProposals
from segpref.types import Case, LabelSpace, SegprefError

CARDIAC = LabelSpace("multi-class", ("background", "RV", "MYO"))
CHEST = LabelSpace("multi-label", ("lung", "heart"))


class LeftSeer(torch.nn.Module):
    """Sees a bright pixel in the left half of the image only."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, images: Tensor) -> Tensor:
        seen = images.clone()
        seen[..., images.shape[-1] // 2 :] = 0
        return torch.cat([self.threshold - seen, seen], 1)


def network(label_space: LabelSpace, dims: int) -> Segmenter:
    torch.manual_seed(3)
    net = UNet(
        spatial_dims=dims,
        in_channels=1,
        out_channels=label_space.channels,
        channels=(4, 8),
        strides=(2,),
    )
    return Segmenter(net.eval(), label_space)


def test_what_a_network_sees_on_one_side_only_it_sees_mirrored() -> None:
    space = LabelSpace("multi-class", ("background", "lesion"))
    policy = Segmenter(LeftSeer(), space)
    image = np.array([[1, 0, 0, 1], [0, 0, 0, 0]], np.float32)
    images = torch.from_numpy(image)[None, None]
    state = policy.forward(images)
    found = MirroredViews().predict(policy, state, images, seeds=[0] * len(images))
    assert found is not None
    along_rows, along_columns, both = found["mirrored"][0, :, 0].tolist()
    assert along_rows == [[1, 0, 0, 0], [0, 0, 0, 0]]
    assert along_columns == both == [[0, 0, 0, 1], [0, 0, 0, 0]]
    # Two of four views see each bright pixel with logits (-1/2, 1), two do not with (1/2, 0).
    assert found["mirrored-mean"][0, 0].tolist() == [[1, 0, 0, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize(("label_space", "dims"), [(CARDIAC, 2), (CHEST, 2), (CARDIAC, 3)])
def test_equal_to_numpy_of_a_real_network(label_space: LabelSpace, dims: int) -> None:
    policy = network(label_space, dims)
    images = torch.randn(2, 1, *(8, 12, 16)[:dims], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = MirroredViews().predict(
            policy, policy.forward(images), images, seeds=[0] * len(images)
        )
        assert found is not None
        total = policy.logits(images).double()
        total = total.softmax(1) if label_space.kind == "multi-class" else total.sigmoid()
        for number in range(1, 2**dims):
            # Axis a is mirrored where bit a is set: in another order than that of the family.
            axes = [a for a in range(dims) if number >> a & 1]
            turned = np.flip(images.numpy(), [a + 2 for a in axes]).copy()
            z = np.flip(policy.logits(torch.from_numpy(turned)).numpy(), [a + 2 for a in axes])
            mine = label_space.decode(torch.from_numpy(z.copy()))
            place = MirroredViews().views(dims).index(tuple(axes))
            assert torch.equal(found["mirrored"][:, place], mine)
            p = torch.from_numpy(z.copy()).double()
            total += p.softmax(1) if label_space.kind == "multi-class" else p.sigmoid()
    if label_space.kind == "multi-class":
        mean = total.argmax(1, keepdim=True)
    else:
        mean = (total > 2 ** (dims - 1)).long()
    assert (found["mirrored-mean"].long() != mean).double().mean() < 1e-3


def test_in_a_slate_mean_first_and_no_view_twice() -> None:
    policy = network(CARDIAC, 2)
    images = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    case = Case(id="a", patient="a", volume="a", image=images[0].numpy())
    slate = SlateProposals(5, [MirroredViews()])(
        policy, policy.forward(images), images, [case], seed=0
    )[0]
    assert [dict(c.settings) for c in slate.candidates] == [
        {},
        {"views": 4},
        {"along": "0"},
        {"along": "1"},
        {"along": "0+1"},
    ]
    assert {c.family for c in slate.candidates[1:]} == {"mirrored"}


def test_a_network_that_does_not_care_has_nothing_new() -> None:
    policy = Segmenter(torch.nn.Conv2d(1, 3, 1), CARDIAC)
    images = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    state = policy.forward(images)
    found = MirroredViews().predict(policy, state, images, seeds=[0] * len(images))
    assert found is not None
    anchor = CARDIAC.decode(state.logits)
    assert all(torch.equal(view, anchor) for view in found["mirrored"].unbind(1))
    assert torch.equal(found["mirrored-mean"], anchor)


def test_only_the_axes_that_are_asked_for() -> None:
    assert MirroredViews([2, 0]).views(3) == [(0,), (2,), (0, 2)]
    assert MirroredViews().views(1) == [(0,)]
    assert isinstance(MirroredViews(), NetworkProposal)


@pytest.mark.parametrize("axes", [[], [0, 0], [-1]])
def test_axes_without_sense_are_refused(axes: list[int]) -> None:
    with pytest.raises(SegprefError, match="distinct axes"):
        MirroredViews(axes)


def test_an_axis_that_the_images_lack_is_refused() -> None:
    with pytest.raises(SegprefError, match="axis 2, but the images have the axes 0 to 1"):
        MirroredViews([2]).views(2)


def test_without_a_pass_there_is_nothing() -> None:
    anchor = np.zeros((1, 2, 2), np.uint8)
    assert (
        list(MirroredViews()(ProposalContext(np.zeros((3, 2, 2), np.float32), anchor, CARDIAC)))
        == []
    )
