"""Networks that are code of a model's own folder: run where they are trusted, and never mixed up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from made_bundle import CONFIG, UNET, write

from segpref.cli.main import main
from segpref.data import Preparation
from segpref.policies import load_model, open_model, read_bundle, read_card, save_model
from segpref.trust import check, folders
from segpref.types import SegprefError

SLICES = Preparation(dims=2, normalise="z-score")


@pytest.fixture
def another_process() -> Iterator[Callable[[], None]]:
    """Forgets what was trusted and imported since the test began, as a new process would."""
    path, trusted, vouched = [*sys.path], dict(folders._TRUSTED), set(check._vouched)

    def forget() -> None:
        sys.path[:] = path
        for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
            del sys.modules[name]
        folders._TRUSTED.clear()
        folders._TRUSTED.update(trusted)
        check._vouched.clear()
        check._vouched.update(vouched)

    yield forget
    forget()


def with_code(root: Path, mark: str) -> Path:
    """A bundle with a class of its own in the package that all bundles call ``scripts``."""
    write(root, {**CONFIG, "network_def": {**UNET, "_target_": "scripts.nets.Own"}})
    (root / "scripts").mkdir()
    (root / "scripts" / "__init__.py").touch()
    (root / "scripts" / "marks.py").write_text(f"MARK = {mark!r}\n")
    (root / "scripts" / "nets.py").write_text(
        "from monai.networks.nets import UNet\nfrom scripts.marks import MARK\n\n"
        "class Own(UNet):\n    mark = MARK\n"
    )
    return root


def test_a_second_bundle_never_gets_the_first_ones_class(
    tmp_path: Path, another_process: Callable[[], None]
) -> None:
    one, other = with_code(tmp_path / "one", "1"), with_code(tmp_path / "other", "2")
    assert read_bundle(one, trust=True).policy().network.mark == "1"
    told = r"other contains code named scripts, and so does .*one: .* give a folder of masks"
    with pytest.raises(SegprefError, match=told):
        read_bundle(other, trust=True)
    assert read_bundle(one, trust=True).policy().network.mark == "1"
    another_process()
    assert read_bundle(other, trust=True).policy().network.mark == "2"


def test_a_class_that_is_named_by_a_reference(
    tmp_path: Path, another_process: Callable[[], None]
) -> None:
    root = with_code(tmp_path / "b", "1")
    network = {**UNET, "_target_": "@mine"}
    write(root, {**CONFIG, "network_def": network, "mine": "scripts.nets.Own"})
    with pytest.raises(SegprefError, match=r"of the bundle's own \(scripts\.nets\.Own\)"):
        read_bundle(root)
    assert read_bundle(root, trust=True).policy().network.mark == "1"


def test_code_that_has_the_name_of_what_is_imported_is_refused(
    tmp_path: Path, another_process: Callable[[], None]
) -> None:
    root = with_code(tmp_path / "b", "1")
    (root / "numpy.py").touch()
    with pytest.raises(SegprefError, match=r"code named numpy, and so does .*numpy"):
        read_bundle(root, trust=True)


def test_a_bundle_of_installed_classes_runs_no_code(tmp_path: Path) -> None:
    root = write(tmp_path / "b")
    (root / "scripts").mkdir()
    (root / "scripts" / "any.py").touch()
    bundle = read_bundle(root, trust=True)
    assert bundle.card(SLICES).code is None
    assert str(root) not in sys.path


def test_a_model_file_remembers_where_its_code_is(
    tmp_path: Path, another_process: Callable[[], None]
) -> None:
    root, file = with_code(tmp_path / "b", "1"), tmp_path / "best.safetensors"
    bundle = read_bundle(root, trust=True)
    policy = bundle.policy()
    save_model(file, policy.network, bundle.card(SLICES))
    assert read_card(file).code == str(root)

    another_process()
    for opened in (open_model, load_model):
        with pytest.raises(SegprefError, match=r"is code in .*b, which would be run: .* --trust"):
            opened(file)
    assert not any(name.startswith("scripts") for name in sys.modules)
    (again,) = open_model(file, trust=True).policies()
    assert again.network.mark == "1"
    assert again.digest() == policy.digest()

    another_process()
    root.rename(tmp_path / "moved")
    with pytest.raises(SegprefError, match=r"there is no folder .*b, which holds the code"):
        open_model(file, trust=True)


@pytest.mark.slow
def test_what_was_aligned_of_such_a_bundle_is_opened_again(
    tmp_path: Path, another_process: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    data, rng = tmp_path / "data", np.random.default_rng(0)
    for number in range(10):
        label = np.zeros((16, 16), np.uint8)
        label[4:12, 4:12], label[6:9, 6 : 8 + number % 3] = 1, 2
        image = (label + rng.normal(0, 0.4, label.shape)).astype(np.float32)
        for name, array in (("images", image), ("labels", label)):
            (data / name).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), data / name / f"p{number}.nii.gz")
    root, out = with_code(tmp_path / "spleen", "1"), tmp_path / "run"
    given = [
        "--data", str(data), "--data_options", '{"names": ["background", "liver", "tumour"]}',
        "--cache", str(tmp_path / "cache"),
    ]  # fmt: skip
    short = ["--epochs", "1", "--candidates", "4", "--judge", "oracle", "--labelled", "[p0]"]
    prepared = ["--preparation.dims", "2", "--preparation.normalise", "z-score"]
    model = ["--model", str(root), "--out", str(out)]
    assert main(["align", *model, *given, *short, *prepared, "--trust", "--keep_tuned"]) == 0
    tuned = load_model(out)[0].digest()

    another_process()
    assert main(["evaluate", "--model", str(out), *given]) == 1
    assert "add --trust" in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", "--model", str(out), *given, "--trust"]) == 0
    assert open_model(out, trust=True).policies()[0].digest() == tuned
    weights = torch.load(out / "tuned" / "spleen" / "models" / "model.pt", weights_only=True)
    assert set(weights) == set(load_model(out)[0].network.state_dict())

    # Labels go on from there, with its preparation, network and split.
    another_process()
    more = ["fit", *given, "--start", str(out), "--epochs", "1", "--learning_rate", "1e-6"]
    again = tmp_path / "again"
    assert main([*more, "--out", str(again)]) == 1
    assert "add --trust" in " ".join(capsys.readouterr().err.split())
    assert main([*more, "--out", str(again), "--trust"]) == 0
    before, card = read_card(out / "best.safetensors"), read_card(again / "best.safetensors")
    assert (card.code, card.network, card.preparation) == (
        before.code,
        before.network,
        before.preparation,
    )
    assert set(card.labelled) > {"p0"}
    assert (again / "split.json").read_text() == (out / "split.json").read_text()
    assert load_model(again)[0].network.mark == "1"
