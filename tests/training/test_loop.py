from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from segpref.data import Preparation
from segpref.policies import ModelCard, NetworkSpec
from segpref.runtime import Runtime
from segpref.seeds import derive_seed
from segpref.training import (
    Derived,
    EpochFigures,
    RunFolder,
    StepResult,
    batch_stream,
    constant,
    cosine,
    curve_summary,
    loop,
    read_logs,
    run_loop,
    smoothed,
    tail_average,
)
from segpref.types import LabelSpace, SegprefError


@given(
    images=st.integers(1, 30),
    per_epoch=st.integers(1, 70),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_no_image_comes_again_before_all_were_drawn(
    images: int, per_epoch: int, batch_size: int, seed: int
) -> None:
    batches = batch_stream(images, per_epoch, batch_size, seed)
    epochs = [batches(epoch) for epoch in range(5)]
    for epoch in epochs:
        assert sum(map(len, epoch)) == per_epoch
        assert all(len(batch) == batch_size for batch in epoch[:-1])
    stream = [image for epoch in epochs for batch in epoch for image in batch]
    for start in range(0, len(stream) - images + 1, images):
        assert sorted(stream[start : start + images]) == list(range(images))
    rest = stream[len(stream) // images * images :]
    assert len(set(rest)) == len(rest)
    # An epoch is known without those before it.
    assert batch_stream(images, per_epoch, batch_size, seed)(3) == epochs[3]


def test_a_step_draws_no_pool() -> None:
    batches = batch_stream(1000, 10, 2, 0)
    assert batches(3) is batches(3)


def test_passes_and_seeds_differ_in_order() -> None:
    orders = {tuple(batch_stream(20, None, 20, s)(e)[0]) for s in range(3) for e in range(3)}
    assert len(orders) == 9


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((0, None, 8), "no image to learn from"),
        ((5, 0, 8), "at least 1"),
        ((5, None, 0), "at least 1"),
    ],
)
def test_nothing_to_draw(sizes: tuple[int, int | None, int], said: str) -> None:
    with pytest.raises(SegprefError, match=said):
        batch_stream(*sizes, seed=0)


def test_derive_seeds_are_distinct_and_stable() -> None:
    seeds = {derive_seed(s, e, n) for s in range(5) for e in range(20) for n in range(50)}
    assert len(seeds) == 5 * 20 * 50
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, 2, 3) == derive_seed(1, 2, 3) != derive_seed(3, 2, 1)
    # Neighbours share no more bits than chance would have it.
    bits = [bin(derive_seed(0, 0, n) ^ derive_seed(0, 0, n + 1)).count("1") for n in range(200)]
    assert abs(np.mean(bits) - 31.5) < 1.5


def test_schedules() -> None:
    assert {constant(0.3)(p) for p in (0.0, 0.5, 0.99)} == {0.3}
    rate = cosine(2.0, warm_up=0.1)
    assert rate(0.0) == pytest.approx(0.2)
    assert rate(0.05) == pytest.approx(1.1)
    assert rate(0.1) == pytest.approx(2.0)
    assert rate(0.55) == pytest.approx(1.0)
    assert rate(1.0) == pytest.approx(0.0)
    falling = [rate(p) for p in np.linspace(0.1, 1, 50)]
    assert falling == sorted(falling, reverse=True)


def test_peak_tail_and_drift_by_hand() -> None:
    curve = np.array([0.1, 0.4, 0.7, 0.7, 0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1])
    # Means of three: .4 .6 .5 .3 .1 .2 .2 .2 .1
    np.testing.assert_allclose(smoothed(curve), [0.4, 0.6, 0.5, 0.3, 0.1, 0.2, 0.2, 0.2, 0.1])
    assert tail_average(curve) == pytest.approx((0.3 + 0.1 + 0.2 + 0.2 + 0.2 + 0.1) / 6)
    history = [{"val_iou": value} for value in (0.9, *curve)]
    summary = curve_summary(history)
    assert summary["val_iou_base"] == 0.9
    assert summary["val_iou_peak"] == 0.7
    assert summary["peak_epoch"] == 3
    assert summary["val_iou_last"] == 0.1
    assert summary["tail_avg"] == pytest.approx(1.1 / 6)
    assert summary["drift"] == pytest.approx(0.6 - 1.1 / 6)
    assert summary["epochs"] == 11


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_short_curves(length: int) -> None:
    curve = np.linspace(0.2, 0.4, length)
    assert tail_average(curve) == pytest.approx(curve.mean())
    summary = curve_summary([{"val_iou": 0.1}, *({"val_iou": v} for v in curve)])
    assert 0 <= summary["drift"] <= 0.2


