"""A fully connected conditional random field of two labels, solved by mean field."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from segpref.checking import checked

__all__ = ["DenseCRF", "mean_field"]


def mean_field(
    unary: Float[Tensor, " N"],
    message: Callable[[Float[Tensor, " N"]], Float[Tensor, " N"]],
    steps: int,
) -> Float[Tensor, " N"]:
    """Probability of the foreground after some parallel mean-field updates.

    ``z_i <- u_i + sum_{j != i} k_ij (q_j - (1 - q_j)), q = sigmoid(z)``: the two-label Potts model of
    Krähenbühl and Koltun (2011, Eq. 4 and Algorithm 1), where ``u`` is the log-odds of the
    foreground and ``k`` the sum of the weighted kernels.

    Args:
        unary: log-odds of every pixel.
        message: ``v -> sum_{j != i} k_ij v_j``.
        steps: number of updates.
    """
    q = unary.sigmoid()
    for _ in range(steps):
        q = (unary + message(2 * q - 1)).sigmoid()
    return q


@checked(
    size={"least": 2, "most": 96},
    steps={"least": 1},
    appearance_weight={"least": 0},
    appearance_sigma={"above": 0},
    intensity_sigma={"above": 0},
    smoothness_weight={"least": 0},
    smoothness_sigma={"above": 0},
)
class DenseCRF:
    """Sharpens a saliency map at the edges of its image.

    The pairwise term is ``w_1 exp(-|p_i - p_j|^2 / 2 s_1^2 - |I_i - I_j|^2 / 2 s_I^2)
    + w_2 exp(-|p_i - p_j|^2 / 2 s_2^2)`` of Krähenbühl and Koltun (2011), the unary term the log-odds
    of the saliency. Kernels are normalised symmetrically, ``k_ij / sqrt(n_i n_j)`` with ``n_i`` the
    sum of row i, so that weights mean the same at any size. Their code filters on a permutohedral
    lattice and is no longer kept; here the sums over all pairs of pixels are exact, on a copy of
    the image whose longer side has at most ``size`` pixels. Saliency has fewer pixels than that.

    Args:
        size: longest side of the copy, up to 96: memory grows with its fourth power (64: 64 MB).
        steps: mean-field updates.
        appearance_weight: w_1, of pixels that are near and alike.
        appearance_sigma: s_1, as a share of the longer side.
        intensity_sigma: s_I, of intensities that run from 0 to 1.
        smoothness_weight: w_2, of pixels that are near.
        smoothness_sigma: s_2, as a share of the longer side.

    Raises:
        SegprefError: a setting out of its range.
    """

    def __init__(
        self,
        size: int = 64,
        steps: int = 5,
        appearance_weight: float = 4.0,
        appearance_sigma: float = 0.15,
        intensity_sigma: float = 0.1,
        smoothness_weight: float = 1.0,
        smoothness_sigma: float = 0.02,
    ) -> None:
        self.size = size
        self.steps = steps
        self.appearance_weight = appearance_weight
        self.appearance_sigma = appearance_sigma
        self.intensity_sigma = intensity_sigma
        self.smoothness_weight = smoothness_weight
        self.smoothness_sigma = smoothness_sigma

    def __call__(
        self, image: Float[Tensor, "channel H W"], probability: Float[Tensor, "H W"]
    ) -> Float[Tensor, "H W"]:
        """Refined probability of the foreground.

        Args:
            image: of any range; intensities are scaled to 0..1 over its channels together.
            probability: of the foreground at every pixel; cut to 0.01..0.99.
        """
        full = probability.shape
        scale = min(1.0, self.size / max(full))
        small = tuple(max(1, round(n * scale)) for n in full)
        pixels = _resized(image, small)
        low = pixels.min()
        pixels = (pixels - low) / (pixels.max() - low).clamp(min=1e-6)
        unary = torch.logit(_resized(probability[None], small)[0].clamp(0.01, 0.99))
        q = mean_field(unary.reshape(-1), self._messages(pixels), self.steps)
        return _resized(q.reshape(1, *small), tuple(full))[0]

    def _messages(self, image: Float[Tensor, "channel h w"]) -> Callable[[Tensor], Tensor]:
        """Weighted sums over all other pixels.

        Distances in space factorise over rows and columns, so only the intensities need a matrix.
        """
        height, width = image.shape[1:]
        side = max(height, width)

        def lines(sigma: float) -> tuple[Tensor, Tensor]:
            return _line(height, sigma * side, image), _line(width, sigma * side, image)

        colour = image.reshape(len(image), -1)
        unlike = torch.zeros(height * width, height * width, device=image.device)
        for channel in colour:
            # A root's product in place of a division: one pass over the matrix less.
            scaled = channel / (2**0.5 * self.intensity_sigma)
            apart = scaled[:, None] - scaled
            unlike.addcmul_(apart, apart)
        rows, columns = lines(self.appearance_sigma)
        alike = unlike.neg_().exp_().view(height, width, height, width)
        alike *= rows[:, None, :, None]
        alike *= columns[None, :, None, :]
        matrix = alike.view(height * width, height * width).fill_diagonal_(0)
        down, across = lines(self.smoothness_sigma)

        def near(values: Tensor) -> Tensor:
            return (down @ values.view(height, width) @ across).view(-1) - values

        ones = torch.ones(height * width, device=image.device)
        of_matrix = (matrix @ ones).clamp(min=1e-12).rsqrt()
        of_near = near(ones).clamp(min=1e-12).rsqrt()

        def message(values: Tensor) -> Tensor:
            appearance = of_matrix * (matrix @ (of_matrix * values))
            smoothness = of_near * near(of_near * values)
            return self.appearance_weight * appearance + self.smoothness_weight * smoothness

        return message

    def key(self) -> dict[str, object]:
        """Its settings, as JSON can hold them."""
        return dict(vars(self))


def _line(count: int, sigma: float, like: Tensor) -> Float[Tensor, "n n"]:
    place = torch.arange(count, device=like.device, dtype=torch.float32)
    return torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))


def _resized(values: Float[Tensor, "channel H W"], shape: tuple[int, ...]) -> Tensor:
    if tuple(values.shape[1:]) == shape:
        return values.float()
    return functional.interpolate(
        values[None].float(), size=shape, mode="bilinear", antialias=True, align_corners=False
    )[0]
