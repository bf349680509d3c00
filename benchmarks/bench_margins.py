"""Margins of eight pairs per image: the disagreement region against whole log-softmax maps.

The usual version takes the log-softmax of policy and reference once per image in float32, gathers it
for all sixteen masks of an image and averages. Ours finds the region in the uint8 masks (counted as
part of its time) and reads the logits there. Both end with DPO's loss and its gradient.

Memory is the peak of what is allocated beyond the inputs, gradient included: PyTorch's allocations
from its profiler plus the peak of NumPy's and Python's from tracemalloc. The two peaks need not
coincide, so the sum is an upper bound; the usual version has next to nothing outside PyTorch.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from segpref.objectives import DPO, disagreement, margins
from segpref.types import Candidate, LabelSpace, Pairs, Slate

__all__ = ["main"]

IMAGES, PAIRS, SIZE, SHARE = 8, 8, 256, 0.05
SPACE = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
TARGET = 1 / 5


def main() -> None:
    """Print time and extra memory of both, and their ratios."""
    slates, pairs = _preferences(np.random.default_rng(0))
    masks = torch.from_numpy(np.stack([slate.masks[:, 0] for slate in slates]))
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(
        (2, IMAGES, SPACE.channels, SIZE, SIZE), generator=generator
    ).unbind()
    policy = policy.clone().requires_grad_()

    def ours() -> tuple[Tensor, Tensor]:
        region = disagreement(slates, pairs, SPACE)
        loss = DPO(1.5)(margins(policy, reference, region, "image")).mean()
        return loss.detach(), torch.autograd.grad(loss, policy)[0]

    def usual() -> tuple[Tensor, Tensor]:
        index = masks.long()
        with torch.no_grad():
            frozen = _mean_likelihoods(reference, index)
        current = _mean_likelihoods(policy, index)
        difference = (current[:, :PAIRS] - current[:, PAIRS:]) - (
            frozen[:, :PAIRS] - frozen[:, PAIRS:]
        )
        loss = -functional.logsigmoid(1.5 * difference).mean()
        return loss.detach(), torch.autograd.grad(loss, policy)[0]

    (ours_loss, ours_grad), (usual_loss, usual_grad) = ours(), usual()
    torch.testing.assert_close(ours_loss, usual_loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours_grad, usual_grad, rtol=1e-3, atol=1e-9)

    fast, slow = _seconds(ours, usual)
    small, large = _peak_bytes(ours), _peak_bytes(usual)
    share = disagreement(slates, pairs, SPACE).fraction.mean().item()
    print(
        f"margins: {IMAGES} images of {SIZE} x {SIZE}, {SPACE.channels} classes, {PAIRS} pairs each"
    )
    print(f"disagreement {share:.1%} of the image, {torch.get_num_threads()} threads, least times")
    print(f"{'':14}{'ours':>12}{'usual':>12}{'ratio':>9}{'at most':>9}")
    for name, unit, a, b in (
        ("time", "ms", fast * 1e3, slow * 1e3),
        ("extra memory", "MB", small / 1e6, large / 1e6),
    ):
        print(f"{name:14}{a:9.1f} {unit}{b:9.1f} {unit}{a / b:9.3f}{TARGET:9.3f}")


def _mean_likelihoods(logits: Tensor, index: Tensor) -> Tensor:
    return functional.log_softmax(logits.float(), dim=1).gather(1, index).flatten(2).mean(-1)


def _preferences(rng: np.random.Generator) -> tuple[list[Slate], Pairs]:
    """Slates of eight winners, then eight losers that differ from them on smooth patches."""
    slates = []
    for _ in range(IMAGES):
        smooth = gaussian_filter(rng.standard_normal((PAIRS + 1, SIZE, SIZE)), (0, 6, 6))
        base = np.digitize(smooth[0], np.quantile(smooth[0], (0.25, 0.5, 0.75))).astype(np.uint8)
        edges = np.quantile(smooth[1:], 1 - SHARE, axis=(1, 2), keepdims=True)
        losers = (base + (smooth[1:] > edges)) % SPACE.channels
        masks = np.concatenate([np.broadcast_to(base, losers.shape), losers])[:, None]
        slates.append(Slate(masks.astype(np.uint8), (Candidate("made up"),) * (2 * PAIRS)))
    case, winner = np.divmod(np.arange(IMAGES * PAIRS), PAIRS)
    field = np.zeros_like(case)
    return slates, Pairs(case, field, winner, winner + PAIRS, np.ones(len(case)))


def _seconds(*versions: Callable[[], object], rounds: int = 15) -> list[float]:
    """Least time of each: what else runs on the machine only ever adds to it."""
    taken: list[list[float]] = [[] for _ in versions]
    for _ in range(rounds):
        for times, version in zip(taken, versions, strict=True):
            start = time.perf_counter()
            version()
            times.append(time.perf_counter() - start)
    return [min(times) for times in taken]


def _peak_bytes(version: Callable[[], object]) -> int:
    tracemalloc.start()
    version()
    outside = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        version()
    held = peak = 0
    events = (e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]")
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return outside + peak


if __name__ == "__main__":
    main()
