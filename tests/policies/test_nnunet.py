from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from benchmarks.nnunet import hippocampus
from benchmarks.nnunet.stock import Stock

from segpref.cli.main import main
from segpref.data import Reader, open_dataset
from segpref.inference.windows import whole_images
from segpref.policies import load_model, read_card
from segpref.policies.nnunet import NnUNetNetwork, NnUNetPreparation, read_nnunet, write_nnunet
from segpref.policies.opening import holds_model, open_model
from segpref.types import IGNORE, SegprefError

NAME = "Dataset901_Made"
CASES = [f"case{number}" for number in range(6)]
SHAPES = {"case0": (24, 24, 22), "case3": (20, 24, 24), "new": (30, 26, 15)}
SPACINGS = {"new": (0.8, 1.0, 2.0)}

needs_nnunet = pytest.mark.skipif(
    importlib.util.find_spec("nnunetv2") is None,
    reason="nnunetv2 is not installed here: `make test-nnunet` runs this in an environment of its own",
)


class Workplace(Stock):
    """With a made dataset and models that were trained on it."""

    def trained(self, configuration: str) -> Path:
        return self.model(NAME, configuration)

    @property
    def made(self) -> Path:
        return self.root / "raw" / NAME

    @property
    def new_images(self) -> Path:
        return self.made / "imagesTs"

    def reader(self) -> Reader:
        return open_dataset(self.made)

    def predicted(self, model: Path, folds: Sequence[str]) -> Path:
        """The mask that stock nnU-Net writes for the new case."""
        out = self.root / "stock" / model.parent.name / f"{model.name} {' '.join(folds)}"
        if not out.exists():
            self.predict(model, folds, self.new_images, out)
        return out / "new.nii.gz"


def mask(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def write_case(folder: Path, name: str, rng: np.random.Generator) -> None:
    shape = SHAPES.get(name, (24, 24, 24))
    spacing = np.array(SPACINGS.get(name, (1.0, 1.0, 1.5)))
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) * spacing
    middle = np.array(shape) * spacing / 2 + rng.uniform(-2, 2, 3)
    distance = np.linalg.norm(places - middle, axis=-1)
    label = ((distance < 9).astype(np.uint8) + (distance < 5)).astype(np.uint8)
    image = (2.0 * label + rng.normal(5, 0.5, shape)).astype(np.float32)
    image[:2] = 0  # cropped away by nnU-Net
    affine = np.diag([*(-spacing[:2]), spacing[2], 1])
    affine[:3, 3] = 3, -4, 5
    where = "Ts" if name == "new" else "Tr"
    nib.save(nib.Nifti1Image(image, affine), folder / f"images{where}" / f"{name}_0000.nii.gz")
    if where == "Tr":
        nib.save(nib.Nifti1Image(label, affine), folder / "labelsTr" / f"{name}.nii.gz")


def shrink(settings: dict[str, Any]) -> None:
    """Patches of 16 voxels and networks of a few thousand weights."""
    settings["patch_size"] = [16] * len(settings["patch_size"])
    settings["batch_size"] = 2
    settings["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 8, 8]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = Workplace(tmp_path_factory.mktemp("nnunet"))
    place.enter()
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (place.made / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*CASES, "new"):
        write_case(place.made, name, rng)
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "rind": 1, "core": 2},
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
    }
    (place.made / "dataset.json").write_text(json.dumps(description))
    splits = [{"train": CASES[1:3], "val": CASES[:1]}, {"train": CASES[3:4], "val": CASES[2:3]}]
    place.plan(NAME, ("2d", "3d_fullres"), shrink, splits)
    for configuration, fold in (("3d_fullres", 0), ("3d_fullres", 1), ("2d", 0)):
        # Long enough that slates hold masks of which one is better.
        place.train(NAME, configuration, fold, SHORT_ITERATIONS=100)
    return place


# What needs no nnU-Net --------------------------------------------------------------------------


def made_folder(root: Path) -> Path:
    (root / "fold_0").mkdir(parents=True)
    (root / "plans.json").write_text("{}")
    (root / "dataset.json").write_text("{}")
    (root / "fold_0" / "checkpoint_final.pth").write_bytes(b"no checkpoint")
    return root


