"""What is drawn for an image depends on the image, not on what else is in its batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from segpref.data import Dataset
from segpref.networks import SeededDropout, dropout_places, keyed_dropout
from segpref.policies import Segmenter, load_model
from segpref.proposals import InputNoise, MonteCarloDropout, SlateProposals, paper_families
from segpref.seeds import derive_seed, generators, image_seeds
from segpref.training import StrongAugmentation, augmentation, augmented_batch
from segpref.types import LabelSpace


def test_seeds_are_functions_of_all_their_keys() -> None:
    assert derive_seed(1, 2) == derive_seed(1, 2)
    assert len({derive_seed(*keys) for keys in ((1, 2), (2, 1), (1,), (1, 2, 0), (1, "2"))}) == 5
    assert image_seeds(["a", "b"], 7) == [derive_seed(7, "a"), derive_seed(7, "b")]


def images_of(dataset: Dataset) -> Tensor:
    return torch.from_numpy(np.stack([case.image for case in dataset]))


def test_slates_and_passes_with_dropout_do_not_depend_on_the_batch(
    heart_base: Path, hearts: Dataset
) -> None:
    policy, _ = load_model(heart_base)
    few = hearts.take([20, 30, 40])
    families = [*paper_families(policy.label_space), InputNoise()]

    def slates(dataset: Dataset) -> list[np.ndarray]:
        images = images_of(dataset)
        with torch.no_grad():
            state = policy.forward(images)
            made = SlateProposals(24, families)(policy, state, images, dataset[:], 5)
        assert "dropout" in {one.family for slate in made for one in slate.candidates}
        return [slate.masks for slate in made]

    together = slates(few)
    for place, masks in enumerate(together):
        (alone,) = slates(few.take([place]))
        np.testing.assert_array_equal(alone, masks)
    with torch.no_grad():
        state = policy.forward(images_of(few))
        found = policy.dropout_logits(state, 2, None, [1, 1, 2])
    assert found is not None
    assert not torch.equal(found[0], found[1])


def test_augmentations_do_not_depend_on_the_batch(hearts: Dataset) -> None:
    few = hearts[:4]
    transforms = augmentation("photometric", 2)
    together = augmented_batch(few, transforms, 3)
    alone = [augmented_batch([case], transforms, 3) for case in reversed(few)]
    for number, tensors in enumerate(zip(*reversed(alone), strict=True)):
        assert torch.equal(torch.cat(tensors), together[number])
    strong, images = StrongAugmentation(probability=1.0), images_of(hearts.take(range(4)))
    views = strong(images, generators([5, 6, 7, 8]))
    assert torch.equal(strong(images[2:3], generators([7])), views[2:3])
    assert not torch.equal(strong(images[2:3], generators([8])), views[2:3])


@pytest.mark.parametrize(
    "layer",
    [nn.Dropout(0.4), nn.Dropout2d(0.4), nn.AlphaDropout(0.4), nn.Dropout(0.4, inplace=True)],
)
def test_dropout_of_a_training_is_keyed_and_as_the_layer_has_it(layer: nn.Module) -> None:
    network = nn.Sequential(nn.Identity(), layer, nn.Identity()).train()
    images = torch.randn(64, 16, 24, 24, generator=torch.Generator().manual_seed(0))
    chance = SeededDropout(range(64))
    with keyed_dropout(dropout_places(network), chance):
        torch.manual_seed(1)
        together = network(images.clone())
        torch.manual_seed(2)
        chance.seeds = [9]
        assert torch.equal(network(images[9:10].clone()), together[9:10])
        assert torch.equal(network.eval()(images), images)
    assert layer.p == 0.4
    reference = network.train()(images.clone())
    for moment in (1, 2, 4):
        ours, theirs = (values.pow(moment).mean() for values in (together, reference))
        assert abs(ours - theirs) < 0.05 * max(1.0, float(theirs))
    lost, expected = ((v == 0).flatten(2).all(2).any() for v in (together, reference))
    assert lost == expected == isinstance(layer, nn.Dropout2d)


def test_a_pass_that_is_made_again_for_its_gradient_has_the_same_masks() -> None:
    network = nn.Sequential(nn.Linear(30, 30), nn.Dropout(0.5)).train()
    images = torch.ones(4, 30)
    with keyed_dropout(dropout_places(network), SeededDropout(range(4))):
        gradients = []
        for run in (network, lambda x: checkpoint(network, x, use_reentrant=False)):
            network.zero_grad()
            run(images).square().sum().backward()
            gradients.append(network[0].weight.grad.clone())
    assert torch.equal(*gradients)


def test_a_network_without_dropout_has_no_sample() -> None:
    network = nn.Conv2d(1, 2, 1)
    policy = Segmenter(network, LabelSpace("multi-class", ("background", "a")))
    images = torch.zeros(1, 1, 8, 8)
    assert MonteCarloDropout().predict(policy, policy.forward(images), images, [0]) is None
