"""The knob between a diffusion model before and after its alignment."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_ambiseg import SPACE, images, tiny

from segpref.policies.diffusion import AmbiSeg, Sampler, between, interpolated
from segpref.types import SegprefError

pytest.importorskip("diffusers")


@pytest.mark.parametrize("w", [-0.5, 0.3, 2.0])
def test_weights_between_two_models(w: float) -> None:
    before, after = tiny(1), tiny(2)
    found = interpolated(before, after, w).state_dict()
    for name, value in before.state_dict().items():
        expected = value + w * (after.state_dict()[name] - value)
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("of", ["weights", "predictions"])
def test_the_ends_of_the_knob_are_the_models(of: Any) -> None:
    before, after = AmbiSeg(tiny(1), SPACE), AmbiSeg(tiny(2), SPACE)
    ask = (images(2), [[None, None]] * 2, [[1, 2], [3, 4]])
    sampler = Sampler(steps=3)
    for w, model in ((0.0, before), (1.0, after)):
        blend = sampler.soft(between(before, after, w, of), *ask)
        torch.testing.assert_close(blend, sampler.soft(model, *ask), atol=1e-4, rtol=1e-4)
    beyond = sampler.soft(between(before, after, 1.5, of), *ask)
    assert (beyond - sampler.soft(after, *ask)).abs().max() > 1e-2
    # The models themselves stay as they are.
    assert before.digest() == AmbiSeg(tiny(1), SPACE).digest() != after.digest()


def test_predictions_are_mixed_linearly() -> None:
    before, after = AmbiSeg(tiny(1), SPACE), AmbiSeg(tiny(2), SPACE)
    blend = between(before, after, 1.7, "predictions")
    noisy, time, unit = torch.randn(2, 1, 16, 16), torch.tensor([5, 70]), torch.randn(2, 3)
    with torch.no_grad():
        mixed = blend.denoise(blend.encode(images(2), [None] * 2), noisy, time, unit)
        one, other = (
            m.denoise(m.encode(images(2), [None] * 2), noisy, time, unit) for m in (before, after)
        )
    torch.testing.assert_close(mixed, one + 1.7 * (other - one))


def test_models_that_cannot_be_mixed() -> None:
    model = AmbiSeg(tiny(), SPACE)
    for other in (tiny(latent=2), tiny(prediction="v")):
        for of in ("weights", "predictions"):
            with pytest.raises(SegprefError, match="process or latent"):
                between(model, AmbiSeg(other, SPACE), 0.5, of)  # type: ignore[arg-type]
    with pytest.raises(SegprefError, match="different networks"):
        between(model, AmbiSeg(tiny(cross=8), SPACE), 0.5)
    with pytest.raises(SegprefError, match="not 'votes'"):
        between(model, model, 0.5, "votes")  # type: ignore[arg-type]
