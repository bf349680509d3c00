"""Memory that ran out is one sentence with the setting to change, from every command."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segpref.cli.main import COMMANDS, main
from segpref.memory import out_of_memory_reason, ran_out

CUDA = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which "
    "10.00 GiB is free. Including non-PyTorch memory, this process has 66.72 GiB memory in use. Of the "
    "allocated memory 30.00 GiB is allocated by PyTorch, and 124.98 MiB is reserved by PyTorch but "
    "unallocated. If reserved but unallocated memory is large try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
OLD = (
    "CUDA out of memory. Tried to allocate 20.00 GiB (GPU 1; 79.11 GiB total capacity; 30.00 GiB "
    "already allocated; 10.00 GiB free; 31.00 GiB reserved in total by PyTorch)"
)
CPU = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 4611686018427387904 bytes. Error code 12 (Cannot allocate memory)"
)
NEEDED = {
    "demo": [],
    "fit": ["--data", "d", "--out", "OUT"],
    "audit": ["--model", "m", "--judge", "j", "--data", "d"],
    "align": ["--model", "m", "--judge", "j", "--data", "d", "--out", "OUT"],
    "evaluate": ["--model", "m", "--data", "d"],
    "predict": ["--model", "m", "--input", "i", "--output", "o"],
    "sample": ["--model", "m", "--input", "i", "--output", "o"],
    "export": ["--model", "m", "--out", "o", "--size", "[64, 64]"],
    "pack": ["--data", "d", "--out", "o"],
    "study": ["--recipe", "phantoms", "--data", "d"],
    "ambiguity": ["--data", "d"],
    "prompted": ["--data", "d", "--others", "o"],
    "collect init": ["--out", "OUT"],
    "collect report": ["STUDY"],
    "collect serve": ["STUDY"],
    "collect raters": ["STUDY"],
    "collect backup": ["STUDY", "--out", "o"],
    "collect restore": ["STUDY", "b"],
    "collect erase": ["STUDY", "--patient", "p", "--reason", "r"],
    "collect export": ["STUDY", "--out", "o"],
    "collect import": ["STUDY", "--input", "i"],
}
SETTINGS = {
    "fit": "--batch_size 6 in place of 8",
    "align": "--batch_size 6 in place of 8",
    "audit": "--candidates 25 in place of 32",
    "predict": "--batch_size 6 in place of 8",
    "sample": "--batch_size 51 in place of 64",
    "export": "--size",
    "collect init": "--batch_size 6 in place of 8",
    **dict.fromkeys(("demo", "study", "ambiguity", "prompted"), "a smaller batch_size"),
}
ERRORS = [
    torch.OutOfMemoryError(CUDA),
    torch.cuda.OutOfMemoryError(OLD),
    RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
    RuntimeError(CPU),
    MemoryError(),
]


def failing(monkeypatch: pytest.MonkeyPatch, command: str, error: BaseException) -> None:
    name = command.replace(" ", "_")
    module = importlib.import_module(f"segpref.cli.{name}")
    usual = getattr(module, name)

    @functools.wraps(usual)
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module, name, fails)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_says_what_to_change(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    failing(monkeypatch, command, ERRORS[0])
    options = [str(tmp_path) if one == "OUT" else one for one in NEEDED[command]]
    assert main([*command.split(), *options]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"segpref {command}: GPU 0 ran out of memory: 20.00 GiB more")
    assert "10.00 GiB were free and it has 79.11 GiB in all" in printed
    assert SETTINGS.get(command, "") in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "old cuda", "driver", "cpu", "python"])
def test_every_kind_of_error_is_a_sentence(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    failing(monkeypatch, "fit", error)
    assert main(["fit", "--data", "d", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert "ran out of memory" in printed
    assert "in place of 8" in printed
    assert "Traceback" not in printed
    assert printed.count("\n") == 1


def test_real_errors_of_the_allocators_are_known() -> None:
    with pytest.raises(RuntimeError) as torchs:
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(MemoryError) as numpys:
        np.empty(2**60, np.uint8)
    for caught in (torchs, numpys):
        assert ran_out(caught.value)
        printed = out_of_memory_reason(caught.value, {"--batch_size": 8})
        assert "--batch_size 1 in place of 8" in printed
        assert "more were asked for" in printed


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes differ"), ValueError(CPU)])
def test_other_errors_stay_what_they_are(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failing(monkeypatch, "fit", error)
    with pytest.raises(type(error)):
        main(["fit", "--data", "d", "--out", str(tmp_path)])


def test_it_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, "fit", ERRORS[0])
    main(["fit", "--data", "d", "--out", str(tmp_path)])
    assert "nothing was learned yet" in capsys.readouterr().err
    (tmp_path / "state.safetensors").touch()
    main(["fit", "--data", "d", "--out", str(tmp_path)])
    assert f"what was learned is kept in {tmp_path}, and --resume" in capsys.readouterr().err


def test_a_patch_is_made_smaller_on_every_side() -> None:
    printed = out_of_memory_reason(ERRORS[0], {"--patch": (96, 96, 16), "--batch_size": 1})
    assert '--patch "[80, 80, 16]" in place of [96, 96, 16]' in printed
    assert "batch_size" not in printed
