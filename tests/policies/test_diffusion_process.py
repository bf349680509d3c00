"""The diffusion process: what the network is to predict, the schedule, and the scaling of masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from segpref.policies.diffusion import Process, signed
from segpref.types import SegprefError

pytest.importorskip("diffusers")


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_targets_lead_back_to_the_mask(prediction: Any) -> None:
    process = Process(prediction=prediction, scale=0.7)
    masks, noise = signed(torch.randint(0, 2, (4, 1, 5, 5))), torch.randn(4, 1, 5, 5)
    time = torch.tensor([0, 10, 500, 999])
    noisy, target = process.noised(masks, noise, time), process.target(masks, noise, time)
    power = torch.from_numpy(process.signal_power)[time].float().reshape(-1, 1, 1, 1)
    alpha, sigma = power.sqrt(), (1 - power).sqrt()
    back = {
        "epsilon": (noisy - sigma * target) / alpha,
        "x0": target,
        "v": alpha * noisy - sigma * target,
    }[prediction]
    # At the last step alpha is so small that dividing by it costs digits.
    torch.testing.assert_close(back, masks, atol=1e-3, rtol=0)


def test_the_schedule_is_that_of_the_paper() -> None:
    power = Process().signal_power
    assert power[0] == pytest.approx(1 - 1e-4)
    betas = np.linspace(1e-4, 0.02, 1000)
    assert power[-1] == pytest.approx(np.exp(np.log1p(-betas).sum()))
    # By hand for two steps: .9 and .9 * .8.
    np.testing.assert_allclose(Process(2, 0.1, 0.2).signal_power, [0.9, 0.72])


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.1])
def test_input_scaling_scales_the_signal_and_keeps_the_variance(scale: float) -> None:
    plain, harder = Process().signal_power, Process(scale=scale).signal_power
    # (scale alpha / sigma)^2 is the ratio of signal to noise of scaled masks.
    np.testing.assert_allclose(harder / (1 - harder), scale**2 * plain / (1 - plain))
    scheduler = Process(scale=scale).scheduler("ddpm", 10)
    np.testing.assert_allclose(scheduler.alphas_cumprod, harder, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prediction": "noise"}, "not 'noise'"),
        ({"scale": 0}, "scale"),
        ({"timesteps": 1}, "at least 2 steps"),
        ({"first_beta": 0.3, "last_beta": 0.1}, "first_beta"),
    ],
)
def test_wrong_processes(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SegprefError, match=said):
        Process(**settings)