def test_trust_is_asked_for_before_anything_is_unpickled(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match=r"unpickling runs whatever code .* add --trust"):
        read_nnunet(made_folder(tmp_path / "model"))


def test_a_fold_is_a_model_whatever_pictures_lie_in_it(tmp_path: Path) -> None:
    folder = made_folder(tmp_path / "model")
    (folder / "fold_0" / "progress.png").write_bytes(b"")
    assert holds_model(folder)
    assert holds_model(folder / "fold_0")
    predicted = tmp_path / "predicted"
    predicted.mkdir()
    for name in ("plans.json", "dataset.json", "fold_0.nii.gz"):
        (predicted / name).write_bytes(b"")
    assert not holds_model(predicted)


@pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is not None, reason="nnunetv2 is there")
def test_a_missing_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match=r"pip install 'segpref\[nnunet\]'"):
        read_nnunet(made_folder(tmp_path / "model"), trust=True)


@pytest.mark.parametrize(
    ("lacking", "options", "match"),
    [
        ("plans.json", {}, r"there is no .*plans\.json: name the folder TRAINER__PLANS__CONFIG"),
        ("dataset.json", {}, r"there is no .*dataset\.json"),
        ("fold_0/checkpoint_final.pth", {}, "has no fold with checkpoint_final"),
        ("", {"folds": [1]}, r"no fold_1/checkpoint_final\.pth: choose from the folds 0"),
        ("", {"checkpoint": "checkpoint_best.pth"}, "has no fold with checkpoint_best"),
    ],
)
def test_folders_that_are_not_whole(
    tmp_path: Path, lacking: str, options: dict[str, Any], match: str
) -> None:
    folder = made_folder(tmp_path / "model")
    if lacking:
        (folder / lacking).unlink()
    with pytest.raises(SegprefError, match=match):
        read_nnunet(folder, trust=True, **options)


# What needs nnU-Net -----------------------------------------------------------------------------


@needs_nnunet
def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match=r"checkpoint_final\.pth can't be opened"):
        read_nnunet(made_folder(tmp_path / "model"), trust=True)


@needs_nnunet
@pytest.mark.slow
def test_the_folder_tells_what_the_model_is(workplace: Workplace) -> None:
    folder = read_nnunet(workplace.trained("3d_fullres"), trust=True)
    assert folder.folds == ("0", "1")
    assert folder.trainer == "ShortTrainer"
    assert folder.mirroring == (0, 1, 2)
    assert folder.labelled == ("case1", "case2", "case3")
    assert replace(folder, folds=("1",)).labelled == ("case3",)
    assert replace(folder, folds=("all",)).labelled == ("case0", "case1", "case2", "case3")
    assert replace(folder, folds=("4",)).labelled is None
    assert folder.label_space == workplace.reader().label_space
    assert folder.channels == ("MRI",)
    assert folder.preparation.patch == (16, 16, 16)
    assert folder.preparation.spacing_mm == (1.5, 1.0, 1.0)
    flat = read_nnunet(workplace.trained("2d"), trust=True)
    assert (flat.preparation.dims, flat.preparation.patch) == (2, (16, 16))
    stored = json.loads(folder.card(("case0",)).to_json())
    assert NnUNetPreparation.from_key(stored["preparation"]) == folder.preparation
    with pytest.raises(SegprefError, match="no configuration '3d_lowres': choose from 2d"):
        _ = replace(folder, configuration="3d_lowres").preparation.patch


@needs_nnunet
@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_prepared_cases_are_those_of_nnunet(workplace: Workplace, configuration: str) -> None:
    preparation = read_nnunet(workplace.trained(configuration), trust=True).preparation
    reader, known = workplace.reader(), preparation.managers
    for source in reader.sources():
        preprocessor = known.configuration.preprocessor_class(verbose=False)
        label_file = str(source.labels[0]) if source.labels else None
        data, label, _ = preprocessor.run_case(
            [str(path) for path in source.images],
            label_file,
            known.plans,
            known.configuration,
            dict(preparation.dataset),
        )
        prepared = preparation.apply(reader.read(source))
        items = data.swapaxes(0, 1) if configuration == "2d" else data[None]
        np.testing.assert_array_equal(prepared.images, items)
        if label_file is None:
            assert prepared.labels is None
        else:
            items = label.swapaxes(0, 1) if configuration == "2d" else label[None]
            np.testing.assert_array_equal(prepared.labels, np.maximum(items, 0))