class Numbers:
    """A run of the loop on a network of one weight, with a validation that is told beforehand."""

    def __init__(self, path: Path, ious: list[float], spec: NetworkSpec) -> None:
        self.folder = RunFolder(path)
        self.ious, self.steps, self.rates = ious, [], []  # type: ignore[var-annotated]
        self.fail_at: int | None = None
        self.card = ModelCard(spec, LabelSpace("multi-label", ("a",)), Preparation())
        torch.manual_seed(0)
        self.network: nn.Module = nn.Linear(2, 1)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1.0)

    def step(self, indices: list[int], epoch: int, number: int) -> StepResult:
        if self.fail_at is not None and len(self.steps) == self.fail_at:
            raise KeyboardInterrupt
        self.steps.append((epoch, number, tuple(indices)))
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        inputs = torch.tensor([[float(i), 1.0] for i in indices])
        loss = self.network(inputs).square().sum()
        logs = {"loss": (float(loss.detach()), float(len(indices)))}
        if number % 2:
            logs["odd"] = (1.0, 1.0)
        return StepResult(loss, len(indices), logs)

    def run(self, epochs: int, resume: bool = False, **options: Any) -> list[dict[str, float]]:
        self.folder.open({"epochs": epochs}, resume)

        def validate() -> dict[str, float]:
            stopped = self.folder.load_state()
            if self.steps:
                done = self.steps[-1][0] + 1
            else:  # at the start, or where a run was stopped that had just made its last step
                done = 0 if stopped is None else stopped[1]["epoch"] + 1
            return {"val_iou": self.ious[done]}

        return run_loop(
            folder=self.folder,
            network=self.network,
            card=self.card,
            optimizer=self.optimizer,
            learning_rate=cosine(0.1),
            epochs=epochs,
            batches=batch_stream(7, None, 2, seed=1),
            step=self.step,
            validate=validate,
            runtime=Runtime("no"),
            description="test",
            **{"checkpoint_seconds": 1e9, **options},
        )


@pytest.fixture
def numbers(tmp_path: Path, tiny_unet: Callable[..., NetworkSpec]) -> Callable[..., Numbers]:
    def make(name: str, ious: list[float]) -> Numbers:
        return Numbers(tmp_path / name, ious, tiny_unet(1))

    return make


def test_the_best_checkpoint_is_that_of_the_best_epoch(numbers: Callable[..., Numbers]) -> None:
    ious = [0.9, 0.2, 0.5, 0.5, 0.4]
    whole = numbers("whole", ious)
    history = whole.run(4)
    assert [row["val_iou"] for row in history] == ious
    assert [row["epoch"] for row in history] == [0, 1, 2, 3, 4]
    assert history[0].keys() == {"epoch", "val_iou"}
    # Weights after two epochs, from a run with the same schedule that is stopped there.
    half = numbers("half", ious)
    half.fail_at = 8
    with pytest.raises(KeyboardInterrupt):
        half.run(4)
    best = load_file(whole.folder.best)
    for name, value in load_file(half.folder.last).items():
        assert torch.equal(best[name], value)
    last = load_file(whole.folder.last)
    assert not torch.equal(best["weight"], last["weight"])
    assert torch.equal(whole.network.state_dict()["weight"], last["weight"])


