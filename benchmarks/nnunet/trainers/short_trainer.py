"""nnU-Net's trainer with a handful of iterations, found by way of ``nnUNet_extTrainer``."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

_CUDA = torch.device("cuda")


class ShortTrainer(nnUNetTrainer):  # type: ignore[misc]
    """``SHORT_EPOCHS`` epochs of ``SHORT_ITERATIONS`` iterations, 1 of 4 by default.

    ``SHORT_SEED`` (0 by default) and the fold draw weights and patches: nnU-Net itself seeds nothing.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = _CUDA,
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        # Its command has just asked for a thread per core, which takes five times as long where the
        # other core is taken.
        torch.set_num_threads(1)
        self.num_epochs = int(os.environ.get("SHORT_EPOCHS", "1"))
        self.num_iterations_per_epoch = int(os.environ.get("SHORT_ITERATIONS", "4"))
        self.num_val_iterations_per_epoch = 1
        seed = int(os.environ.get("SHORT_SEED", "0")) + 1000 * fold
        for draw in (random.seed, np.random.seed, torch.manual_seed):
            draw(seed)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Left out: it takes longer than the training."""