@needs_nnunet
@pytest.mark.slow
def test_ignored_voxels(workplace: Workplace) -> None:
    folder = read_nnunet(workplace.trained("3d_fullres"), trust=True)
    dataset = {**folder.dataset, "labels": {**folder.dataset["labels"], "ignore": 3}}
    reader = workplace.reader()
    case = reader.read(reader.sources()[0])
    assert case.label is not None
    label = case.label.copy()
    label[0, 5:7] = IGNORE
    found = replace(folder.preparation, dataset=dataset).apply(replace(case, label=label)).labels
    # This case has the model's voxel size, so nothing is resampled; two empty layers are cut off.
    np.testing.assert_array_equal(found, label[None, :, 2:].transpose(0, 1, 4, 3, 2))


@needs_nnunet
@pytest.mark.slow
@pytest.mark.parametrize(
    ("configuration", "folds"), [("3d_fullres", "0"), ("3d_fullres", "01"), ("2d", "0")]
)
def test_masks_equal_those_of_stock_nnunet(
    workplace: Workplace, tmp_path: Path, configuration: str, folds: str
) -> None:
    model = workplace.trained(configuration)
    file = workplace.predicted(model, folds)
    stock = mask(file)
    folder = read_nnunet(model, folds=list(folds), trust=True)
    (written,) = folder.prediction().write_folder(workplace.new_images, tmp_path)
    assert len(np.unique(stock)) > 1
    np.testing.assert_array_equal(mask(written), stock)
    np.testing.assert_array_equal(nib.load(written).affine, nib.load(file).affine)

    # The same by way of arrays: prepared case, logits on nnU-Net's grid, and back.
    reader = workplace.reader()
    case = reader.read(reader.sources()[-1])
    images = torch.from_numpy(folder.preparation.apply(case).images)
    logits = folder.prediction().logits(images)
    assert not logits.is_inference()
    outside = torch.tensor([1.0, -1, -1])
    values = folder.preparation.restore(logits, case, outside).numpy()
    differs = values.argmax(0) != stock
    # Stock rounds to half precision after resampling, too: a tie may fall the other way, no more.
    highest = np.sort(values, axis=0)
    rounding = 2 * np.finfo(np.float16).eps * np.abs(values).max()
    assert ((highest[-1] - highest[-2])[differs] <= rounding).all()
    assert differs.mean() < 1e-2


