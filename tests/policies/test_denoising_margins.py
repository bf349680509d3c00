"""Slates of samples, and how well winner and loser of a pair are denoised."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from tiny_ambiseg import SMOOTH, SPACE, SPICULATED, case, drawn, images, tiny

from segpref.objectives import DPO, disagreement
from segpref.policies.diffusion import (
    AmbiSeg,
    DenoisingMargins,
    Sampler,
    SampleSlates,
    draw,
    prompt_of,
    signed,
)
from segpref.types import Candidate, LabelSpace, Margins, Pairs, SegprefError, Slate

pytest.importorskip("diffusers")


def test_slates_of_one_run_and_of_two(reader: AmbiSeg) -> None:
    cases = [case("a", f"{SMOOTH}\n{SPICULATED}"), case("bb")]
    slates = SampleSlates(3, runs=2, sampler=Sampler(steps=2))(reader, cases, [11, 12])
    assert [len(slate) for slate in slates] == [6, 6]
    assert slates[0].masks.shape == (6, 1, 16, 16)
    assert [c.settings["run"] for c in slates[0].candidates] == [0, 0, 0, 1, 1, 1]
    seeds = {c.settings["seed"] for slate in slates for c in slate.candidates}
    assert len(seeds) == 12
    # The first run is the slate of one run, whatever else is asked for.
    (alone,) = SampleSlates(3, sampler=Sampler(steps=2))(reader, cases[:1], [11])
    assert (alone.masks != slates[0].masks[:3]).mean() < 0.01
    assert {prompt_of(cases[0], key) for key in range(20)} == {SMOOTH, SPICULATED}
    assert prompt_of(cases[1], 3) is None
    with pytest.raises(SegprefError, match="at least two"):
        SampleSlates(1)


def test_draws_belong_to_their_pair(reader: AmbiSeg) -> None:
    both, first = drawn(2, reader), drawn(1, reader)
    for name in ("time", "noise", "unit"):
        assert torch.equal(getattr(both, name)[:1], getattr(first, name))
    assert both.noise.std() == pytest.approx(1, abs=0.1)
    assert 0 <= both.time.min() <= both.time.max() < 100


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_winner_and_loser_share_noise_and_time(prediction: Any) -> None:
    model = AmbiSeg(tiny(prediction=prediction), SPACE)
    masks = torch.randint(0, 2, (2, 3, 1, 16, 16), dtype=torch.uint8)
    masks[1, 0] = masks[0, 0]
    shared = drawn(3, model)
    found = model.residuals(images(3), [None] * 3, masks, shared)
    assert found.shape == (2, 3, 1, 16, 16)
    # Equal masks are denoised equally well, and different ones differently.
    torch.testing.assert_close(found[0, 0], found[1, 0], atol=1e-5, rtol=0)
    assert (found[0, 1] - found[1, 1]).abs().max() > 1e-3
    # One mask by itself, step by step.
    clean = signed(masks[1, 2:])
    one = shared.noise[2:], shared.time[2:]
    context = model.encode(images(3)[2:], [None])
    prediction = model.denoise(context, model.process.noised(clean, *one), one[1], shared.unit[2:])
    expected = prediction - model.process.target(clean, *one)
    torch.testing.assert_close(found[1, 2:], expected, atol=1e-5, rtol=1e-5)
    found.pow(2).sum().backward()
    assert model.inner.prior.head.weight.grad is not None
    assert model.inner.posterior.head.weight.grad is None


def test_text_of_every_pair(reader: AmbiSeg) -> None:
    masks = torch.randint(0, 2, (2, 2, 1, 16, 16), dtype=torch.uint8)
    shared = drawn(2, reader)
    with torch.no_grad():
        one = reader.residuals(images(2), [SMOOTH, SPICULATED], masks, shared)
        other = reader.residuals(images(2), [SMOOTH, SMOOTH], masks, shared)
    torch.testing.assert_close(one[:, 0], other[:, 0], atol=1e-5, rtol=1e-4)
    assert (one[:, 1] - other[:, 1]).abs().amax(dim=(1, 2, 3)).min() > 1e-4


def preferred(prompt: str | None, fields: int = 1) -> tuple[Any, ...]:
    """Two images with two pairs and one, of candidates of which the first are the best."""
    rng = np.random.default_rng(0)
    slates = [
        Slate(
            rng.integers(0, 2, (3, fields, 16, 16)).astype(np.uint8),
            tuple(Candidate("sample", {"seed": k}) for k in range(3)),
        )
        for _ in range(2)
    ]
    pairs = Pairs(
        case=np.array([0, 0, 1]),
        field=np.array([0, fields - 1, 0]),
        winner=np.array([0, 0, 1]),
        loser=np.array([1, 2, 2]),
        gap=np.array([0.3, 0.2, 0.1]),
    )
    return images(2), [prompt] * 2, slates, pairs


def generators() -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(2)]


@pytest.mark.parametrize("reduction", ["image", "region"])
def test_margins_of_mined_pairs_by_hand(reduction: Any) -> None:
    policy, reference = (AmbiSeg(tiny(seed, out_channels=2), LabelSpace("multi-label", ("a", "b")))
                         for seed in (0, 1))  # fmt: skip
    pictures, prompts, slates, pairs = preferred(None, fields=2)
    found = DenoisingMargins(policy, reference, pictures, prompts, generators(), "mean")(
        slates, disagreement(slates, pairs, policy.label_space), reduction, likelihood=True
    )
    assert found.gap.tolist() == pytest.approx([0.3, 0.2, 0.1])
    # The two pairs of the first image take their draws from its generator, one after the other.
    rngs = generators()
    shared = draw([rngs[0], rngs[0], rngs[1]], (2, 16, 16), 100, 3)
    for pair in range(3):
        case, which = pairs.case[pair], pairs.field[pair]
        part = []
        for model in (policy, reference):
            errors = []
            for candidate in (pairs.winner[pair], pairs.loser[pair]):
                clean = signed(torch.from_numpy(slates[case].masks[candidate]))[None]
                noise, time = shared.noise[pair : pair + 1], shared.time[pair : pair + 1]
                noisy = model.process.noised(clean, noise, time)
                with torch.no_grad():
                    context = model.encode(pictures[case][None], [None])
                    says = model.denoise(context, noisy, time, shared.unit[pair : pair + 1])
                errors.append((says - model.process.target(clean, noise, time))[0, which] ** 2)
            a, b = (slates[case].masks[k, which] for k in (pairs.winner[pair], pairs.loser[pair]))
            where = np.ones_like(a, bool) if reduction == "image" else a != b
            part.append((errors[1] - errors[0])[torch.from_numpy(where)].mean().item())
            if model is policy:
                likely = -errors[0][torch.from_numpy(where)].mean().item()
        assert found.policy[pair].item() == pytest.approx(part[0], abs=1e-5)
        assert found.reference[pair].item() == pytest.approx(part[1], abs=1e-5)
        assert found.winner is not None
        assert found.winner[pair].item() == pytest.approx(likely, abs=1e-5)


@pytest.mark.parametrize("safeguard", [None, 0.9])
def test_a_few_steps_prefer_the_winners(reader: AmbiSeg, safeguard: float | None) -> None:
    policy = AmbiSeg(deepcopy(reader.inner), SPACE, reader.encoder)
    pictures, prompts, slates, pairs = preferred(SMOOTH)
    region = disagreement(slates, pairs, SPACE)

    def margins() -> Margins:
        source = DenoisingMargins(
            policy, reader, pictures, prompts, generators(), safeguard=safeguard
        )
        return source(slates, region, "region")

    assert (margins().difference == 0).all()
    optimizer = torch.optim.Adam(policy.inner.parameters(), 1e-3)
    for _ in range(8):
        loss = DPO(5.0)(margins())
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    assert (margins().difference > 0).all()


def test_without_a_pair_there_is_a_zero_that_reaches_the_weights() -> None:
    policy, reference = (AmbiSeg(tiny(seed), SPACE) for seed in (0, 1))
    source = DenoisingMargins(policy, reference, images(2), [None] * 2, generators())
    zero = source.zero()
    zero.backward()
    assert zero.item() == 0
    assert all(p.grad is None or (p.grad == 0).all() for p in policy.inner.parameters())
    assert any(p.grad is not None for p in policy.inner.parameters())
    with pytest.raises(SegprefError, match="no logits"):
        _ = source.logits
