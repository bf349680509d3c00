"""The diffusion process: the noise schedule, and what the network predicts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from segpref.checking import checked
from segpref.extras import needed
from segpref.runtime import moved
from segpref.types import SegprefError

__all__ = ["Prediction", "Process", "Solver"]

Prediction: TypeAlias = Literal["epsilon", "x0", "v"]
Solver: TypeAlias = Literal["ddpm", "ddim", "dpm-solver++", "unipc"]

_NAMES = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}


@checked()
@dataclass(frozen=True)
class Process:
    """A variance-preserving process with a linear schedule (TDG-DiffDPO, Eq. 1 and 2, Appendix A.1).

    ``y_t = alpha_t y_0 + sigma_t eps`` with ``alpha_t^2 = prod (1 - beta_s)``, masks being -1 and +1.

    Input scaling multiplies the masks with ``scale`` <= 1 and then gives them their unit variance back;
    that is the same as the schedule (Christensen et al., 2025, arXiv 2504.05977)

        alpha_t^2 <- scale^2 alpha_t^2 / ((scale^2 - 1) alpha_t^2 + 1)

    and done in this form, so that no solver has to know of it.

    Args:
        timesteps: T.
        first_beta: beta at the first step.
        last_beta: beta at the last step.
        prediction: what the network says of a noisy mask: the noise ``epsilon`` (as in TDG-DiffDPO),
            the mask ``x0``, or ``v = alpha eps - sigma y_0``. Christensen et al. (2025) find x0 and v
            better than epsilon on LIDC masks; of the three, small networks learn x0 by far the soonest,
            hence the default.
        scale: of the masks, above 0 and at most 1; less makes denoising harder.
    """

    timesteps: int = 1000
    first_beta: float = 1e-4
    last_beta: float = 0.02
    prediction: Prediction = "x0"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.prediction not in _NAMES:
            raise SegprefError(
                f"a network predicts {', '.join(_NAMES)}, not {self.prediction!r}: correct prediction"
            )
        if not (self.timesteps > 1 and 0 < self.first_beta <= self.last_beta < 1):
            raise SegprefError(
                f"a schedule needs at least 2 steps and 0 < first_beta <= last_beta < 1, not "
                f"{self.timesteps} steps from {self.first_beta} to {self.last_beta}"
            )
        if not 0 < self.scale <= 1:
            raise SegprefError(f"scale is above 0 and at most 1, not {self.scale}: correct it")

    @cached_property
    def signal_power(self) -> Float[np.ndarray, " T"]:
        """``alpha_t^2`` of every step, float64."""
        betas = np.linspace(self.first_beta, self.last_beta, self.timesteps)
        power = np.cumprod(1 - betas)
        return np.asarray(self.scale**2 * power / ((self.scale**2 - 1) * power + 1))

    def noised(
        self,
        masks: Float[Tensor, "P field *space"],
        noise: Float[Tensor, "P field *space"],
        time: Int64[Tensor, " P"],
    ) -> Float[Tensor, "P field *space"]:
        """``alpha_t y_0 + sigma_t eps``."""
        alpha, sigma = self._rates(time, masks)
        return alpha * masks + sigma * noise

    def target(
        self,
        masks: Float[Tensor, "P field *space"],
        noise: Float[Tensor, "P field *space"],
        time: Int64[Tensor, " P"],
    ) -> Float[Tensor, "P field *space"]:
        """What the network should say."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "x0":
            return masks
        alpha, sigma = self._rates(time, masks)
        return alpha * noise - sigma * masks

    def scheduler(self, solver: Solver, steps: int) -> Any:
        """A solver of diffusers for this process, set to a number of steps.

        Steps are spaced from the last one on (``trailing``), so that a few of them begin in pure noise.

        Raises:
            SegprefError: an unknown solver, more steps than the process has, or steps of ``ddim`` that
                do not divide T.
        """
        if not 1 <= steps <= self.timesteps:
            raise SegprefError(
                f"a sampler takes 1 to {self.timesteps} steps here, not {steps}: correct steps"
            )
        if solver == "ddim" and self.timesteps % steps:
            # Its steps are T // steps long, and would not end where the next of them begins.
            fits = [
                number for number in range(1, self.timesteps + 1) if not self.timesteps % number
            ]
            below, above = max(n for n in fits if n < steps), min(n for n in fits if n > steps)
            raise SegprefError(
                f"ddim takes a number of steps that divides the {self.timesteps} of the process, not "
                f"{steps}: take {below} or {above}, or another solver"
            )
        schedulers = needed("diffusers", "diffusion")
        power = np.concatenate([[1.0], self.signal_power])
        settings = {
            "num_train_timesteps": self.timesteps,
            "trained_betas": 1 - power[1:] / power[:-1],
            "prediction_type": _NAMES[self.prediction],
            "timestep_spacing": "trailing",
        }
        # The first two hold predicted masks to [-1, 1] by themselves; the others need the setting.
        clipped = {"thresholding": True, "sample_max_value": 1.0}
        if solver == "ddpm":
            made = schedulers.DDPMScheduler(**settings)
        elif solver == "ddim":
            made = schedulers.DDIMScheduler(**settings)
        elif solver == "dpm-solver++":
            made = schedulers.DPMSolverMultistepScheduler(**settings, **clipped)
        elif solver == "unipc":
            made = schedulers.UniPCMultistepScheduler(**settings, **clipped)
        else:
            raise SegprefError(
                f"the solvers are ddpm, ddim, dpm-solver++ and unipc, not {solver!r}: correct solver"
            )
        made.set_timesteps(steps)
        return made

    def _rates(self, time: Int64[Tensor, " P"], like: Tensor) -> tuple[Tensor, Tensor]:
        power = moved(torch.from_numpy(self.signal_power), time.device)[time]
        shape = (-1, *[1] * (like.ndim - 1))
        alpha, sigma = power.sqrt().to(like.dtype), (1 - power).sqrt().to(like.dtype)
        return alpha.reshape(shape), sigma.reshape(shape)
