"""A step's batch that is shared out over processes: the loss and the gradient of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from made_margins import ALL
from torch import Tensor

from segpref.objectives import DPO, SupervisedLoss, grouped, step_objective, update_strength
from segpref.runtime import Runtime
from segpref.types import IGNORE, LabelSpace, Margins, Objective

PAIRS, IMAGES, PROCESSES = 11, 7, 3
CASES = np.sort(np.random.default_rng(3).integers(0, IMAGES, PAIRS))

Work = Callable[[int], Any]


class Talk:
    """Processes one after the other: at first each says its part, the next time round it hears all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime = Runtime()
        self.rank, self.call, self.said = 0, 0, [[] for _ in range(PROCESSES)]
        self.heard = False
        monkeypatch.setattr(Runtime, "rank", property(lambda _: self.rank))
        monkeypatch.setattr(Runtime, "processes", PROCESSES)
        monkeypatch.setattr(Runtime, "gathered", lambda _, part: self._gathered(list(part)))
        monkeypatch.setattr(self.runtime._accelerator, "reduce", self._summed)

    def __call__(self, work: Work, idle: Sequence[int] = ()) -> list[Any]:
        # What is said later may depend on what was heard before: so often that all have heard all.
        for turn in range(3):
            results, before = [], [list(said) for said in self.said]
            self.heard, self.before = turn > 0, before
            self.said = [[] for _ in range(PROCESSES)]
            for self.rank in range(PROCESSES):
                with self.runtime.step(idle=self.rank in idle):
                    results.append(work(self.rank))
        assert len({len(said) for said in self.said}) == 1  # else they would wait for each other
        return results

    def _exchanged(self, part: Any) -> list[Any]:
        number = len(self.said[self.rank])
        self.said[self.rank].append(part)
        every = [said[number] if len(said) > number else part for said in self.before]
        return [part if n == self.rank else one for n, one in enumerate(every)]

    def _gathered(self, part: list[Any]) -> list[Any]:
        return [item for one in self._exchanged(part) for item in one]

    def _summed(self, values: Tensor, how: str) -> Tensor:
        assert how == "sum"
        return torch.stack(self._exchanged(values)).sum(0)


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> Talk:
    return Talk(monkeypatch)


def made(seed: int = 0, groups: bool = False) -> Margins:
    rng = np.random.default_rng(seed)

    def column(scale: float, low: float = -1.0) -> Tensor:
        return torch.from_numpy(rng.uniform(low, 1.0, PAIRS) * scale)

    return Margins(
        policy=column(2.0).requires_grad_(),
        reference=column(1.0),
        gap=column(0.5, 0.1),
        winner=(column(0.4, 0.1) * -1).requires_grad_(),
        reference_winner=column(0.4, 0.1) * -1,
        uncertainty=column(0.2, 0.05),
        weight=column(1.0, 0.2) if groups else None,
        # Two neighbouring pairs of an image are one group.
        group=torch.from_numpy(np.unique(CASES * 100, return_inverse=True)[1]) if groups else None,
    )


def own_of(whole: Margins, rank: int) -> tuple[Margins | None, np.ndarray]:
    rows = np.flatnonzero(rank == CASES % PROCESSES)
    if not len(rows):
        return None, rows
    columns = {
        name: None if value is None else value.detach()[torch.from_numpy(rows)]
        for name in whole.__dataclass_fields__
        for value in [getattr(whole, name)]
    }
    for name in ("policy", "winner"):
        columns[name].requires_grad_()
    return Margins(**columns), rows


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_values_and_gradients_are_those_of_the_whole_batch(
    name: str, groups: bool, talk: Talk
) -> None:
    objective: Objective = ALL[name]
    whole = made(groups=groups)
    expected = objective(grouped(whole))
    slopes = torch.autograd.grad(
        expected.sum(), [whole.policy, whole.winner], allow_unused=True, materialize_grads=True
    )
    pull = update_strength(whole, objective)

    def work(rank: int) -> Any:
        margins, rows = own_of(whole, rank)
        shared = step_objective(objective, margins, CASES[rows] // PROCESSES)
        assert margins is not None
        losses = shared(grouped(margins))
        found = torch.autograd.grad(
            losses.sum(), [margins.policy, margins.winner], allow_unused=True,
            materialize_grads=True,
        )  # fmt: skip
        return (
            losses.detach(),
            shared.of_own(losses).detach(),
            rows,
            found,
            update_strength(margins, shared),
        )

    own = []
    for losses, mine, rows, found, strength in talk(work):
        # In the order of the batch, whichever process has them.
        torch.testing.assert_close(losses, expected.detach(), rtol=1e-12, atol=1e-12)
        own.append(mine)
        torch.testing.assert_close(strength, pull[rows], rtol=1e-10, atol=1e-12)
        for slope, right in zip(found, slopes, strict=True):
            torch.testing.assert_close(slope, right[rows], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.cat(own).sum(), expected.detach().sum())


def test_a_process_without_pairs_or_images_takes_part(talk: Talk) -> None:
    whole = made()

    def work(rank: int) -> Any:
        margins, rows = own_of(whole, rank)
        if rank == 0:  # has images but no pair
            margins, rows = None, rows[:0]
        shared = step_objective(DPO(), margins, CASES[rows] // PROCESSES)
        # Process 2 is idle: it looks at another's image, which must not count twice.
        return None if margins is None else shared(grouped(margins)).detach()

    nothing, one, _ = talk(work, idle=[2])
    assert nothing is None
    only = own_of(whole, 1)[0]
    assert only is not None
    torch.testing.assert_close(one, DPO()(only).detach())


def test_alone_nothing_is_changed() -> None:
    Runtime()
    margins = grouped(replace(made(), group=None, weight=None))
    shared = step_objective(DPO(), margins, CASES)
    assert torch.equal(shared(margins), DPO()(margins))
    assert torch.equal(shared.of_own(shared(margins)), shared(margins))


@pytest.mark.parametrize("kind", ["multi-class", "multi-label"])
@pytest.mark.parametrize("batch_dice", [True, False])
def test_the_supervised_loss_is_that_of_the_whole_batch(
    kind: Any, batch_dice: bool, talk: Talk
) -> None:
    rng = np.random.default_rng(0)
    names = ("background", "one", "two") if kind == "multi-class" else ("one", "two")
    space = LabelSpace(kind, names)
    logits = torch.from_numpy(rng.normal(size=(IMAGES, space.channels, 6, 5))).requires_grad_()
    labels = rng.integers(
        0, len(names) if kind == "multi-class" else 2, (IMAGES, space.fields, 6, 5)
    )
    labels[rng.random(labels.shape) < 0.2] = IGNORE
    labels[3] = IGNORE  # an image that nobody says anything about
    targets = torch.from_numpy(labels.astype(np.uint8))
    loss = SupervisedLoss(space, batch_dice)
    expected = loss(logits, targets)
    (slope,) = torch.autograd.grad(expected, logits)

    def work(rank: int) -> Any:
        own = logits.detach()[rank::PROCESSES].requires_grad_()
        value = loss(own, targets[rank::PROCESSES])
        # As a step weights it.
        (found,) = torch.autograd.grad(value * len(own) / IMAGES, own)
        return value.detach(), found

    for rank, (value, found) in enumerate(talk(work)):
        torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found, slope[rank::PROCESSES], rtol=1e-9, atol=1e-12)
