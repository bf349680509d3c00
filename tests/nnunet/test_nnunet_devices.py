"""A trained nnU-Net folder on the accelerator that is not there (``tests/devices``)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunet_workplace import CASES, SHORT, Workplace, command, mask, needs_nnunet, split_file
from tests.devices.accelerator import DEVICE, Accelerator, accelerator
from torch import nn

from segpref.policies import open_model

pytestmark = [needs_nnunet, pytest.mark.slow]


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    import nnunetv2.inference.predict_from_raw_data as nnunet

    with accelerator(monkeypatch) as mode:

        class Thread(threading.Thread):
            """nnU-Net sends windows to the device from a thread, which must know of it, too."""

            def run(self) -> None:
                with mode:
                    super().run()

        place = nn.Module.to

        def to(module: nn.Module, *where: Any, **settings: Any) -> nn.Module:
            """nnU-Net places the network within inference mode, where torch can't swap weights."""
            there = where == (DEVICE,) and all(one.device == DEVICE for one in module.parameters())
            return module if there else place(module, *where, **settings)

        monkeypatch.setattr(nnunet, "Thread", Thread)
        monkeypatch.setattr(nn.Module, "to", to)
        yield mode


@pytest.fixture
def on_host(workplace: Workplace, tmp_path: Path) -> Any:
    """The mask that is predicted without an accelerator; asked for before there is one."""
    fold, images = workplace.trained("3d_fullres") / "fold_0", str(workplace.new_images)
    command(workplace, "predict", fold, tmp_path / "on host", "--input", images)
    return mask(tmp_path / "on host" / "new.nii.gz")


def test_a_fold_is_predicted_aligned_and_written_back_there(
    workplace: Workplace, on_host: Any, there: Accelerator, tmp_path: Path
) -> None:
    fold = workplace.trained("3d_fullres") / "fold_0"
    (policy,) = open_model(fold, trust=True).policies()
    assert policy.device == DEVICE
    command(workplace, "predict", fold, tmp_path / "masks", "--input", str(workplace.new_images))
    assert there.ran["Conv3d"]
    np.testing.assert_array_equal(mask(tmp_path / "masks" / "new.nii.gz"), on_host)
    there.ran.clear()
    split = split_file(tmp_path / "split.json", CASES[1:5])
    options = ["--judge", "oracle", "--split", split, "--cache", str(tmp_path / "cache"), *SHORT]
    command(workplace, "align", fold, tmp_path / "run", *options)
    assert there.ran["Conv3d"]
    tuned = tmp_path / "run" / "tuned" / fold.parent.name / "fold_0"
    command(workplace, "predict", tuned, tmp_path / "after", "--input", str(workplace.new_images))
