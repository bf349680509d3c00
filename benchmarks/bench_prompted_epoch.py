"""An epoch of aligning SAM's mask decoder: with kept image embeddings, against running the encoder.

The network has the size of SAM ViT-B, with random weights and 256 x 256 pixels. Both epochs are the
very steps of :func:`segpref.training.align` on the same phantoms: four thresholds, ranked by the
oracle, the four-candidate loss, Adam on the decoder. Computing the embeddings once is told apart.
Times are those of the processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import tempfile
import time
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from segpref.data import Cache, Dataset, Preparation
from segpref.judges import OracleJudge
from segpref.policies.promptable import PromptablePolicy, small_sam
from segpref.process_setup import configure_process
from segpref.studies.prompted import OneStructure, other_data
from segpref.training import Feedback, PreferenceStep, StepSlates

__all__ = ["main"]

IMAGES, BATCH, SIZE, EPOCHS = 4, 2, 256, 2
AT_MOST = 0.2


def main() -> None:
    """Print the time of both, and their ratio; raise where losses differ."""
    configure_process()
    with tempfile.TemporaryDirectory() as folder:
        _compare(Path(folder))


def _compare(folder: Path) -> None:
    cache = Cache(folder / "cache")
    preparation = Preparation(size=(SIZE, SIZE), normalise="percentile")
    drawn, _ = other_data(folder, folder / "made", {"phantoms": 80}, preparation, cache)
    pool = drawn.take(range(IMAGES))
    network = small_sam(
        SIZE, patch=16, width=768, layers=12, heads=12, prompt_width=256, window=14
    ).requires_grad_(False)
    kept, running = (PromptablePolicy(deepcopy(network), OneStructure) for _ in range(2))
    for policy in (kept, running):
        policy.learn()
    begin = time.process_time()
    kept.prepare(pool, cache)
    once = time.process_time() - begin
    reference = torch.cat([kept.logits(_images(pool, [i])) for i in range(IMAGES)])
    fast, slow = _epochs(kept, pool, reference), _epochs(running, pool, reference)
    torch.testing.assert_close(fast[1], slow[1])
    print(f"decoder of SAM ViT-B, {IMAGES} images of {SIZE} x {SIZE}, least of {EPOCHS} epochs")
    print(f"losses with and without kept embeddings: {fast[1].tolist()}, {slow[1].tolist()}")
    print(f"{'':14}{'kept':>12}{'encoder':>12}{'ratio':>9}{'at most':>9}")
    ratio = fast[0] / slow[0]
    print(f"{'epoch':14}{fast[0]:10.2f} s{slow[0]:10.2f} s{ratio:9.3f}{AT_MOST:9.3f}")
    print(f"{'once before':14}{once:10.2f} s")


def _epochs(policy: PromptablePolicy, pool: Dataset, reference: Tensor) -> tuple[float, Tensor]:
    """Least processor time of an epoch, and the losses of all steps."""
    feedback = Feedback("ranking", thresholds=(0.45, 0.48, 0.5, 0.52))
    rows = {case.id: row for case, row in zip(pool, reference, strict=True)}
    step = PreferenceStep(
        policy,
        pool,
        StepSlates(
            policy,
            lambda cases, _: torch.stack([rows[case.id] for case in cases]),
            feedback.judge(OracleJudge(OneStructure, measure="dice")),
            feedback.proposals(),
            seed=0,
        ),
        feedback.signal(OneStructure),
        seed=0,
    )
    learning = [weight for weight in policy.network.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(learning, 1e-4)
    times, losses = [], []
    for epoch in range(EPOCHS):
        begin = time.process_time()
        for number in range(IMAGES // BATCH):
            found = step(list(range(BATCH * number, BATCH * (number + 1))), epoch, number)
            optimizer.zero_grad()
            found.loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(found.loss.detach())
        times.append(time.process_time() - begin)
    return min(times), torch.stack(losses)


def _images(pool: Dataset, places: list[int]) -> Tensor:
    return torch.stack([torch.from_numpy(pool[i].image.copy()) for i in places])


if __name__ == "__main__":
    main()
