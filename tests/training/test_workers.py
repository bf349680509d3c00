"""Worker processes: the same slates, pairs and weights as without, and none of them is left behind."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from short_align import run

from own_process import started
from segpref.data import Cache, Dataset
from segpref.judges import ModelJudge, NoisyJudge
from segpref.policies import load_model
from segpref.preferences import Scoring, SlateWorkers
from segpref.training import AlignConfig, RunFolder
from segpref.types import Candidate, Case, SegprefError, Slate
from waiting import until

KINDS: dict[str, dict[str, Any]] = {
    "every step": {},
    "ahead": {"slates_ahead": True, "average": 0.9},
    "rounds": {"refresh": 1, "reference": "round"},
}

CASE = Case(id="a", patient="a", volume="a", image=np.zeros((1, 4, 4), np.float32))
SLATE = Slate(np.ones((3, 1, 4, 4), np.uint8), (Candidate("anchor"),) * 3)


class Numbered:
    """A judge whose score is the process that it was asked in."""

    needs_label, in_workers = False, True

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        return np.full(slate.masks.shape[:2], float(os.getpid()))


class Here(Numbered):
    """The same, and can't be asked elsewhere."""

    in_workers = False


class Puzzled(Numbered):
    """A judge that knows no case."""

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        raise SegprefError(f"{case.id} is unknown: give another judge")


class Broken(Numbered):
    """A judge with a mistake in it."""

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        raise ZeroDivisionError("a mistake")


class Dies(Numbered):
    """A judge whose process is killed."""

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        return np.empty(0)


class Stops(ModelJudge):
    """A judge that breaks off after so many slates."""

    in_workers, left = False, 99

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().score(case, slate)


