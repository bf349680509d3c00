"""A step of stage 2: everything that is not a network pass, against a plain supervised step.

The step is the very one of :func:`segpref.training.align`, watched part by part as it runs: slates of
32 candidates, a model-based judge, Top-vs-Random, RN-DPO, and the truth for the figures. The loss is
differentiated down to the logits as part of "all else", and from there through the network as a pass.
The supervised step (forward, Dice + cross-entropy, backward, AdamW) takes turns with it on the same
images: those of ACDC where ``SEGPREF_DATA`` points to them, else phantoms. Base and judge are trained
on a few patients first, so that masks are torn as real ones are; they are kept in the folder for
temporary files.

It also counts the passes: no input may go through the network twice. Afterwards whole steps of several
sizes are measured with today's code and with that of an earlier commit (:mod:`benchmarks.earlier`).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.earlier import print_steps
from segpref.data import (
    ACDC,
    Cache,
    Dataset,
    Folders,
    PredictionStore,
    Preparation,
    Reader,
    prepare,
)
from segpref.data.phantoms import PATIENT_PATTERN, label_space, write_phantoms
from segpref.judges import ModelJudge
from segpref.objectives import DPO, SupervisedLoss
from segpref.policies import ModelCard, Segmenter, SegmenterState, load_model
from segpref.process_setup import configure_process
from segpref.progress import track
from segpref.proposals import IntensityViews, SlateProposals
from segpref.studies import default_network
from segpref.training import (
    PreferenceSignal,
    PreferenceStep,
    RunFolder,
    StepSlates,
    batch_stream,
    fit,
)

__all__ = ["main"]

K, BATCH, SIZE, ROUNDS = 32, 8, 256, 9
UPDATES = 300
AT_MOST = 0.2
SPACE = label_space("cardiac")
PASSES = ("forward", "intensity views", "backward and update")
ELSE = ("decoding and drafts", "editing", "scoring", "mining", "region, margins, loss", "the rest")


class Stopwatch:
    """Adds up the time of named parts; while an inner part runs, the outer one stands still."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time the block under this name."""
        self._turn()
        self._open.append(part)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def watched(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(part):
                return call(*args, **kwargs)

        return timed

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


class WatchedSegmenter(Segmenter):
    """A policy whose passes are timed, and whose logits are cut from the network's graph.

    So the loss can be differentiated down to the logits first, and through the network afterwards.
    """

    def __init__(self, segmenter: Segmenter, clock: Stopwatch) -> None:
        super().__init__(segmenter.network, segmenter.label_space)
        self.clock = clock
        self.attached = torch.empty(0)
        self.cut = torch.empty(0)

    def forward(self, images: Tensor) -> SegmenterState:
        """The one differentiable pass."""
        with self.clock("forward"):
            state = super().forward(images)
        self.attached, self.cut = state.logits, state.logits.detach().requires_grad_()
        return SegmenterState(self.cut, state.tail)

    def logits(self, images: Tensor) -> Tensor:
        """A pass of a changed view."""
        with self.clock("intensity views"):
            return super().logits(images)


class WatchedProposals(SlateProposals):
    """Proposals whose drafts are timed; the edits are elsewhere."""

    def __init__(self, size: int, clock: Stopwatch) -> None:
        super().__init__(size)
        self.clock = clock

    def drafts(self, *args: Any, **kwargs: Any) -> list[Any]:
        """What the slates are edited from."""
        with self.clock("decoding and drafts"):
            return super().drafts(*args, **kwargs)


def main() -> None:
    """Print how long every part takes and its ratio to the supervised step, then the passes."""
    configure_process(threads=2)  # as the command line does
    work = Path(tempfile.gettempdir()) / "segpref-benchmarks"
    base, judge, pool = _trained(work)
    reference, cache = load_model(base)[0], Cache(work / "cache")
    clock = Stopwatch()
    policy = WatchedSegmenter(load_model(base)[0], clock)
    store = PredictionStore(reference, "logits", cache)
    store.prepare(pool)
    scored_by = ModelJudge(load_model(judge)[0], cache)
    scored_by.prepare(pool)
    for one in (store, scored_by):  # once in a run, so no part of a step
        one.predict([pool[place] for place in range(len(pool))])
    scored_by.score = clock.watched("scoring", scored_by.score)  # type: ignore[method-assign]
    batches = batch_stream(len(pool), None, BATCH, 0)(0)

    with ExitStack() as stack:
        step = PreferenceStep(
            policy,
            pool,
            StepSlates(
                policy,
                store.batch,
                scored_by,
                WatchedProposals(K, clock),
                0,
            ),
            clock.watched("region, margins, loss", PreferenceSignal(SPACE, objective=DPO(1.5))),
            0,
        )
        from segpref.preferences.miners import mine
        from segpref.proposals import draw

        for place, part, call in (
            ("segpref.proposals.slate.draw", "editing", draw),
            ("segpref.training.signals.mine", "mining", mine),
        ):
            stack.enter_context(patch(place, clock.watched(part, call)))
        optimizer = torch.optim.Adam(policy.network.parameters(), 1e-4)

        def preference(number: int) -> None:
            with clock("the rest"):
                result = step(batches[number % len(batches)], 0, number)
            assert result.loss is not None
            with clock("region, margins, loss"):
                (result.loss / result.terms).backward()
            with clock("backward and update"):
                policy.attached.backward(policy.cut.grad)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

        supervised = partial(_supervised_step, *_learner(base), pool)
        supervised(batches[0])
        preference(0)
        counted = _count_passes(policy, partial(preference, 0))
        rows: dict[str, list[float]] = {}
        for number in track(range(ROUNDS), "steps of stage 1 and 2 in turn", ROUNDS):
            clock.seconds.clear()
            preference(number)
            for part, seconds in clock.seconds.items():
                rows.setdefault(part, []).append(seconds)
            start = time.perf_counter()
            supervised(batches[number % len(batches)])
            rows.setdefault("supervised step", []).append(time.perf_counter() - start)
    _print(rows, counted)
    print_steps()


def _print(rows: dict[str, list[float]], counted: Counter[str]) -> None:
    parts = {name: np.array(seconds) for name, seconds in rows.items()}
    parts["network passes"] = sum(parts[name] for name in PASSES)
    parts["all else"] = sum(parts[name] for name in ELSE)
    plain = float(np.median(parts["supervised step"]))
    print(f"a step of stage 2: K = {K}, batch {BATCH}, {SIZE} x {SIZE}, {SPACE.channels} classes")
    print(f"{torch.get_num_threads()} threads, medians of {ROUNDS} steps of either kind in turn")
    print(f"{'':26}{'time':>12}{'ratio':>9}{'at most':>9}")
    for name in ("supervised step", "network passes", *PASSES, "all else", *ELSE):
        taken = float(np.median(parts[name]))
        label = name if name in ("supervised step", "network passes", "all else") else f"  {name}"
        goal = f"{AT_MOST:9.3f}" if name == "all else" else ""
        print(f"{label:26}{taken * 1e3:9.1f} ms{taken / plain:9.3f}{goal}")
    print("passes a step: " + ", ".join(f"{count} {what}" for what, count in counted.items()))


def _count_passes(policy: WatchedSegmenter, step: Callable[[], None]) -> Counter[str]:
    """Passes of one step, none of which may be done twice."""
    inputs: list[Tensor] = []
    with_graph: list[bool] = []

    def whole(_: nn.Module, taken: tuple[Tensor, ...]) -> None:
        inputs.append(taken[0])
        with_graph.append(torch.is_grad_enabled())

    hook = policy.network.register_forward_pre_hook(whole)
    try:
        step()
    finally:
        hook.remove()
    repeated = [
        (a, b) for b in range(len(inputs)) for a in range(b) if torch.equal(inputs[a], inputs[b])
    ]
    assert not repeated, "an input went through the network twice"
    views = len(IntensityViews().gammas)
    assert with_graph == [True] + [False] * views, "the anchor's pass is not shared"
    return Counter(
        {
            "forward, shared by the anchor and the update": sum(with_graph),
            "of changed intensities": with_graph.count(False),
        }
    )


def _learner(base: Path) -> tuple[nn.Module, torch.optim.Optimizer]:
    network = load_model(base)[0].network.train()
    return network, torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-4)


