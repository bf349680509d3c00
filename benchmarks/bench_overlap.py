"""A step of stage 2 with worker processes: its wall time against the larger of its two parts.

One part is what workers can do: the edits and scores of a batch. The other one is what the main process
does meanwhile: the device, for which a stub network stands, and all the rest (decoding, mining,
margins, the loss). The stub gives logits that are known before; its passes and their gradients *sleep*
as long as the edits and scores take in this process. With slates made ahead there is one pass more, and
all passes together sleep as long. The rest is what a step without workers takes beyond edits, scores
and sleep.

The same for the making of a round's slates (``refresh``).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.bench_slate_editing import CARDIAC, cardiac_logits
from segpref.judges import OracleJudge
from segpref.policies import Segmenter
from segpref.preferences import Candidates, RoundSlates, Scoring, SlateWorkers
from segpref.process_setup import configure_process
from segpref.proposals import NetworkProposal, SlateProposals, lean_families
from segpref.runtime import runtime
from segpref.training import (
    PreferenceSignal,
    PreferenceStep,
    SlatesAhead,
    StepSlates,
    batch_stream,
    following_steps,
    weights_before,
)
from segpref.types import Case

__all__ = ["main"]

K, BATCH, SIZE, STEPS, WARM, IMAGES = 32, 8, 256, 44, 4, 24
AT_MOST = 1.15
SLEEP = {"pass": 0.0, "gradient": 0.0}


class _Gradient(torch.autograd.Function):
    """The identity, whose gradient takes a while."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        return logits.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        time.sleep(SLEEP["gradient"])
        return gradients[0]


class Stub(nn.Module):
    """Gives the logits of the image whose number is its first pixel."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))
        self.known = torch.from_numpy(logits)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, which take as long as a device would."""
        end = time.perf_counter() + SLEEP["pass"]
        found: Tensor = _Gradient.apply(self.known[images[:, 0, 0, 0].long()] + self.shift)  # type: ignore[no-untyped-call]
        time.sleep(max(0.0, end - time.perf_counter()))
        return found


class Pool(list[Case]):
    """Cases as a dataset."""

    def without_labels(self) -> Pool:
        """Nothing here reads them but the judge, who may."""
        return self


def main() -> None:
    """Print absolute times and their ratio to the larger part."""
    configure_process(threads=1)
    rng = np.random.default_rng(0)
    logits = np.stack([cardiac_logits(rng) for _ in range(IMAGES)])
    pool = Pool(_case(number, one, rng) for number, one in enumerate(logits))
    families = [one for one in lean_families(CARDIAC) if not isinstance(one, NetworkProposal)]
    proposals = SlateProposals(K, families)
    cpu = _cpu_part(pool, logits, proposals)
    print(
        f"K = {K}, batch {BATCH}, {SIZE} x {SIZE}, {CARDIAC.channels} classes, {os.cpu_count()} cores"
    )
    print(f"edits and scores of a batch in this process, and sleep of the device: {cpu:.3f} s each")
    print(f"{'medians':34}{'time':>10}{'larger part':>15}{'ratio':>8}{'at most':>9}")
    rest = 0.0
    for workers, ahead in ((0, False), (1, False), (2, False), (1, True), (2, True)):
        passes = 2 if ahead else 1
        SLEEP.update({"pass": cpu / 2 / passes, "gradient": cpu / 2})
        taken = _step_s(pool, logits, proposals, workers, ahead)
        rest = rest or taken - 2 * cpu
        room = workers < (os.cpu_count() or 1)  # for the workers and this process
        name = f"step, {workers} workers{', ahead' if ahead else ''}"
        _row(name, taken, cpu + rest, ahead and room)
    SLEEP.update({"pass": cpu, "gradient": 0.0})
    rest = 0.0
    for workers in (0, 1, 2):
        taken = _round_s(pool, logits, proposals, workers)
        rest = rest or taken - 2 * cpu
        room = workers < (os.cpu_count() or 1)
        _row(f"a round's slates, {workers} workers", taken, cpu + rest, workers > 0 and room)


def _row(name: str, seconds: float, part: float, goal: bool) -> None:
    due = f"{AT_MOST:9.2f}" if goal else ""
    print(f"{name:34}{seconds:8.3f} s{part:13.3f} s{seconds / part:8.2f}{due}")


def _case(number: int, logits: np.ndarray, rng: np.random.Generator) -> Case:
    image = np.full((1, SIZE, SIZE), number, np.float32)
    other = logits + rng.standard_normal(logits.shape).astype(np.float32)
    label = other.argmax(0)[None].astype(np.uint8)
    name = str(number)
    return Case(id=name, patient=name, volume=name, image=image, label=label, spacing_mm=(1.5, 1.5))


def _cpu_part(pool: Pool, logits: np.ndarray, proposals: SlateProposals) -> float:
    made, seconds = Candidates(Segmenter(Stub(logits), CARDIAC), proposals), []
    with SlateWorkers(proposals, Scoring(OracleJudge(CARDIAC))) as here:
        for step in range(STEPS):
            cases = [pool[(step * BATCH + i) % IMAGES] for i in range(BATCH)]
            drafts = made.drafts(cases, step)
            start = time.perf_counter()
            here.begin(cases, drafts)()
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[WARM:]))


def _step_s(
    pool: Any, logits: np.ndarray, proposals: SlateProposals, workers: int, ahead: bool
) -> float:
    """Median seconds of a step, with its update."""
    network, judge = Stub(logits), OracleJudge(CARDIAC)
    policy = Segmenter(network, CARDIAC)
    reference = torch.from_numpy(logits)
    batches = batch_stream(IMAGES, None, BATCH, 0)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)

    def of(cases: Sequence[Case], _: Tensor) -> Tensor:
        return reference[[int(case.id) for case in cases]]

    with SlateWorkers(proposals, Scoring(judge), workers) as processes:
        slates: Any = StepSlates(policy, of, judge, proposals, 0, workers=processes)
        if ahead:
            following = following_steps(batches, 10**6, runtime())
            slates = SlatesAhead(
                slates, policy, network, weights_before(network), pool, None, following
            )
        step = PreferenceStep(policy, pool, slates, PreferenceSignal(CARDIAC), 0)
        seconds = []
        for number in range(STEPS):
            epoch, place = divmod(number, IMAGES // BATCH)
            start = time.perf_counter()
            result = step(batches(epoch)[place], epoch, place)
            assert result.loss is not None
            (result.loss / result.terms).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[WARM:]))


def _round_s(pool: Any, logits: np.ndarray, proposals: SlateProposals, workers: int) -> float:
    """Median seconds of a batch of a round's slates, without the start of the workers."""
    made = Candidates(Segmenter(Stub(logits), CARDIAC), proposals)
    begun: list[float] = []

    def make(cases: Sequence[Case], number: int) -> tuple[list[Any], None]:
        begun.append(time.perf_counter())
        return made.drafts(cases, 0, (number,)), None

    several: Any = Pool(pool * 12)
    with tempfile.TemporaryDirectory() as folder:
        sets = RoundSlates(
            make, several, OracleJudge(CARDIAC), Path(folder), every=1, batch_size=BATCH,
            proposals=proposals, workers=workers,
        )  # fmt: skip
        sets([0], 0, 0)
    # From one part's beginning to the next one's; the first ones wait for the processes.
    return float(np.median(np.diff(begun)[WARM:]))


if __name__ == "__main__":
    main()
