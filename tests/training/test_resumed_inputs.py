"""A run goes on with the images and files that it was begun with only, and a model judges others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from safetensors.torch import save_file

from segpref import align, fit
from segpref.data import Preparation
from segpref.data.phantoms import PATIENT_PATTERN, write_phantoms
from segpref.judges import Committee, ModelJudge
from segpref.objectives import IPO
from segpref.policies import load_model, save_model
from segpref.types import SegprefError

READ = {
    "data_options": {"names": ["background", "RV", "MYO", "LV"], "patient_pattern": PATIENT_PATTERN}
}
FORM = Preparation(dims=2, size=(32, 32))
pytestmark = pytest.mark.slow

SHORT: dict[str, Any] = {"epochs": 1, "images_per_epoch": 4}


@pytest.fixture(scope="module", autouse=True)
def _no_reports() -> Iterator[None]:
    """Pages take longer than these runs, and nobody looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        fitting, aligning = map(import_module, ("segpref.workflows.fit", "segpref.workflows.align"))
        patch.setattr(fitting, "write_report", lambda folder: folder.path)
        patch.setattr(aligning, "alignment_report", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_unet: Callable[..., Any]) -> Path:
    """A dataset, a base, a judge and an alignment that looks as if it had been stopped."""
    root = tmp_path_factory.mktemp("begun")
    data = write_phantoms(root / "data", "cardiac", (32, 32), 12, seed=0, slices_per_patient=1)
    where = {**READ, "cache": root / "cache"}
    made: dict[str, Any] = {"preparation": FORM, "network": tiny_unet(4), **SHORT, **where}
    fit(data, out=root / "base", labelled=2, **made)
    fit(data, out=root / "judge", part="judge", split=root / "base/split.json", seed=1, **made)
    begin(root, root)
    return root


def begin(root: Path, out: Path, **options: Any) -> Any:
    given: dict[str, Any] = {"judge": root / "judge", **SHORT, **READ, "cache": root / "cache"}
    given |= options
    return align(root / "base", root / "data", out=out / "run", **given)


@pytest.fixture
def begun(place: Path, tmp_path: Path) -> Path:
    """A copy of it all under the same names, so that everything may be changed."""
    kept = tmp_path / "kept"
    shutil.copytree(place, kept)
    (kept / "run" / "summary.json").unlink()
    return kept


def resumed(root: Path, place: Path, **options: Any) -> Any:
    """The run goes on, as if it had been begun with the paths of the copy."""
    for name in ("run.json", "config.yaml"):
        file = root / "run" / name
        file.write_text(file.read_text().replace(str(place), str(root)))
    return begin(root, root, resume=True, **options)


def changed_voxel(path: Path) -> None:
    image: Any = nib.load(path)
    voxels = np.asanyarray(image.dataobj).copy()
    voxels.flat[0] = 1 - voxels.flat[0]
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), path)


def of_part(root: Path, part: str, folder: str) -> Path:
    patient = json.loads((root / "run/split.json").read_text())[part][-1]
    return next(path for path in sorted((root / "data" / folder).iterdir()) if patient in path.name)


@pytest.mark.parametrize("folder", ["images", "labels"])
@pytest.mark.parametrize(
    ("part", "said"), [("train", "images"), ("validation", "validation images")]
)
def test_another_image_or_label(
    begun: Path, place: Path, folder: str, part: str, said: str
) -> None:
    changed_voxel(of_part(begun, part, folder))
    with pytest.raises(SegprefError, match=f"other {said} or labels than there are now"):
        resumed(begun, place)


def test_an_image_is_gone(begun: Path, place: Path) -> None:
    for folder in ("images", "labels"):
        of_part(begun, "train", folder).unlink()
    with pytest.raises(SegprefError, match="other images or labels than there are now"):
        resumed(begun, place)


def test_another_split(begun: Path, place: Path) -> None:
    file = begun / "base" / "split.json"
    split = json.loads(file.read_text())
    split["test"].append(split["train"].pop())
    file.write_text(json.dumps(split))
    with pytest.raises(SegprefError, match="begun with another split of the patients"):
        resumed(begun, place)


def test_a_judge_that_was_trained_again(begun: Path, place: Path) -> None:
    file = begun / "judge" / "best.safetensors"
    policy, card = load_model(file)
    for weight in policy.network.parameters():
        weight.data.mul_(1.5)
    save_model(file, policy.network, card)
    with pytest.raises(SegprefError, match="was begun with another judge than there is now"):
        resumed(begun, place)


def test_a_run_of_the_same_goes_on_and_writes_metrics_that_were_cut_again(
    begun: Path, place: Path
) -> None:
    metrics = begun / "run" / "metrics.csv"
    metrics.write_text("epoch,val_iou\n0,")
    resumed(begun, place)
    assert metrics.read_bytes() == (place / "run" / "metrics.csv").read_bytes()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": []}', "{}"])
