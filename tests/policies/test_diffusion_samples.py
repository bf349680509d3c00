"""Samples of a diffusion model: solvers, seeds, and what is told of many samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_ambiseg import SPACE, case, images, tiny
from torch import Tensor

from segpref.inference import rated_masks, sample_cases, score_samples, summarise
from segpref.policies.diffusion import AmbiSeg, Process, Sampler, signed
from segpref.types import IGNORE, SegprefError

pytest.importorskip("diffusers")


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpm-solver++", "unipc"])
def test_seeds_reproduce_samples_in_any_batch(solver: Any) -> None:
    model = AmbiSeg(tiny(), SPACE)
    texts, seeds = [[None] * 3] * 2, [[1, 2, 3], [3, 5, 6]]
    sampler = Sampler(solver, steps=4)
    found = sampler.soft(model, images(2), texts, seeds)
    assert found.shape == (2, 3, 1, 16, 16)
    close = {"atol": 1e-3 * float(found.abs().max()), "rtol": 0.0}
    small = Sampler(solver, steps=4, batch_size=2).soft(model, images(2), texts, seeds)
    torch.testing.assert_close(small, found, **close)
    alone = sampler.soft(model, images(2)[1:], [[None]], [[5]])
    torch.testing.assert_close(alone[0, 0], found[1, 1], **close)
    # The same seed on another image, and another seed on the same image, are other samples.
    assert (found[0, 2] - found[1, 0]).abs().max() > 1e-2
    assert (found[0, 0] - found[0, 1]).abs().max() > 1e-2
    before = torch.random.get_rng_state()
    masks = sampler(model, images(2), texts, seeds)
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(masks, (found > 0).numpy())
    assert masks.dtype == np.uint8


def test_ddim_with_all_of_the_noise_is_random_and_seeded() -> None:
    model = AmbiSeg(tiny(), SPACE)
    ask = (model, images(1), [[None]], [[7]])
    first = Sampler("ddim", 5, eta=1.0).soft(*ask)
    assert torch.equal(first, Sampler("ddim", 5, eta=1.0).soft(*ask))
    assert not torch.equal(first, Sampler("ddim", 5).soft(*ask))


@pytest.mark.parametrize("timesteps", [100, 97])
def test_steps_of_ddim_end_where_the_next_begin(timesteps: int) -> None:
    process = Process(timesteps)
    for steps in range(1, timesteps + 1):
        if timesteps % steps:
            with pytest.raises(SegprefError, match="divides the"):
                process.scheduler("ddim", steps)
            # The others take the ends of their steps from the very list of steps.
            process.scheduler("dpm-solver++", steps)
            continue
        times = process.scheduler("ddim", steps).timesteps
        ends = times - timesteps // steps
        assert ends.tolist() == [*times[1:].tolist(), -1]


class Oracle:
    """Denoises perfectly: knows the mask of every image."""

    label_space, latent, device = SPACE, 0, torch.device("cpu")

    def __init__(self, process: Process, mask: Tensor) -> None:
        self.process, self.mask, self.calls = process, mask, 0

    def encode(self, images: Tensor, texts: Any) -> Any:
        self.encoded = len(images)
        return self

    def rows(self, places: Tensor) -> Any:
        return self

    def denoise(self, context: Any, noisy: Tensor, time: Tensor, unit: Tensor) -> Tensor:
        self.calls += 1
        power = torch.from_numpy(self.process.signal_power)[time].float().reshape(-1, 1, 1, 1)
        noise = (noisy - power.sqrt() * self.mask) / (1 - power).sqrt()
        return self.process.target(self.mask.expand_as(noisy), noise, time)


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpm-solver++", "unipc"])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_every_solver_finds_the_mask_of_a_perfect_denoiser(
    solver: Any, prediction: Any, scale: float
) -> None:
    mask = signed(torch.randint(0, 2, (1, 1, 16, 16), generator=torch.Generator().manual_seed(0)))
    model = Oracle(Process(prediction=prediction, scale=scale), mask)
    found = Sampler(solver, steps=20).soft(model, images(2), [["a", "a", "b"]] * 2, [[1, 2, 3]] * 2)
    torch.testing.assert_close(found, mask.expand(2, 3, 1, 16, 16), atol=0.05, rtol=0)
    assert model.calls == 20
    # Two images with two texts each, though there are six samples.
    assert model.encoded == 4


def test_wrong_samplers() -> None:
    model = AmbiSeg(tiny(), SPACE)
    for sampler, said in [
        (lambda: Sampler(eta=0.5), "eta"),
        (lambda: Sampler(batch_size=0), "batch_size"),
        (lambda: Sampler(steps=0)(model, images(1), [[None]], [[1]]), "steps must be at least 1"),
        (lambda: Sampler("ddim", 33)(model, images(1), [[None]], [[1]]), "33: take 25 or 50"),
        (lambda: Sampler("euler")(model, images(1), [[None]], [[1]]), "not 'euler'"),  # type: ignore[arg-type]
        (lambda: Sampler()(model, images(1), [[None]], [[1, 2]]), "one text and one seed"),
        (lambda: Sampler()(model, images(2), [[None]], [[1]]), "2 images"),
    ]:
        with pytest.raises(SegprefError, match=said):
            sampler()


def test_samples_of_cases_do_not_depend_on_the_others() -> None:
    model, sampler = AmbiSeg(tiny(), SPACE), Sampler(steps=2)
    cases = [case("a"), case("bb"), case("ccc")]
    found = sample_cases(model, cases, 3, sampler, seed=4, together=2)
    again = sample_cases(model, cases[::-1], 5, sampler, seed=4)
    for mine, theirs in zip(found, again[::-1], strict=True):
        assert (mine != theirs[:3]).mean() < 0.01
    other = sample_cases(model, cases, 3, sampler, seed=5)
    assert (found[0] != other[0]).mean() > 0.01


def test_summary_by_hand() -> None:
    masks = np.array([[[1, 1, 0, 1]], [[1, 0, 0, 1]], [[1, 1, 0, 0]], [[1, 0, 0, 0]]], np.uint8)
    found = summarise(masks)
    assert found.mean.tolist() == [[1, 0.5, 0, 0.5]]
    assert found.majority.tolist() == [[1, 0, 0, 0]]
    assert found.uncertainty.tolist() == [[0, 1, 0, 1]]


def test_scores_against_raters_or_the_label() -> None:
    mask = np.zeros((2, 1, 16, 16), np.uint8)
    mask[0, :, :4] = 1
    rated = case("a", raters=mask)
    assert score_samples([mask], [rated]).ged[0] == 0
    single = case("b", label=mask[0])
    assert rated_masks(single).shape == (1, 1, 16, 16)
    for wrong in (case("c"), case("d", raters=np.full_like(mask, IGNORE))):
        with pytest.raises(SegprefError, match=wrong.id):
            score_samples([mask], [wrong])