def _supervised_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, pool: Dataset, indices: list[int]
) -> None:
    cases = [pool[i] for i in indices]
    images, labels = (torch.from_numpy(np.stack(one)) for one in _columns(cases))
    SupervisedLoss(SPACE)(network(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _columns(cases: list[Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [case.image for case in cases], [case.label for case in cases]


def _trained(work: Path) -> tuple[Path, Path, Dataset]:
    """A base, a judge, and cases of other patients; what was made in an earlier run is used again."""
    real = Path(os.environ.get("SEGPREF_DATA", "")) / "acdc"
    reader: Reader
    if "SEGPREF_DATA" in os.environ and real.is_dir():
        print("images of ACDC")
        work, reader, labelled = work / "acdc", ACDC(real), (3, 3)
    else:
        print("phantoms, for SEGPREF_DATA points to no acdc/")
        work, labelled = work / "phantoms", (3, 2)
        data = write_phantoms(
            work / "data", "cardiac", (SIZE, SIZE), 11, seed=0, slices_per_patient=4
        )
        names = ("background", "RV", "MYO", "LV")
        reader = Folders(data, names=names, patient_pattern=PATIENT_PATTERN)
    preparation = Preparation(dims=2, size=(SIZE, SIZE), normalise="min-max")
    cases = prepare(reader, preparation, Cache(work / "cache"))
    patients = list(cases.patients)
    # Patients are sorted by diagnosis in ACDC.
    np.random.default_rng(0).shuffle(patients)
    validation, patients = cases.of_patients(patients[:1]), patients[1:]
    for name, count, seed in zip(("base", "judge"), labelled, (0, 1), strict=True):
        chosen, patients = patients[:count], patients[count:]
        run = RunFolder(work / name)
        run.open({"labelled": chosen, "updates": UPDATES}, resume=True)
        card = ModelCard(
            network=default_network(2).for_data(1, SPACE.channels),
            label_space=cases.label_space,
            preparation=preparation,
            labelled=tuple(chosen),
        )
        fit(
            cases.of_patients(chosen),
            validation,
            card,
            run,
            epochs=5,
            images_per_epoch=UPDATES // 5 * BATCH,
            batch_size=BATCH,
            augment="flips-rotations",
            seed=seed,
        )
    pool = cases.of_patients(patients)
    return work / "base", work / "judge", pool.take(range(0, len(pool), max(1, len(pool) // 80)))


if __name__ == "__main__":
    main()