def there(process: int) -> bool:
    """Whether a process lives, as one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def asked(workers: SlateWorkers, count: int = 8) -> set[int]:
    """The processes that scored."""
    found = workers.begin([CASE] * count, [SLATE] * count)()
    return {int(one.scores[0, 0]) for one in found}


# The same results -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_the_same_with_any_number_of_workers(
    kind: str, heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache,
    tmp_path: Path,
) -> None:  # fmt: skip
    judge = NoisyJudge(model_judge, noise=0.05, flip_rate=0.3)
    runs = [
        run(
            tmp_path / str(count), heart_base, hearts, judge, store,
            workers=count, write_preferences=True, **KINDS[kind],
        )
        for count in (0, 1, 2)
    ]  # fmt: skip
    files = ["last.safetensors", "best.safetensors", "metrics.csv"]
    if kind == "rounds":
        files += ["rounds/round-001.json", "rounds/round-001.masks.npy"]
    for other in runs[1:]:
        for name in files:
            assert (other.path / name).read_bytes() == (runs[0].path / name).read_bytes(), name
        assert pairs(other) == pairs(runs[0])


def pairs(folder: RunFolder) -> list[Any]:
    rows = [json.loads(line) for line in folder.preferences.read_text().splitlines()]
    return [(row["case"], row["candidates"], row["choice"]) for row in rows]


@pytest.mark.slow
def test_slates_ahead_are_of_the_weights_before_the_last_update(
    heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache, tmp_path: Path
) -> None:
    now, ahead, still = (
        pairs(run(tmp_path / name, heart_base, hearts, model_judge, store,
                  write_preferences=True, images_per_epoch=12, epochs=1, **options))
        for name, options in (
            ("now", {}), ("ahead", {"slates_ahead": True}), ("still", {"learning_rate": 0.0}),
        )
    )  # fmt: skip
    # Both of the first two steps are of the start; the third is of the weights after one update.
    first, second = 4, 8
    assert ahead[:first] == now[:first] == still[:first]
    assert ahead[first:second] == still[first:second] != now[first:second]
    assert ahead[second:] != still[second:]


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_seconds", [0.0, 1e9])
def test_a_run_with_slates_ahead_that_was_stopped_continues_to_the_same_bits(
    checkpoint_seconds: float, heart_base: Path, heart_judge: Path, hearts: Dataset, store: Cache,
    tmp_path: Path,
) -> None:  # fmt: skip
    judge = Stops(load_model(heart_judge)[0], store)
    options = {"slates_ahead": True, "images_per_epoch": 12, "average": 0.9}
    whole = run(tmp_path / "whole", heart_base, hearts, judge, store, **options)
    for left in (9, 7, 5):
        judge.left = left
        with pytest.raises(KeyboardInterrupt):
            run(
                tmp_path / "run", heart_base, hearts, judge, store,
                resume=True, checkpoint_seconds=checkpoint_seconds, **options,
            )  # fmt: skip
    judge.left = 99
    again = run(tmp_path / "run", heart_base, hearts, judge, store, resume=True, **options)
    for name in ("last", "best", "metrics"):
        assert getattr(again, name).read_bytes() == getattr(whole, name).read_bytes()


def test_what_has_no_effect_is_refused() -> None:
    with pytest.raises(SegprefError, match=r"slates_ahead has no effect .* \(refresh, votes\)"):
        AlignConfig(slates_ahead=True, refresh=2)


def test_the_number_of_workers_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.open({"workers": 2, "seed": 1}, resume=False)
    folder.open({"workers": 0, "seed": 1}, resume=True)


# Where it happens -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_judge_scores_in_workers_only_if_it_says_so() -> None:
    with SlateWorkers(None, Scoring(Numbered()), 2) as workers:
        asked(workers)  # until both are there, one may do all
        found = asked(workers, 64)
        assert os.getpid() not in found
        assert len(found) <= 2
    with SlateWorkers(None, Scoring(Here()), 2) as workers:
        assert asked(workers) == {os.getpid()}
    with SlateWorkers(None, Scoring(Numbered()), 0) as workers:
        assert asked(workers) == {os.getpid()}


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_error_in_a_worker_is_the_error_that_it_is_without(
    heart_base: Path, hearts: Dataset, store: Cache, tmp_path: Path
) -> None:
    for count in (0, 1):
        with pytest.raises(SegprefError, match="is unknown: give another judge"):
            run(tmp_path / str(count), heart_base, hearts, Puzzled(), store, workers=count)
    with (
        SlateWorkers(None, Scoring(Broken()), 1) as workers,
        pytest.raises(ZeroDivisionError, match="a mistake") as told,
    ):
        asked(workers)
    # What goes wrong there can be found there.
    assert "test_workers.py" in told.value.__notes__[0]


@pytest.mark.slow
def test_a_killed_worker_is_one_sentence(
    heart_base: Path, hearts: Dataset, store: Cache, tmp_path: Path
) -> None:
    with pytest.raises(SegprefError) as told:
        run(tmp_path, heart_base, hearts, Dies(), store, workers=2)
    said = str(told.value)
    assert said.startswith("a worker process was killed (exit status -9)")
    assert said.endswith("give fewer workers, or none, and resume the run")
    assert "\n" not in said


def test_what_can_not_be_pickled_is_refused() -> None:
    class Local(Numbered):
        pass

    with pytest.raises(SegprefError, match=r"can't be handed to a worker process.*workers to 0"):
        SlateWorkers(None, Scoring(Local()), 1)


# Nothing is left --------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_end_with_their_use_and_survive_an_interrupt() -> None:
    with SlateWorkers(None, Scoring(Numbered()), 2) as workers:
        found = asked(workers, 64)
        for process in found:  # as Ctrl-C in a terminal, which reaches all of them
            os.kill(process, signal.SIGINT)
        assert asked(workers, 64) & found
    assert not any(map(there, found))


def hangs(note: Path) -> None:
    """Note the workers, and wait for the end."""
    with SlateWorkers(None, Scoring(Numbered()), 2) as workers:
        found = asked(workers, 64)
        half = note.with_suffix(".part")
        half.write_text(" ".join(map(str, sorted(found))))
        half.rename(note)
        signal.pause()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(number: int, tmp_path: Path) -> None:
    process = started(hangs, note := tmp_path / "note")
    until(note.exists)
    found = [int(one) for one in note.read_text().split()]
    assert all(map(there, found))
    process.signal(number)
    assert process.ended().returncode
    until(lambda: not any(map(there, found)))