@needs_nnunet
@pytest.mark.slow
def test_a_tuned_folder_predicts_the_tuned_masks(workplace: Workplace, tmp_path: Path) -> None:
    model = workplace.trained("3d_fullres")
    folder = read_nnunet(model, trust=True)
    policies = {fold: folder.policy(fold) for fold in folder.folds}
    prediction = folder.prediction(list(policies.values()))
    data = torch.randn(1, 1, 20, 18, 16, generator=torch.Generator().manual_seed(0))
    before, name = prediction.logits(data), prediction.digest()
    for policy in policies.values():
        state = policy.forward(data[..., :16, :16, :16])
        state.logits[:, 1:].mean().backward()
        with torch.no_grad():
            for weights in policy.network.parameters():
                if weights.grad is not None:
                    weights += 0.3 * weights.grad / weights.grad.norm()
    # The prediction follows the policy, and leaves its weights as they are.
    tuned = {fold: policy.digest() for fold, policy in policies.items()}
    after = prediction.logits(data)
    assert (after - before).abs().max() > 1e-2
    assert prediction.digest() != name
    assert tuned == {fold: policy.digest() for fold, policy in policies.items()}
    policies["0"].forward(data[..., :16, :16, :16]).logits.sum().backward()

    networks = {fold: policy.network for fold, policy in policies.items()}
    out = write_nnunet(folder, networks, workplace.root / "results" / "tuned" / model.name)
    stock = mask(workplace.predicted(out, "01"))
    (written,) = prediction.write_folder(workplace.new_images, tmp_path)
    np.testing.assert_array_equal(mask(written), stock)
    assert (stock != mask(workplace.predicted(model, "01"))).any()

    old = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    new = torch.load(out / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert old.keys() == new.keys()
    assert list(old["network_weights"]) == list(new["network_weights"])
    assert new["inference_allowed_mirroring_axes"] == old["inference_allowed_mirroring_axes"]
    again = read_nnunet(out, trust=True)
    assert again.policy("1").digest() == tuned["1"]
    # One fold alone, and its name in nnU-Net's own results folder.
    one = write_nnunet(folder, {"1": networks["1"]}, tmp_path / NAME / model.name)
    assert [path.name for path in sorted(one.glob("fold_*"))] == ["fold_1"]
    own = tmp_path / "results"
    (own / NAME).mkdir(parents=True)
    one.rename(own / NAME / model.name)
    workplace.run(
        "nnUNetv2_predict",
        *("-i", workplace.new_images, "-o", tmp_path / "by name", "-d", 901, "-c", "3d_fullres"),
        *("-tr", "ShortTrainer", "-f", 1, "-device", "cpu", "-npp", 1, "-nps", 1),
        nnUNet_results=own,
    )
    alone = folder.prediction([policies["1"]])
    (written,) = alone.write_folder(workplace.new_images, tmp_path / "alone")
    np.testing.assert_array_equal(mask(written), mask(tmp_path / "by name" / "new.nii.gz"))
    with pytest.raises(SegprefError, match="there already"):
        write_nnunet(folder, networks, out)
    flat = read_nnunet(workplace.trained("2d"), trust=True).policy().network
    with pytest.raises(SegprefError, match="has other weights"):
        write_nnunet(folder, {"0": flat}, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


@needs_nnunet
@pytest.mark.slow
def test_the_best_checkpoint_of_a_training_that_was_stopped(
    workplace: Workplace, tmp_path: Path
) -> None:
    whole = workplace.trained("3d_fullres")
    stopped = Path(shutil.copytree(whole, tmp_path / whole.name))
    for file in stopped.glob("fold_*/checkpoint_final.pth"):
        file.replace(file.with_name("checkpoint_best.pth"))
    opened = open_model(stopped / "fold_0", trust=True)
    (policy,) = opened.policies()
    assert policy.digest() == read_nnunet(whole, folds=["0"], trust=True).policy("0").digest()
    assert opened.write is not None
    written = opened.write({"fold_0": policy.network}, tmp_path / "tuned")
    assert [file.name for file in written.glob("fold_0/*")] == ["checkpoint_best.pth"]
    assert open_model(written, trust=True).policies()[0].digest() == policy.digest()


def command(workplace: Workplace, name: str, model: Path, out: Path, *options: str) -> None:
    data = ["--data", str(workplace.made)] if name == "align" else []
    place = ["--out", str(out)] if name == "align" else ["--output", str(out)]
    assert main([name, "--model", str(model), *data, *place, "--trust", *options]) == 0


def split_file(path: Path, train: Sequence[str]) -> str:
    parts = {"train": train, "judge": [], "validation": ["case0"], "test": ["case5"]}
    path.write_text(json.dumps({**parts, "by_patient": True}))
    return str(path)


SHORT = ["--epochs", "1", "--images_per_epoch", "2", "--batch_size", "1", "--candidates", "8"]


@needs_nnunet
@pytest.mark.slow
def test_a_fold_is_aligned_with_another_as_its_judge(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = workplace.trained("3d_fullres"), tmp_path / "run"
    command(
        workplace, "align", model / "fold_0", out, *SHORT, "--learning_rate", "0.01",
        "--judge", str(model / "fold_1"), "--pool", str(workplace.new_images),
        "--split", split_file(tmp_path / "split.json", ["case1", "case2"]),
        "--cache", str(tmp_path / "cache"),
    )  # fmt: skip
    assert "without the mirrored views" in " ".join(capsys.readouterr().err.split())
    card = read_card(out)
    assert card.labelled == ("case1", "case2")
    # Before and after are scored alike, mirrored views and all.
    assert card.mirroring == (0, 1, 2)
    fold, base = open_model(model / "fold_0", trust=True), open_model(out / "base.safetensors")
    one, other = (
        whole_images(opened.policies(), opened.card.preparation, opened.mirroring)
        for opened in (fold, base)
    )
    assert one.digest() == other.digest()
    tuned = out / "tuned" / model.name
    assert [path.name for path in tuned.glob("fold_*")] == ["fold_0"]
    assert read_nnunet(tuned, trust=True).policy().digest() == load_model(out)[0].digest()
    assert read_nnunet(model, trust=True).policy("0").digest() != load_model(out)[0].digest()
    # Stock predicts from it what we do.
    results = workplace.root / "results" / "aligned"
    results.mkdir()
    moved = tuned.rename(results / tuned.name)
    stock = mask(workplace.predicted(moved, "0"))
    command(workplace, "predict", moved, tmp_path / "ours", "--input", str(workplace.new_images))
    np.testing.assert_array_equal(mask(tmp_path / "ours" / "new.nii.gz"), stock)


@needs_nnunet
@pytest.mark.slow
def test_masks_of_the_2d_configuration_judge_the_3d_one(
    workplace: Workplace, tmp_path: Path
) -> None:
    model, masks, out = workplace.trained("3d_fullres"), tmp_path / "masks", tmp_path / "run"
    images = workplace.made / "imagesTr"
    command(workplace, "predict", workplace.trained("2d"), masks, "--input", str(images))
    command(
        workplace, "align", model / "fold_0", out, *SHORT, "--learning_rate", "0.01",
        "--judge", str(masks), "--method", "calibrated", "--cache", str(tmp_path / "cache"),
        "--split", split_file(tmp_path / "split.json", CASES[1:5]),
    )  # fmt: skip
    rates = [one["flip_rate"] for one in json.loads((out / "audit.json").read_text())["mined"]]
    assert rates
    assert all(0 <= rate <= 1 for rate in rates)
    assert [path.name for path in (out / "tuned" / model.name).glob("fold_*")] == ["fold_0"]
    assert read_nnunet(model, trust=True).policy("0").digest() != load_model(out)[0].digest()


@needs_nnunet
@pytest.mark.slow
@pytest.mark.parametrize(("configuration", "folds"), [("3d_fullres", ["0", "1"]), ("2d", ["0"])])
def test_all_folds_are_tuned(
    workplace: Workplace, tmp_path: Path, configuration: str, folds: list[str]
) -> None:
    model, out = workplace.trained(configuration), tmp_path / "run"
    options = [
        "--judge", "oracle", "--learning_rate", "0.01", "--cache", str(tmp_path / "cache"),
        "--split", split_file(tmp_path / "split.json", CASES[1:5]), *SHORT,
    ]  # fmt: skip
    command(workplace, "align", model, out, *options)
    before, after = (read_nnunet(one, trust=True) for one in (model, out / "tuned" / model.name))
    assert after.folds == before.folds == tuple(folds)
    for fold in folds:
        assert after.policy(fold).digest() != before.policy(fold).digest()
        assert (out / f"fold_{fold}" / "summary.json").is_file() == (len(folds) > 1)
    leaky = split_file(tmp_path / "leaky.json", ["case4"])
    Path(leaky).write_text(Path(leaky).read_text().replace("case0", "case1"))
    assert (
        main(
            [
                "align",
                "--model",
                str(model),
                "--data",
                str(workplace.made),
                "--out",
                str(tmp_path / "no"),
                "--trust",
                "--judge",
                "oracle",
                "--split",
                leaky,
            ]
        )
        == 1
    )


@pytest.fixture(scope="module")
def of_regions(workplace: Workplace) -> Path:
    """A model of overlapping regions, with random weights."""
    source = workplace.trained("3d_fullres")
    dataset = json.loads((source / "dataset.json").read_text())
    dataset["labels"] = {"background": 0, "whole": [1, 2], "core": [2]}
    dataset["regions_class_order"] = [1, 2]
    plans = json.loads((source / "plans.json").read_text())
    torch.manual_seed(0)
    network = NnUNetNetwork(plans, dataset, "3d_fullres").network
    path = workplace.root / "results" / "regions" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (path / "fold_all").mkdir(parents=True)
    (path / "dataset.json").write_text(json.dumps(dataset))
    (path / "plans.json").write_text(json.dumps(plans))
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 2),
    }
    torch.save(checkpoint, path / "fold_all" / "checkpoint_final.pth")
    return path


@needs_nnunet
@pytest.mark.slow
def test_regions_become_classes(of_regions: Path) -> None:
    folder = read_nnunet(of_regions, trust=True)
    assert folder.folds == ("all",)
    space = folder.label_space
    assert (space.kind, space.channels) == ("multi-class", 3)
    assert [region.values for region in space.regions] == [(1, 2), (2,)]
    policy = folder.policy()
    images = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    classes = policy.logits(images)
    assert isinstance(policy.network, NnUNetNetwork)
    with torch.no_grad():
        whole, core = policy.network.network(images).unbind(1)
    expected = torch.stack([torch.zeros_like(whole), whole, whole + core], dim=1)
    torch.testing.assert_close(classes, expected)
    # The odds of two label maps are those of all their regions, normalised or not.
    winner, loser = torch.randint(0, 3, (2, 2, 1, 16, 16, 16)).unbind(0)
    likelihood = classes.log_softmax(1)
    found = likelihood.gather(1, winner) - likelihood.gather(1, loser)
    regions = whole * ((winner > 0).float() - (loser > 0).float())[:, 0]
    regions += core * ((winner == 2).float() - (loser == 2).float())[:, 0]
    torch.testing.assert_close(found[:, 0], regions, rtol=1e-4, atol=1e-5)
    # Decoded as nnU-Net does, where the regions do not contradict each other.
    painted = torch.where(core > 0, 2, torch.where(whole > 0, 1, 0))
    agree = ~((core > 0) & (whole <= 0))
    assert agree.float().mean() > 0.5
    decoded = space.decode(classes)[:, 0]
    assert torch.equal(decoded[agree].long(), painted[agree])


@needs_nnunet
@pytest.mark.slow
def test_masks_of_regions_equal_those_of_stock_nnunet(
    workplace: Workplace, of_regions: Path, tmp_path: Path
) -> None:
    folder = read_nnunet(of_regions, trust=True)
    stock = mask(workplace.predicted(of_regions, ["all"]))
    (written,) = folder.prediction().write_folder(workplace.new_images, tmp_path)
    assert len(np.unique(stock)) > 1
    np.testing.assert_array_equal(mask(written), stock)
    command(
        workplace, "predict", of_regions, tmp_path / "ours", "--input", str(workplace.new_images)
    )
    np.testing.assert_array_equal(mask(tmp_path / "ours" / "new.nii.gz"), stock)


@needs_nnunet
@pytest.mark.slow
def test_the_experiment_at_a_small_scale(workplace: Workplace, tmp_path: Path) -> None:
    scale = hippocampus.Scale(
        labelled=1, judge=1, validation=1, test=1, features=0.1, batch=(2, 1), epochs=1,
        iterations=2, align=(" ".join(SHORT), " ".join(SHORT)), methods={"short": ""},
    )  # fmt: skip
    given: Any = {"data": workplace.made, "out": tmp_path, "seeds": [0], "scale": scale}
    hippocampus.main(**given, configurations=["3d_fullres"])
    table = (tmp_path / "results.md").read_text()
    row = r"\| 3d_fullres \| mirrored \| short \| 1 \| 0\.\d+ \| [+-]0\.\d+ \| .* \| all \|"
    assert re.search(row, table)
    assert table.count("| 3d_fullres | upright |") == 2
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()}
    (tmp_path / "results.md").unlink()
    hippocampus.main(**given, configurations=["3d_fullres"])
    assert (tmp_path / "results.md").read_text() == table
    del written[tmp_path / "results.md"]
    assert written == {path: path.stat().st_mtime_ns for path in written}
