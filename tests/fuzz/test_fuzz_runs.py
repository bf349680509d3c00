# ruff: noqa: E501
"""Changes of models, of run folders, and of descriptions of weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mutations import Mutation, cut, flipped, hold, labelled
from safetensors.torch import save_file

from segpref.data import Preparation
from segpref.policies import ModelCard, NetworkSpec, load_model, open_model, save_model
from segpref.training import RunFolder
from segpref.types import LabelSpace

Changed = Callable[[bytes], bytes]
UNET = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [2, 4], "strides": [2],
}  # fmt: skip


def card() -> ModelCard:
    return ModelCard(
        NetworkSpec("monai.networks.nets.UNet", UNET), LabelSpace("multi-class", ("background", "a")),
        Preparation(size=(16, 16)), labelled=("p1",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "best.safetensors"
    torch.manual_seed(0)
    save_model(path, card().network.build(), card())
    return path.read_bytes()


def weights(path: Path) -> dict[str, Any]:
    policy, found = load_model(path)
    assert found == card()
    return {name: value.numpy() for name, value in policy.network.state_dict().items()}


def opened(folder: Path, change: Changed, data: bytes, name: str = "best.safetensors") -> Any:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(change(data))
    return weights(path)


def nth(make: Any, number: int, data: bytes) -> bytes:
    return [*make(data)][number][1]


CHANGES: dict[str, Changed] = {
    **{f"cut {n}": partial(nth, partial(cut, count=40, seed=1), n) for n in range(40)},
    **{f"bit {n}": partial(nth, partial(flipped, count=60, seed=2), n) for n in range(60)},
    "with more behind": lambda data: data + b"\0" * 8,
    "without its first byte": lambda data: data[1:],
    "text": lambda _: b"weights\n" * 20,
    "html": lambda _: b"<!DOCTYPE html>",
    "zeros": lambda data: bytes(len(data)),
    "pickle": lambda _: b"\x80\x02}q\x00.",
    "zip": lambda _: b"PK\3\4" + bytes(60),
    "header as long as all": lambda data: (2**62).to_bytes(8, "little") + data[8:],
    "no header": lambda _: (2).to_bytes(8, "little") + b"{}",
    "deep header": lambda _: (8000).to_bytes(8, "little") + b"[" * 8000,
}


@pytest.mark.parametrize("change", CHANGES)
def test_models_that_changed(change: str, model: bytes, tmp_path: Path) -> None:
    hold(Mutation(change, "refuse", partial(opened, change=CHANGES[change], data=model)), tmp_path)


@pytest.mark.parametrize(
    "name", ["best.safetensors", "other.safetensors", "a b/best.safetensors", "ö/é.safetensors"]
)
def test_models_under_other_names(name: str, model: bytes, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/best.safetensors").write_bytes(model)
    right = partial(weights, tmp_path / "own")
    same = partial(opened, change=lambda data: data, data=model, name=name)
    hold(Mutation(name, "equal", same, right), tmp_path / "other")


PLAIN: dict[str, Any] = {
    "network": {"class_path": "monai.networks.nets.UNet", "init_args": UNET}, "weights": "w.safetensors",
    "label_space": {"kind": "multi-class", "names": ["background", "a"]}, "preparation": {"size": [16, 16]},
    "channels": ["image"],
}  # fmt: skip


def plain(folder: Path, description: Any, data: bytes | None = None, load: bool = True) -> Any:
    """A description of weights; as bytes it is written as it is."""
    network = NetworkSpec("monai.networks.nets.UNet", UNET).build()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), folder / "w.safetensors")
    if data is not None:
        (folder / "w.safetensors").write_bytes(data)
        shutil.copy(folder / "w.safetensors", folder / "w.pt")
    text = description if isinstance(description, bytes) else json.dumps(description).encode()
    (folder / "model.yaml").write_bytes(text)
    found = open_model(folder / "model.yaml")
    return [*found.policies()] and load


def descriptions() -> Iterator[Mutation]:
    for name, data in {
        "text": b"weights", "nothing": b"", "html": b"<!DOCTYPE html>", "pickle": b"\x80\x02}q\x00.",
        "zip": b"PK\3\4" + bytes(50), "zeros": bytes(300), "git lfs": b"version https://git-lfs\n",
    }.items():  # fmt: skip
        for file in ("w.safetensors", "w.pt"):
            odd = PLAIN | {"weights": file}
            yield Mutation(
                f"{file} is {name}", "refuse", partial(plain, description=odd, data=data)
            )
    for key, values in {
        "network": (None, 3, "x", [], {}, {"class_path": "os.system"}, {"class_path": 3},
                    {"class_path": "monai.networks.nets.UNet"},
                    {"class_path": "monai.networks.nets.UNet", "init_args": [1]},
                    {"class_path": "monai.networks.nets.UNet", "init_args": UNET | {"channels": "x"}}),
        "weights": (None, 3, [], {}, "", "gone.pt", "model.yaml"),
        "label_space": (None, 3, [], {}, {"kind": "x", "names": ["a"]}, {"kind": "multi-class", "names": ["a"]},
                        {"kind": "multi-class", "names": 3}),
        "preparation": (3, [], "x", {"dims": 5}, {"size": [16]}, {"size": "x"}, {"normalise": "zscore"},
                        {"window": [1, 1]}, {"size": [float("nan"), 16]}, {"no such": 1}),
    }.items():  # fmt: skip
        for value in values:
            what = f"weights described with {key} {value!r:.90}"
            yield Mutation(what, "refuse", partial(plain, description=PLAIN | {key: value}))
    for name, data in {
        "UTF-16": json.dumps(PLAIN).encode("utf-16"), "text": b"x", "nothing": b"", "a tag": b"!!python/object:os.x {}",
        "circles": b"a: &a\n  b: *a\n", "deep": b"[" * 4000, "billion": b"a: &a [1,1,1,1,1,1,1,1,1]\n" + b"".join(
            f"{n}: &{n} [{','.join(['*' + m] * 9)}]\n".encode() for m, n in zip("abcdefgh", "bcdefghi", strict=True)),
        "tabs": b"a:\n\t- b\n", "latin": b"a: \xe4\n",
    }.items():  # fmt: skip
        yield Mutation(f"description is {name}", "refuse", partial(plain, description=data))
    yield Mutation(
        "a description as it should be", "equal", partial(plain, description=PLAIN), lambda: True
    )
    marked = b"\xef\xbb\xbf" + json.dumps(PLAIN).encode()
    yield Mutation(
        "description with a mark", "equal", partial(plain, description=marked), lambda: True
    )


@pytest.mark.parametrize("mutation", labelled(descriptions()))
def test_described_weights(mutation: Mutation, tmp_path: Path) -> None:
    hold(mutation, tmp_path)


HISTORY = [{"epoch": n, "val_iou": 0.1 + n / 16, "train_loss": 0.5 / (n + 1)} for n in range(4)]


def a_run(folder: Path, data: bytes) -> RunFolder:
    run = RunFolder(folder / "run")
    run.open({"epochs": 3, "seed": 1}, resume=False)
    run.best.write_bytes(data)
    run.write_metrics(HISTORY)
    run.save_state({"weight": torch.arange(8.0)}, {"epoch": 3})
    run.write_summary({"kind": "fit", "seed": 1, "val_iou": 0.3, "best_epoch": 3})
    return run


def resumed(folder: Path, file: str, change: Changed | None, data: bytes) -> Any:
    """All that a run that goes on, or is reported on, reads of its folder."""
    run = a_run(folder, data)
    path = run.path / file
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    run.refuse_others({"epochs": 3, "seed": 1})
    state = run.load_state()
    assert state is not None
    return {
        "summary": run.finished_summary(), "metrics": run.read_metrics(),
        "weight": state[0]["weight"].numpy(), "position": state[1],
    }  # fmt: skip


RUNS: list[tuple[str, str, Changed | None]] = [
    ("best.safetensors", "gone", None),
    *(
        (file, f"cut {n}", partial(nth, partial(cut, count=15, seed=n, last=0.97), n))
        for file in ("summary.json", "run.json", "metrics.csv", "state.safetensors")
        for n in range(1, 15)
    ),
    *(("state.safetensors", f"bit {n}", partial(nth, partial(flipped, count=20, seed=4), n)) for n in range(20)),
    *(
        (file, f"is {data!r:.20}", lambda _, data=data: data)
        for file in ("summary.json", "run.json")
        for data in (b"", b"[]", b"null", b"3", b"{", b"\xff\xfe", b"[" * 3000, b'{"a": 1}')
    ),
    ("metrics.csv", "as UTF-16", lambda data: data.decode().encode("utf-16")),
    ("metrics.csv", "with text", lambda data: data.replace(b"0.1,", b"much,")),
    *(
        ("metrics.csv", f"without its last {n} rows", lambda data, n=n: b"".join(data.splitlines(True)[:-n]))
        for n in (1, 2, 3)
    ),
    ("metrics.csv", "of another width", lambda data: data + b"1,2\n"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "name", "change"), RUNS, ids=[f"{f} {n}" for f, n, _ in RUNS])
def test_run_folders_that_changed(
    file: str, name: str, change: Changed | None, model: bytes, tmp_path: Path
) -> None:
    hold(Mutation(name, "refuse", partial(resumed, file=file, change=change, data=model)), tmp_path)


def test_a_run_folder_as_it_was(model: bytes, tmp_path: Path) -> None:
    found = resumed(tmp_path, "run.json", lambda data: data, model)
    assert found["metrics"] == HISTORY
    np.testing.assert_array_equal(found["weight"], np.arange(8.0))
