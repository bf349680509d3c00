"""``compile``: the trainings that have it give what they give without it, and the others refuse it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from short_align import run

import segpref
from counting_backend import Counting
from own_process import own_processes
from segpref.data import Cache, Dataset, Folders, Preparation, prepare
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.judges import ModelJudge
from segpref.policies import ModelCard, NetworkSpec, PolicySpec, load_model, save_model
from segpref.policies.diffusion import DIFFUSION
from segpref.runtime import end_in_launch
from segpref.training import FitConfig, RunFolder, StrongAugmentation, check_compiled, fit
from segpref.training.semisupervised import FixMatch, UniMatch
from segpref.types import SegprefError
from waiting import FAILED_S

INPUT = Preparation(dims=2, size=(32, 32))


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    counting = Counting()
    monkeypatch.setattr("segpref.networks.compiled.BACKEND", counting)
    yield counting
    torch.compiler.reset()


def assert_same(one: RunFolder, other: RunFolder, tolerance: float = 0.0) -> None:
    """Weights, with their names, and figures."""
    for file in ("last", "best"):
        now, before = load_file(getattr(one, file)), load_file(getattr(other, file))
        assert now.keys() == before.keys()
        for name, value in before.items():
            torch.testing.assert_close(now[name], value, rtol=0, atol=tolerance)
    for row, expected in zip(one.read_metrics(), other.read_metrics(), strict=True):
        if tolerance:
            # At the first step all margins are 0, or what rounding makes of it.
            row["preference_accuracy"] = expected["preference_accuracy"] = 0.0
        assert row == pytest.approx(expected, abs=tolerance * 10, nan_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"refresh": 1, "reference": "round"},
        {"view": StrongAugmentation(), "average": 0.9, "precision": "bf16"},
        {"slates_ahead": True, "images_per_epoch": 6, "proposal_precision": "bf16"},
    ],
)
def test_an_alignment_gives_the_same(
    options: dict[str, Any], heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache,
    tmp_path: Path, backend: Counting,
) -> None:  # fmt: skip
    plain = run(tmp_path / "plain", heart_base, hearts, model_judge, store, **options)
    assert backend.runs == 0
    compiled = run(
        tmp_path / "compiled", heart_base, hearts, model_judge, store, compile=True, **options
    )
    # Updates of whole batches, and most of their views.
    assert backend.runs >= (8 if "slates_ahead" not in options else 2)
    assert_same(compiled, plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"dropout": 0.1, "precision": "bf16"}, {"method": FixMatch()}, {"method": UniMatch()}],
)
def test_a_segmenter_gives_the_same(
    options: dict[str, Any], hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path,
    backend: Counting,
) -> None:  # fmt: skip
    card = ModelCard(tiny_unet(4, (4, 8, 8)), hearts.label_space, INPUT)
    labelled, rest, validation = (
        hearts.of_patients(hearts.patients[part])
        for part in (slice(0, 2), slice(2, 4), slice(10, 12))
    )
    folders = []
    for compile in (False, True):
        folder = RunFolder(tmp_path / str(compile))
        folder.open({}, resume=False)
        # The last batch of an epoch has two images.
        fit(
            labelled, validation, card, folder, unlabelled=rest, epochs=2, images_per_epoch=6,
            batch_size=4, compile=compile, **options,
        )  # fmt: skip
        folders.append(folder)
        assert (backend.runs > 0) == compile
    assert_same(*folders)


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_setting_alone(heart_folder: Path, tmp_path: Path) -> None:
    names = ("background", "RV", "MYO", "LV")
    data = Folders(heart_folder, names=names, patient_pattern=PATIENT_PATTERN)
    given: dict[str, Any] = {
        "out": tmp_path / "run", "preparation": INPUT, "cache": tmp_path / "cache", "epochs": 1,
        "images_per_epoch": 4,
    }  # fmt: skip
    segpref.fit(data, **given)
    with pytest.raises(SegprefError, match=r"begun with other settings \(compile\)"):
        segpref.fit(data, **given, compile=True, resume=True)


def test_what_can_t_be_compiled_is_refused_before_any_work(
    heart_folder: Path, heart_base: Path, tmp_path: Path, backend: Counting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked, promptable = FitConfig(compile=True), "segpref.policies.promptable.PromptablePolicy"
    for policy in (DIFFUSION, PolicySpec(promptable)):
        with pytest.raises(SegprefError, match="compile is for segmenters, whose networks take"):
            check_compiled(asked, INPUT, policy)
        check_compiled(FitConfig(), INPUT, policy)
    with pytest.raises(SegprefError, match="images of one size"):
        check_compiled(asked, Preparation(dims=2, spacing_mm=(1, 1)), PolicySpec())
    for one in (Preparation(dims=3, patch=(8, 8, 8)), Preparation(dims=2, crop=(8, 8)), INPUT):
        check_compiled(asked, one, PolicySpec())
    with pytest.raises(SegprefError, match=r"a promptable network .* has no .* compile or"):
        segpref.fit(
            heart_folder, out=tmp_path / "promptable", promptable=torch.nn.Identity(), compile=True
        )
    # Nor is a line of a dataset read where there is no compiler.
    monkeypatch.setattr("segpref.networks.compiled.BACKEND", "inductor")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    calls: list[Callable[[], Any]] = [
        lambda: segpref.fit(heart_folder, out=tmp_path / "fit", compile=True),
        lambda: segpref.align(
            heart_base, heart_folder, judge="oracle", out=tmp_path / "align", compile=True
        ),
    ]
    for call in calls:
        with pytest.raises(SegprefError, match=r"there is no C\+\+ compiler g\+\+"):
            call()
    assert not list(tmp_path.iterdir())


def shared(out: Path, data: Path, base: Path, store: Path, environment: Mapping[str, str]) -> None:
    """One of several processes; batches of four, the last one of an epoch with three images."""
    from segpref.networks import compiled

    os.environ.update(environment)
    torch.set_num_threads(1)
    setattr(compiled, "BACKEND", counting := Counting())  # noqa: B010
    cache = Cache(store)
    reader = Folders(data, names=("background", "RV", "MYO", "LV"), patient_pattern=PATIENT_PATTERN)
    dataset = prepare(reader, INPUT, cache)
    judge = ModelJudge(load_model(base)[0], cache)
    run(
        out, base, dataset, judge, cache, images_per_epoch=7, compile="COMPILE" in environment,
    )  # fmt: skip
    assert (counting.runs > 0) == ("COMPILE" in environment)
    end_in_launch(0)


@pytest.mark.slow
def test_two_processes_compile_what_they_share(
    heart_folder: Path, hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path
) -> None:
    # Without normalisation, under which the biases have no gradient but rounding, blown up by Adam.
    card = ModelCard(tiny_unet(4, norm=None), hearts.label_space, INPUT)
    torch.manual_seed(0)
    base = tmp_path / "base.safetensors"
    save_model(base, card.network.build(), card)

    def launch(name: str, **extra: str) -> RunFolder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        started = []
        for rank in range(2):
            environment = {
                "RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": "2", "MASTER_PORT": port,
                "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "CUDA_VISIBLE_DEVICES": "",
                **extra,
            }  # fmt: skip
            arguments = (tmp_path / name, heart_folder, base, tmp_path / "store", environment)
            process = own_processes().Process(target=shared, args=arguments)
            process.start()
            started.append(process)
        for process in started:
            process.join(timeout=FAILED_S)
            if process.exitcode is None:
                process.kill()
        assert [process.exitcode for process in started] == [0, 0]
        return RunFolder(tmp_path / name)

    assert_same(launch("compiled", COMPILE="1"), launch("plain"), 1e-6)


@pytest.mark.long
def test_a_compiler_changes_the_last_bits_alone(
    hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], model_judge: ModelJudge, store: Cache,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With torch's own backend; ``test_a_segmenter_gives_the_same`` and others do it without.

    The network has no normalisation, under which Adam blows up what rounding leaves of the gradients of
    biases, which have no effect.
    """
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))
    card = ModelCard(tiny_unet(4, norm=None), hearts.label_space, INPUT)
    torch.manual_seed(0)
    base = tmp_path / "base.safetensors"
    save_model(base, card.network.build(), card)
    made: list[tuple[RunFolder, RunFolder]] = []
    for compile in (False, True):
        fitted = RunFolder(tmp_path / f"fit {compile}")
        fitted.open({}, resume=False)
        fit(
            hearts.of_patients(hearts.patients[:2]), hearts.of_patients(hearts.patients[10:]), card,
            fitted, start=base, epochs=2, images_per_epoch=10, batch_size=4, learning_rate=1e-3,
            compile=compile,
        )  # fmt: skip
        aligned = run(
            tmp_path / f"align {compile}", base, hearts, model_judge, store, epochs=1,
            learning_rate=1e-3, compile=compile,
        )  # fmt: skip
        made.append((fitted, aligned))
    for plain, compiled in zip(*made, strict=True):
        start, now = load_file(base), load_file(plain.last)
        assert any((now[name] - start[name]).abs().max() > 1e-3 for name in start)
        assert_same(compiled, plain, 1e-5)
        # Its model is one like any other, where nothing is compiled.
        image = torch.tensor(hearts[0].image)[None]
        logits = [load_model(one.last)[0].logits(image) for one in (compiled, plain)]
        torch.testing.assert_close(*logits, rtol=0, atol=1e-4)
