"""What is written back is there whole, or not at all."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from made_bundle import write
from monai.networks.nets import UNet

import segpref.policies.plain_weights as plain
from segpref.policies import (
    PlainModel,
    atomic_folder,
    read_bundle,
    read_plain,
    write_bundle,
    write_plain,
)
from segpref.types import SegprefError

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_appears_with_those_above_it(tmp_path: Path) -> None:
    out = tmp_path / "run" / "tuned" / "model"
    with atomic_folder(out) as partial:
        (partial / "weights").write_text("w")
        assert not (tmp_path / "run").exists()
    assert (out / "weights").read_text() == "w"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with pytest.raises(SegprefError, match="there already"), atomic_folder(out):
        pass
    assert (out / "weights").read_text() == "w"
    (tmp_path / "other").mkdir()
    assert out.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("before", ["nothing", "an empty folder"])
def test_after_a_failure_nothing_is_there(tmp_path: Path, before: str) -> None:
    out = tmp_path / "run" / "tuned"
    if before != "nothing":
        out.mkdir(parents=True)

    def half() -> None:
        with atomic_folder(out) as partial:
            (partial / "weights").write_text("w")
            raise FULL

    with pytest.raises(SegprefError, match=r"tuned can't be written .*free some space"):
        half()
    assert not [path for path in tmp_path.rglob("*") if path != tmp_path / "run"]
    with atomic_folder(out) as partial:
        (partial / "weights").write_text("w")
    assert (out / "weights").exists()


def test_a_place_that_can_not_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SegprefError, match="choose a"), atomic_folder(tmp_path / "file" / "tuned"):
        pass
    assert (tmp_path / "file").is_file()


@pytest.fixture
def model(tmp_path: Path) -> PlainModel:
    settings: dict[str, Any] = {
        "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2],
    }  # fmt: skip
    (tmp_path / "in").mkdir()
    torch.save(UNet(**settings).state_dict(), tmp_path / "in" / "unet.pt")
    content = {
        "weights": "unet.pt",
        "network": {"class_path": "monai.networks.nets.UNet", "init_args": settings},
        "label_space": {"kind": "multi-class", "names": ["background", "a"]},
        "preparation": {"dims": 2, "size": [16, 16]},
    }
    (tmp_path / "in" / "model.yaml").write_text(yaml.safe_dump(content))
    return read_plain(tmp_path / "in" / "model.yaml")


def test_weights_without_their_description_are_not_left_behind(
    model: PlainModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, *rest: Any) -> None:
        weights(path, *rest)
        raise KeyboardInterrupt

    network, out = model.policy().network, tmp_path / "run" / "tuned"
    weights = plain.write_weights
    with monkeypatch.context() as patched:
        patched.setattr(plain, "write_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            write_plain(model, network, out)
    assert not (tmp_path / "run").exists()
    assert read_plain(write_plain(model, network, out)).card == model.card
    assert sorted(path.name for path in out.iterdir()) == ["model.yaml", "unet.pt"]


def test_a_bundle_on_a_full_disk_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise shutil.Error([("a", "b", str(FULL))])

    bundle = read_bundle(write(tmp_path / "spleen"))
    network, out = bundle.policy().network, tmp_path / "tuned" / "spleen"
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", full)
        with pytest.raises(SegprefError, match=r"spleen can't be written .*No space left"):
            write_bundle(bundle, network, out)
    assert not (tmp_path / "tuned").exists()
    assert read_bundle(write_bundle(bundle, network, out)).label_space == bundle.label_space
