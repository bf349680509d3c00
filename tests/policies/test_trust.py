"""Networks that are code of a model's own folder: run where they are trusted, and never mixed up."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from made_bundle import CONFIG, UNET, write

from segpref.cli.main import main
from segpref.cluster import worker
from segpref.data import Preparation
from segpref.policies import load_model, open_model, read_bundle, read_card, save_model
from segpref.trust import check, own_modules
from segpref.types import SegprefError
from segpref.workers import Workers

SLICES = Preparation(dims=2, normalise="z-score")


@pytest.fixture
def another_process() -> Iterator[Callable[[], None]]:
    """Forgets what was trusted and imported since the test began, as a new process would."""
    trusted, vouched = dict(own_modules.OWN), set(check._vouched)

    def forget() -> None:
        own = set(own_modules.OWN) - set(trusted)
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:
            del sys.modules[name]
        own_modules.OWN.clear()
        own_modules.OWN.update(trusted)
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
    networks = [read_bundle(root, trust=True).policy().network for root in (one, other, one)]
    assert [network.mark for network in networks] == ["1", "2", "1"]
    assert type(networks[0]) is type(networks[2])
    # Neither is what anybody else gets who asks for that name.
    assert importlib.util.find_spec("scripts") is None


STYLES = {
    "from": "from scripts.marks import MARK",
    "module": "import scripts.marks\nMARK = scripts.marks.MARK",
    "renamed": "import scripts.marks as marks\nMARK = marks.MARK",
    "submodule": "from scripts import marks\nMARK = marks.MARK",
    "relative": "from .marks import MARK",
    "beside": "from . import marks\nMARK = marks.MARK",
    "star": "from scripts.marks import *",
    "by function": "MARK = __import__('scripts.marks').marks.MARK",
    "at the top": "import helpers\nMARK = helpers.MARK",
}


@pytest.mark.parametrize("style", STYLES)
def test_imports_within_stay_within(
    tmp_path: Path, another_process: Callable[[], None], style: str
) -> None:
    found = []
    for mark in "12":
        root = with_code(tmp_path / mark, mark)
        (root / "helpers.py").write_text("from scripts.marks import MARK\n")
        (root / "scripts" / "nets.py").write_text(
            f"from monai.networks.nets import UNet\n{STYLES[style]}\n\n"
            "class Own(UNet):\n    mark = MARK\n\n"
            "    def later(self):\n        from scripts.marks import MARK\n        return MARK\n"
        )
        found.append(read_bundle(root, trust=True).policy().network)
    assert [network.mark for network in found] == ["1", "2"]
    # Imports that are run long after, too.
    assert [network.later() for network in found] == ["1", "2"]


def test_expressions_find_the_code_of_their_own_bundle(
    tmp_path: Path, another_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = types.ModuleType("scripts")  # somebody's own, of that name
    monkeypatch.setitem(sys.modules, "scripts", known)
    for mark in "12":
        root = with_code(tmp_path / mark, mark)
        network = {**UNET, "num_res_units": "$int(marks.MARK)"}
        write(
            root, {**CONFIG, "imports": ["$import scripts.marks as marks"], "network_def": network}
        )
        assert read_bundle(root, trust=True).network.arguments["num_res_units"] == int(mark)
        assert sys.modules["scripts"] is known
        assert "scripts.marks" not in sys.modules


def mark_of(network: torch.nn.Module) -> str:
    """What tells the bundle's class; in a worker process."""
    mark: str = network.mark  # type: ignore[assignment]
    return mark


@pytest.mark.slow
def test_worker_processes_get_the_class_of_each_bundle(
    tmp_path: Path, another_process: Callable[[], None]
) -> None:
    networks = [
        read_bundle(with_code(tmp_path / mark, mark), trust=True).policy().network for mark in "12"
    ]
    with Workers(1, mark_of) as workers:
        assert workers.begin([(network,) for network in networks])() == ["1", "2"]


def test_what_a_pool_is_told_is_read_after_its_trust(
    tmp_path: Path, another_process: Callable[[], None]
) -> None:
    network = read_bundle(with_code(tmp_path / "b", "1"), trust=True).policy().network
    told, content = worker.told(mark_of, [network]), pickle.dumps(network)
    another_process()
    make, arguments = worker._begun(told)
    assert make(*arguments) == "1"
    # Another process than one of the user's has no such class.
    another_process()
    with pytest.raises(ModuleNotFoundError, match="segpref_code_"):
        pickle.loads(content)


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
    assert str(root.resolve()) not in {str(own.folder) for own in own_modules.OWN.values()}


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
    assert own_modules.own_prefix(root.resolve()) not in sys.modules
    (again,) = open_model(file, trust=True).policies()
    assert again.network.mark == "1"
    assert again.digest() == policy.digest()

    another_process()
    root.rename(tmp_path / "moved")
    with pytest.raises(SegprefError, match=r"there is no folder .*b, which holds the code"):
        open_model(file, trust=True)


def images_in(folder: Path) -> list[str]:
    """Ten small images with labels, as options of a command."""
    data, rng = folder / "data", np.random.default_rng(0)
    for number in range(10):
        label = np.zeros((16, 16), np.uint8)
        label[4:12, 4:12], label[6:9, 6 : 8 + number % 3] = 1, 2
        image = (label + rng.normal(0, 0.4, label.shape)).astype(np.float32)
        for name, array in (("images", image), ("labels", label)):
            (data / name).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), data / name / f"p{number}.nii.gz")
    return [
        "--data", str(data), "--data_options", '{"names": ["background", "liver", "tumour"]}',
        "--cache", str(folder / "cache"),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_model_and_a_judge_may_both_bring_scripts(
    tmp_path: Path, another_process: Callable[[], None]
) -> None:
    given, out = images_in(tmp_path), tmp_path / "run"
    model, judge = with_code(tmp_path / "one", "1"), with_code(tmp_path / "other", "2")
    weights = torch.load(judge / "models" / "model.pt", weights_only=True)
    torch.save({name: 1.1 * one for name, one in weights.items()}, judge / "models" / "model.pt")
    # The other's module would not get past this.
    with (judge / "scripts" / "nets.py").open("a") as file:
        file.write("    assert MARK == '2'\n")
    command = [
        "align", *given, "--model", str(model), "--judge", str(judge), "--out", str(out), "--trust",
        "--epochs", "2", "--candidates", "4", "--labelled", "[p0]", "--workers", "1",
        "--preparation.dims", "2", "--preparation.normalise", "z-score",
    ]  # fmt: skip
    assert main(command) == 0
    digest = load_model(out)[0].digest()
    another_process()
    # In a process that has imported neither, the run is opened with both and is whole.
    assert main([*command, "--resume"]) == 0
    assert load_model(out)[0].digest() == digest
    assert load_model(out)[0].network.mark == "1"


@pytest.mark.slow
def test_what_was_aligned_of_such_a_bundle_is_opened_again(
    tmp_path: Path, another_process: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    given = images_in(tmp_path)
    root, out = with_code(tmp_path / "spleen", "1"), tmp_path / "run"
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