@pytest.mark.parametrize("checkpoint_seconds", [0.0, 1e9])
@pytest.mark.parametrize("stops", [[0], [3], [4], [5, 1], [1] * 8])
def test_an_interrupted_run_continues_to_the_same_bits(
    numbers: Callable[..., Numbers], stops: list[int], checkpoint_seconds: float
) -> None:
    ious = [0.1, 0.3, 0.2, 0.6]
    whole = numbers("whole", ious)
    expected = whole.run(3)
    for stop in stops:
        part = numbers("part", ious)
        part.fail_at = stop
        with pytest.raises(KeyboardInterrupt):
            part.run(3, resume=True, checkpoint_seconds=checkpoint_seconds)
    again = numbers("part", ious)
    assert again.run(3, resume=True, checkpoint_seconds=checkpoint_seconds) == expected
    for file in ("best", "last"):
        mine, theirs = getattr(again.folder, file), getattr(whole.folder, file)
        assert mine.read_bytes() == theirs.read_bytes()
    assert again.folder.metrics.read_bytes() == whole.folder.metrics.read_bytes()
    # What was done is not done again.
    if checkpoint_seconds == 0:
        assert len(again.steps) == len(whole.steps) - sum(stops)
    assert again.rates == whole.rates[len(whole.rates) - len(again.rates) :]


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        # With the best and at the end; before a round ends; after as long as was asked for.
        ({}, [1, 3, 6]),
        ({"rounds": 2}, [1, 2, 3, 4, 6]),
        ({"checkpoint_seconds": -1}, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_when_the_position_is_saved(
    numbers: Callable[..., Numbers], options: dict[str, Any], saved: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    epochs: list[int] = []
    save_state = RunFolder.save_state

    def listened(folder: RunFolder, tensors: Any, position: Any) -> None:
        if position["step"] == 0:
            epochs.append(position["epoch"])
        save_state(folder, tensors, position)

    monkeypatch.setattr(RunFolder, "save_state", listened)
    run = numbers("saved", [0.1, 0.3, 0.2, 0.6, 0.5, 0.5, 0.4])
    run.run(6, **options)
    assert epochs == saved
    assert len(run.folder.read_metrics()) == 7


def test_a_run_of_nans_still_leaves_a_checkpoint(numbers: Callable[..., Numbers]) -> None:
    run = numbers("nan", [float("nan"), float("nan"), 0.1, float("nan")])
    run.run(3)
    best, last = load_file(run.folder.best), load_file(run.folder.last)
    assert not torch.equal(best["weight"], last["weight"])


def test_epochs_report_weighted_means(numbers: Callable[..., Numbers]) -> None:
    run = numbers("logs", [0.0, 0.1])
    history = run.run(1)
    assert history[1]["odd"] == 1
    table = run.folder.read_metrics()
    assert table == history
    assert "odd" not in table[0]


def test_a_step_without_terms_changes_nothing(numbers: Callable[..., Numbers]) -> None:
    run = numbers("idle", [0.0, 0.1])
    before = run.network.state_dict()["weight"].clone()
    run.step = lambda *_: StepResult(None, 0, {"skipped": (1.0, 1.0)})  # type: ignore[method-assign]
    history = run.run(1)
    assert torch.equal(run.network.state_dict()["weight"], before)
    assert history[1]["skipped"] == 1


def test_the_loss_is_the_mean_over_all_terms(numbers: Callable[..., Numbers]) -> None:
    first, second = numbers("one", [0.0, 0.1]), numbers("two", [0.0, 0.1])
    step = second.step

    def tenfold(*position: Any) -> StepResult:
        result = step(*position)
        assert result.loss is not None
        return StepResult(result.loss * 10, result.terms * 10, result.logs)

    second.step = tenfold  # type: ignore[method-assign]
    first.run(1)
    second.run(1)
    torch.testing.assert_close(
        first.network.state_dict()["weight"], second.network.state_dict()["weight"]
    )


@pytest.mark.parametrize("often", [False, True])
@pytest.mark.parametrize("what", ["loss", "weight"])
def test_a_training_that_diverges_stops_before_it_is_kept(
    what: str, often: bool, numbers: Callable[..., Numbers]
) -> None:
    """In the second step of the second epoch; found when figures are read, at a save or the end."""
    run = numbers("diverges", [0.1] * 5)
    step = run.step

    def diverging(indices: list[int], epoch: int, number: int) -> StepResult:
        result = step(indices, epoch, number)
        assert result.loss is not None
        if (epoch, number) != (1, 1):
            return result
        if what == "loss":
            return StepResult(result.loss * float("inf"), 2, result.logs)
        result.loss.register_hook(lambda gradient: gradient * float("nan"))
        return result

    run.step = diverging  # type: ignore[method-assign]
    where = "the network has weights that are not finite" if often else "step 3 of epoch 2 is nan"
    if what == "loss":
        where = "the loss of step 2 of epoch 2 is inf"
    with pytest.raises(SegprefError, match=f"{where}.*training has diverged.*lower learning_rate"):
        run.run(4, checkpoint_seconds=-1.0 if often else 1e9)
    assert len(run.steps) == (6 if often else 8)
    for file in (run.folder.best, run.folder.last):
        assert all(value.isfinite().all() for value in load_file(file).values())
    found = run.folder.load_state()
    assert found is not None
    assert all(value.isfinite().all() for value in found[0].values())


def test_an_update_that_fp16_leaves_out_stops_nothing() -> None:
    position, optimizer = loop.Position(), torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    half: Any = SimpleNamespace(processes=1, precision="fp16", backward=lambda loss: None)
    result = StepResult(torch.tensor(float("inf"), requires_grad=True), 1, {"loss": (1.0, 1.0)})
    figures = EpochFigures(position.totals)
    loop._update(result, optimizer, position, half, figures, (0, 0))
    figures.read(nn.Linear(1, 1))
    assert position.totals == {"loss": [1.0, 1.0]}


def test_figures_on_the_device_are_the_same_to_the_last_bit() -> None:
    third, numbers = torch.tensor(1 / 3), torch.rand(9)
    mean = Derived(numbers, lambda read: float(read.mean()) * 9)
    logs = {"loss": (third, 3.0), "harm": (mean, 9.0), "count": (torch.tensor(2**40), 1.0)}
    read, other = read_logs([logs, {"plain": (0.1, 1.0)}])
    assert read == {
        "loss": (float(third), 3.0),
        "harm": (float(numbers.numpy().mean()) * 9, 9.0),
        "count": (2.0**40, 1.0),
    }
    assert other == {"plain": (0.1, 1.0)}


def test_no_epoch_is_an_error(numbers: Callable[..., Numbers]) -> None:
    with pytest.raises(SegprefError, match="epochs must be at least 1"):
        numbers("none", [0.0]).run(0)


def test_one_process_may_train_in_several_precisions() -> None:
    for precision in ("no", "bf16", "no"):
        assert Runtime(precision).precision == precision


def test_processes_share_one_mean() -> None:
    """Gradients are averaged over processes, so that each must scale its sum by their number."""
    others = [(0, {}), (5, {"loss": (2.0, 5.0)})]
    weight = nn.Parameter(torch.tensor(1.0))
    optimizer, position = torch.optim.SGD([weight], lr=1.0), loop.Position()
    third: Any = SimpleNamespace(
        processes=3,
        precision="no",
        backward=lambda loss: loss.backward(),
        gathered=lambda own: [*own, *others],
    )
    result, figures = StepResult(weight * 4, 3, {"loss": (1.0, 3.0)}), EpochFigures(position.totals)
    loop._update(result, optimizer, position, third, figures, (0, 0))
    assert weight.item() == pytest.approx(1 - 4 * 3 / 8)
    figures.read(nn.Linear(1, 1))
    assert position.totals == {"loss": [3.0, 8.0]}
    assert position.updates == 1


def test_a_process_without_images_adds_nothing() -> None:
    taken: list[list[int]] = []

    def step(indices: list[int], epoch: int, number: int) -> StepResult:
        taken.append(indices)
        return StepResult(torch.tensor(3.0, requires_grad=True), 2, {"loss": (3.0, 2.0)})

    parts = [
        loop._shared(
            step,
            [4, 7],
            0,
            0,
            SimpleNamespace(
                shared=lambda items, rank=rank: items[rank::3],
                step=lambda idle=False: nullcontext(),
            ),  # type: ignore[arg-type]
        )
        for rank in range(3)
    ]
    assert taken == [[4], [7], [4]]
    assert [part.terms for part in parts] == [2, 2, 0]
    assert parts[2].logs == {}
    assert parts[2].loss is not None
    assert float(parts[2].loss.detach()) == 0
    assert parts[2].loss.requires_grad
