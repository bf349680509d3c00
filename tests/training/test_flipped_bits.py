"""A flipped bit in any array or weight never changes a result: it is made good, or refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from short_align import run

from flips import flip
from segpref.data import Cache, Preparation, Reader, prepare
from segpref.disk import from_checked_json
from segpref.judges import ModelJudge
from segpref.policies import NetworkSpec, load_model, read_card, save_model
from segpref.training import RunFolder
from segpref.training.tasks import load_regressor
from segpref.types import Case, SegprefError, Slate

SIZE = Preparation(dims=2, size=(32, 32))
SHARES = (0.0, 0.02, 0.3, 0.6, 0.999)


class Interrupted(ModelJudge):
    """Ends the run in its second round."""

    left = 40

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().score(case, slate)


def aligned(
    place: Path, reader: Reader, base: Path, judge: Path, kind: type[ModelJudge] = ModelJudge
) -> tuple[bytes, bytes, str]:
    """What a run that is begun, or gone on with, comes to."""
    cache = Cache(place / "cache")
    hearts = prepare(reader, SIZE, cache)
    folder = place / "run"
    resume = (folder / "run.json").exists()
    run(
        folder, base, hearts, kind(load_model(judge)[0], cache), cache, epochs=3, refresh=1,
        reference="round", images_per_epoch=12, resume=resume, checkpoint_seconds=0.0,
    )  # fmt: skip
    target = RunFolder(folder)
    best, _ = load_model(target.best)
    return target.last.read_bytes(), target.metrics.read_bytes(), best.digest()


def or_sentence(use: Callable[..., Any], *arguments: Any) -> Any:
    """What it gives, or the one sentence with which it refuses."""
    try:
        return use(*arguments)
    except SegprefError as error:
        sentence = str(error)
    assert "\n" not in sentence
    return sentence


def kinds(place: Path) -> list[Path]:
    """One file of every kind: of the cache by what it holds, of the run folder each."""
    found: dict[tuple[str, str], Path] = {}
    for note in sorted(place.glob("cache/*/*/key.json")):
        what = str(from_checked_json(note.read_bytes())["key"]["what"])
        found |= {(what, file.name): file for file in note.parent.iterdir()}
    assert {"prepared volume", "masks"} <= {what for what, _ in found}
    files = [path for path in sorted((place / "run").rglob("*")) if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    rounds = [path for path in files if path.parent.name == "rounds" and path.name[0] != "."]
    assert {path.stem for path in weights} == {"best", "last", "state"}
    assert {path.name.split(".", 1)[1] for path in rounds} == {"json", "logits.npy", "masks.npy"}
    return [*found.values(), *weights, *rounds]


@pytest.mark.slow
def test_a_run_ends_the_same_or_is_refused(
    tmp_path: Path, heart_reader: Reader, heart_base: Path, heart_judge: Path
) -> None:
    whole = aligned(tmp_path / "whole", heart_reader, heart_base, heart_judge)
    with pytest.raises(KeyboardInterrupt):
        aligned(tmp_path / "part", heart_reader, heart_base, heart_judge, Interrupted)
    shutil.copytree(tmp_path / "part", tmp_path / "plain")
    assert aligned(tmp_path / "plain", heart_reader, heart_base, heart_judge) == whole
    ends: dict[str, list[str]] = {}
    for number, file in enumerate(kinds(tmp_path / "part")):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(tmp_path / "part", copy)
        hurt = copy / file.relative_to(tmp_path / "part")
        flip(hurt, SHARES[number % len(SHARES)])
        found = or_sentence(aligned, copy, heart_reader, heart_base, heart_judge)
        if isinstance(found, str):
            assert str(hurt) in found
            ends.setdefault("refused", []).append(hurt.name)
        else:
            assert found == whole, hurt
            ends.setdefault("same", []).append(hurt.name)
        shutil.rmtree(copy)
    # What can be made anew is made anew.
    assert {"images.npy", "labels.npy", "masks.npy", "key.json"} <= set(ends["same"])
    assert "state.safetensors" in ends["refused"]


# Models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.05, 0.1, 0.3, 0.7, 0.999])
def test_a_model_is_the_same_or_refused(tmp_path: Path, heart_base: Path, share: float) -> None:
    path = tmp_path / "model.safetensors"
    model, card = load_model(heart_base)
    for bit in range(8):
        save_model(path, model.network, card)
        flip(path, share, bit)
        found = or_sentence(load_model, path)
        if isinstance(found, str):
            assert str(path) in found
        else:
            assert found[0].digest() == model.digest()
            assert found[1] == card


def test_equal_models_are_equal_files(tmp_path: Path, heart_base: Path) -> None:
    model, card = load_model(heart_base)
    for name in "ab":
        save_model(tmp_path / name, model.network, card)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_model_of_an_earlier_version_is_read(tmp_path: Path, heart_base: Path) -> None:
    model, card = load_model(heart_base)
    path = tmp_path / "old.safetensors"
    save_file(model.network.state_dict(), path, {"card": card.to_json()})
    again, other = load_model(path)
    assert again.digest() == model.digest()
    assert other == card == read_card(path)


def test_a_state_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save_file({"network.weight": torch.zeros(2)}, folder.state, {"position": "{}"})
    with pytest.raises(SegprefError, match=r"no checksum.*delete it to start the run again"):
        folder.load_state()


@pytest.mark.parametrize("share", SHARES)
def test_a_state_is_what_was_saved_or_refused(tmp_path: Path, share: float) -> None:
    folder = RunFolder(tmp_path)
    tensors = {"network.weight": torch.arange(300.0), "step": torch.tensor(3)}
    for bit in range(8):
        folder.save_state(
            tensors, {"epoch": 1, "best": 0.5, "history": [{"val_iou": float("nan")}]}
        )
        flip(folder.state, share, bit)
        with pytest.raises(SegprefError, match="restore it, or delete it") as caught:
            folder.load_state()
        assert str(folder.state) in str(caught.value)


def test_a_regressor_is_checked(tmp_path: Path, heart_base: Path) -> None:
    _, card = load_model(heart_base)
    spec = NetworkSpec(
        "monai.networks.nets.ResNet",
        {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [2, 4, 8, 16],
         "spatial_dims": 2, "n_input_channels": 4, "num_classes": 3},
    )  # fmt: skip
    path = tmp_path / "regressor.safetensors"
    save_model(path, spec.build(), type(card)(spec, card.label_space, card.preparation))
    load_regressor(path)
    flip(path)
    with pytest.raises(SegprefError, match="copy it again, or train it again"):
        load_regressor(path)


@pytest.mark.parametrize("use", [load_model, read_card])
def test_a_model_is_never_mapped(
    tmp_path: Path, heart_base: Path, use: Callable[[Path], object]
) -> None:
    model, card = load_model(heart_base)
    path = tmp_path / "model.safetensors"
    save_model(path, model.network, card)
    kept = use(path)
    assert str(path) not in Path("/proc/self/maps").read_text()
    assert kept is not None
