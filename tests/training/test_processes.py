"""Runs in processes of their own: killed without warning, or several to one training."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from own_process import own_processes
from segpref.data import Cache, Dataset, Folders, Preparation, prepare
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.judges import ModelJudge
from segpref.policies import ModelCard, NetworkSpec, load_model, save_model
from segpref.proposals import IntensityTTA, LargestComponent, SlateProposals, UniformOffset
from segpref.runtime import end_in_launch
from segpref.training import PreferenceSignal, RunFolder, align
from segpref.types import Case, Slate
from waiting import FAILED_S

pytestmark = pytest.mark.slow


def opened(data: Path, store: Path) -> tuple[Dataset, Cache]:
    torch.set_num_threads(1)
    reader = Folders(data, names=("background", "RV", "MYO", "LV"), patient_pattern=PATIENT_PATTERN)
    cache = Cache(store)
    return prepare(reader, Preparation(dims=2, size=(32, 32)), cache), cache


def counted(kill_at: int | None) -> list[str]:
    """What is done to files from here on; dies at this number of it."""
    done: list[str] = []

    def seen(event: str, _: object) -> None:
        if event in ("open", "os.rename", "os.remove"):
            done.append(event)
            if len(done) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(seen)
    return done


def tuned(
    out: Path, data: Path, base: Path, judge: Path, store: Path, kill_at: int | None, count: Path
) -> None:
    """24 steps that save their position whenever they can."""
    done = counted(kill_at)
    dataset, cache = opened(data, store)
    folder = RunFolder(out)
    folder.open({"same": True}, resume=True)
    align(
        base,
        dataset.of_patients(dataset.patients[4:8]),
        dataset.of_patients(dataset.patients[8:]),
        ModelJudge(load_model(judge)[0], cache),
        PreferenceSignal(dataset.label_space),
        folder,
        proposals=SlateProposals(8),
        epochs=6,
        batch_size=4,
        learning_rate=1e-3,
        cache=cache,
        checkpoint_seconds=0.0,
    )
    count.write_text(str(len(done)))


def test_ten_kills_change_nothing(
    heart_folder: Path, heart_base: Path, heart_judge: Path, tmp_path: Path
) -> None:
    def exit_status(name: str, kill_at: int | None = None) -> int | None:
        rest = (heart_folder, heart_base, heart_judge, tmp_path / "store", kill_at)
        count = tmp_path / f"{name} count"
        process = own_processes().Process(target=tuned, args=(tmp_path / name, *rest, count))
        process.start()
        process.join()
        return process.exitcode

    # What is computed once lies in the store after the first run.
    assert exit_status("warm-up") == exit_status("whole") == 0
    whole = int((tmp_path / "whole count").read_text())

    chance = random.Random(0)
    kills, finished, run = 0, [], 0
    while kills < 10 or not finished:
        at = int(chance.uniform(0.1, 0.9) * whole) if kills < 10 else None
        status = exit_status(f"run-{run}", at)
        if status == 0:
            finished.append(RunFolder(tmp_path / f"run-{run}"))
            run += 1
        else:
            assert status == -9
            kills += 1
    expected = RunFolder(tmp_path / "whole")
    for folder in finished:
        assert folder.finished
        for file in ("last", "best", "metrics", "summary"):
            assert getattr(folder, file).read_bytes() == getattr(expected, file).read_bytes(), file


class Picky:
    """Likes large masks; has no score about two of the patients."""

    needs_label = False

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        if case.patient in ("phantom005", "phantom007"):
            return np.full((len(slate), 1), np.nan)
        return (slate.masks > 0).mean(axis=tuple(range(2, slate.masks.ndim)))


def shared(out: Path, data: Path, base: Path, store: Path, environment: Mapping[str, str]) -> None:
    """Batches of two; the last one of an epoch has a single image."""
    os.environ.update(environment)
    dataset, cache = opened(data, store)
    folder = RunFolder(out)
    folder.open({}, resume=False)
    families = (IntensityTTA(), LargestComponent(), UniformOffset())
    align(
        base,
        dataset.of_patients(dataset.patients[4:8]).take(range(15)),
        dataset.of_patients(dataset.patients[8:]),
        Picky(),
        PreferenceSignal(dataset.label_space),
        folder,
        proposals=SlateProposals(8, families),
        epochs=2,
        batch_size=2,
        learning_rate=1e-3,
        cache=cache,
    )
    end_in_launch(0)


def test_two_processes_train_as_one(
    heart_folder: Path, hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path
) -> None:
    # Without normalisation, under which the biases have no gradient but rounding, blown up by Adam.
    card = ModelCard(tiny_unet(4, norm=None), hearts.label_space, Preparation(2, size=(32, 32)))
    torch.manual_seed(0)
    path = tmp_path / "base.safetensors"
    save_model(path, card.network.build(), card)

    def launch(name: str, count: int) -> RunFolder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        started = []
        for rank in range(count):
            environment = {
                "RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{count}",
                "LOCAL_WORLD_SIZE": f"{count}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                "CUDA_VISIBLE_DEVICES": "",
            } if count > 1 else {"CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
            arguments = (tmp_path / name, heart_folder, path, tmp_path / "store")
            process = own_processes().Process(target=shared, args=(*arguments, environment))
            process.start()
            started.append(process)
        for process in started:
            process.join(timeout=FAILED_S)
            if process.exitcode is None:
                process.kill()
        assert [process.exitcode for process in started] == [0] * count
        return RunFolder(tmp_path / name)

    one, two = launch("one", 1), launch("two", 2)
    alone, together = load_file(one.last), load_file(two.last)
    base = load_file(path)
    assert any((alone[name] - base[name]).abs().max() > 1e-3 for name in base)
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(two.read_metrics(), one.read_metrics(), strict=True):
        assert mine.keys() == theirs.keys()
        for name in ("loss", "margin", "pairs_per_image", "volume_ratio_LV", "val_iou"):
            if name in mine:
                assert mine[name] == pytest.approx(theirs[name], abs=1e-4), name
