"""Our STAPLE against SimpleITK's, which nnU-Net's environment brings along."""

import numpy as np
import pytest

from segpref.contrib.judges import staple

sitk = pytest.importorskip("SimpleITK")


def ratings(rates: list[float], seed: int) -> np.ndarray:
    """One binary rating per rate of wrong pixels."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((12, 24, 20), np.uint8)
    truth[3:9, 6:18, 5:14] = 1
    wrong = [rng.random(truth.shape) < rate for rate in rates]
    return np.stack([np.where(turned, 1 - truth, truth) for turned in wrong])


@pytest.mark.parametrize("rates", [[0.05, 0.1, 0.2], [0.02, 0.3, 0.3, 0.1]])
def test_probabilities_and_sensitivities(rates: list[float]) -> None:
    raters = ratings(rates, seed=len(rates))
    peer = sitk.STAPLEImageFilter()
    peer.SetForegroundValue(1.0)
    theirs = sitk.GetArrayFromImage(peer.Execute([sitk.GetImageFromArray(one) for one in raters]))
    ours = staple(raters, 2)[1]
    # SimpleITK stops at a change of its own choosing, a little before we do.
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    sensitivity = (raters * ours).sum((1, 2, 3)) / ours.sum()
    np.testing.assert_allclose(sensitivity, peer.GetSensitivity(), atol=1e-4)