def test_a_note_that_was_cut(begun: Path, place: Path, content: str) -> None:
    (begun / "run" / "run.json").write_text(content)
    with pytest.raises(SegprefError, match=r"run\.json|begun with other settings"):
        resumed(begun, place)


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 3}, {"epochs": 2}, {"images_per_epoch": 8}, {"learning_rate": 1e-3}, {"beta": 0.3},
        {"batch_size": 3}, {"objective": IPO()}, {"judge": "oracle"},
        {"weight_decay": 0.5}, {"images": "labelled"},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_that_changes_results_is_named(
    begun: Path, place: Path, changed: dict[str, Any]
) -> None:
    (name,) = changed
    with pytest.raises(SegprefError, match=rf"begun with other settings \(.*{name}.*\)"):
        resumed(begun, place, **changed)


def test_a_base_goes_on_with_its_images_only(
    place: Path, tmp_path: Path, tiny_unet: Callable[..., Any]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(place / "data", data)
    made: dict[str, Any] = {
        "preparation": FORM, "network": tiny_unet(4), "cache": tmp_path / "cache", **SHORT, **READ,
    }  # fmt: skip
    run = fit(data, out=tmp_path / "run", **made)
    split = run.split.read_bytes()
    (tmp_path / "run" / "summary.json").unlink()
    fit(data, out=tmp_path / "run", resume=True, **made)
    (tmp_path / "run" / "summary.json").unlink()
    first = json.loads(split)["train"][0]
    for folder in ("images", "labels"):
        found = [path for path in (data / folder).iterdir() if first in path.name]
        for path in found:
            shutil.copy(path, path.with_name(path.name.replace(first, "phantom999")))
    with pytest.raises(SegprefError, match="another split of the patients"):
        fit(data, out=tmp_path / "run", resume=True, **made)
    assert run.split.read_bytes() == split


# The judge is the model itself


def as_link(base: Path, place: Path) -> Path:
    (place / "link").symlink_to(base)
    return place / "link"


def as_copy(base: Path, place: Path) -> Path:
    return Path(shutil.copytree(base, place / "copy"))


def as_hard_link(base: Path, place: Path) -> Path:
    (place / "other.safetensors").hardlink_to(base / "best.safetensors")
    return place / "other.safetensors"


def with_another_card(base: Path, place: Path) -> Path:
    """The same weights in a file of other bytes."""
    policy, card = load_model(base)
    save_model(place / "other.safetensors", policy.network, replace(card, labelled=("nobody",)))
    return place / "other.safetensors"


def as_plain_weights(base: Path, place: Path) -> Path:
    policy, card = load_model(base)
    save_file(policy.network.state_dict(), place / "w.safetensors")
    described = {
        "network": {"class_path": card.network.module, "init_args": dict(card.network.arguments)},
        "weights": "w.safetensors",
        "label_space": {"kind": "multi-class", "names": list(card.label_space.names)},
        "preparation": json.loads(card.to_json())["preparation"], "channels": list(card.channels),
        "labelled": ["nobody"],
    }  # fmt: skip
    (place / "model.yaml").write_text(json.dumps(described))
    return place / "model.yaml"


@pytest.mark.parametrize(
    "way", [as_link, as_copy, as_hard_link, with_another_card, as_plain_weights]
)
def test_a_model_is_not_its_own_judge(
    place: Path, tmp_path: Path, way: Callable[[Path, Path], Path]
) -> None:
    judge = way(place / "base", tmp_path)
    for named in (judge, [judge, str(place / "base")]):
        with pytest.raises(SegprefError, match="is to be its own judge"):
            begin(place, tmp_path, judge=named)
    assert not (tmp_path / "run" / "run.json").exists()


def test_nor_as_an_object(place: Path, tmp_path: Path) -> None:
    itself = ModelJudge(load_model(place / "base")[0])
    other = ModelJudge(load_model(place / "judge")[0])
    for judge in (itself, Committee([itself, itself], by="score")):
        with pytest.raises(SegprefError, match="is to be its own judge"):
            begin(place, tmp_path, judge=judge)
    begin(place, tmp_path, judge=Committee([itself, other], by="score"))


# Output in the place of the input


def test_nothing_is_written_into_the_dataset_itself(place: Path, tmp_path: Path) -> None:
    data = place / "data"
    (tmp_path / "link").symlink_to(data)
    before = sorted(data.rglob("*"))
    for out in (data, tmp_path / "link", data / "images" / ".."):
        with pytest.raises(SegprefError, match="is the folder of the dataset"):
            fit(data, out=out, preparation=FORM, **SHORT, **READ)
        with pytest.raises(SegprefError, match="is the folder of the dataset"):
            align(place / "base", data, judge=place / "judge", out=out, **SHORT, **READ)
    assert sorted(data.rglob("*")) == before
