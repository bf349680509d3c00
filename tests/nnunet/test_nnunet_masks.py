"""Masks are those of stock nnU-Net, before and after."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunet_workplace import NAME, Workplace, mask, needs_nnunet

from segpref.policies import open_model
from segpref.policies.nnunet import read_nnunet, write_nnunet
from segpref.types import SegprefError


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
def test_folds_are_averaged_as_nnunet_averages_them(workplace: Workplace) -> None:
    """As logits, and not as probabilities: a fold that is surer counts for more."""
    folder = read_nnunet(workplace.trained("3d_fullres"), trust=True)
    policies = [folder.policy(fold) for fold in folder.folds]
    with torch.no_grad():
        # Of two folds that differ little the mean is the same either way.
        for name, weights in policies[0].network.network.named_parameters():
            if "seg_layers" in name:
                weights *= 20
    predicting = pytest.importorskip("nnunetv2.inference.predict_from_raw_data")
    stock = predicting.nnUNetPredictor(
        perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    known = folder.preparation.managers
    stock.manual_initialization(
        folder.policy().network.network, known.plans, known.configuration,
        [policy.network.network.state_dict() for policy in policies], dict(folder.dataset),
        folder.trainer, folder.mirroring,
    )  # fmt: skip
    data = torch.randn(1, 20, 18, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = stock.predict_logits_from_preprocessed_data(data).float()
    found = folder.prediction(policies).logits(data[None])[0]
    assert torch.equal(found, expected)
    each = [folder.prediction([policy]).logits(data[None])[0] for policy in policies]
    by_probability = torch.stack([logits.softmax(0) for logits in each]).mean(0)
    assert (by_probability.argmax(0) != expected.argmax(0)).any()


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
