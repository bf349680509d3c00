"""Folders of trained nnU-Net v2 models: ``TRAINER__PLANS__CONFIGURATION``, in and out."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segpref.data.nnunet import label_space_of
from segpref.policies.atomic_writes import atomic_folder
from segpref.policies.checkpoints import ModelCard, NetworkSpec
from segpref.policies.nnunet.files import SPLITS, cases_of, description, folds_of, origin, unpickled
from segpref.policies.nnunet.library import nnunet
from segpref.policies.nnunet.network import NnUNetNetwork
from segpref.policies.nnunet.prediction import NnUNetPrediction
from segpref.policies.nnunet.preparation import NnUNetPreparation
from segpref.policies.segmenter import Segmenter
from segpref.types import LabelSpace, SegprefError

__all__ = ["NnUNetFolder", "read_nnunet", "write_nnunet"]

_DESCRIPTIONS = ("plans.json", "dataset.json")
_ALONGSIDE = ("dataset_fingerprint.json", SPLITS)


@dataclass(frozen=True)
class NnUNetFolder:
    """A folder whose owner is trusted; made by :func:`read_nnunet`.

    Args:
        path: the folder.
        plans: content of ``plans.json``.
        dataset: content of ``dataset.json``.
        configuration: such as ``3d_fullres``.
        trainer: name of the trainer class.
        mirroring: axes over which nnU-Net mirrors when it predicts.
        folds: those that were asked for, such as ``("0", "1")`` or ``("all",)``.
        checkpoint: name of the file in each fold.
    """

    path: Path
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    configuration: str
    trainer: str
    mirroring: tuple[int, ...]
    folds: tuple[str, ...]
    checkpoint: str

    @property
    def label_space(self) -> LabelSpace:
        """Classes and regions, as :class:`~segpref.data.NnUNetRaw` reads them."""
        return label_space_of(self.path / "dataset.json", self.dataset["labels"])[1]

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image channels in their order."""
        names = self.dataset.get("channel_names", self.dataset.get("modality", {}))
        return tuple(str(names[key]) for key in sorted(names, key=int))

    @property
    def labelled(self) -> tuple[str, ...] | None:
        """Cases that the folds were trained with, according to ``splits_final.json``; None without it.

        It is looked for in the model's folder and among nnU-Net's preprocessed datasets.
        """
        return cases_of(self.path, str(self.plans.get("dataset_name", "")), self.folds)

    @property
    def preparation(self) -> NnUNetPreparation:
        """nnU-Net's own preprocessing."""
        return NnUNetPreparation(self.plans, self.dataset, self.configuration)

    def card(self, labelled: Sequence[str] = ()) -> ModelCard:
        """What a model file of segpref says of such a network.

        Args:
            labelled: patients that it was trained with.
        """
        arguments = {
            "plans": dict(self.plans),
            "dataset": dict(self.dataset),
            "configuration": self.configuration,
            "trainer": self.trainer,
        }
        return ModelCard(
            network=NetworkSpec("segpref.policies.nnunet.NnUNetNetwork", arguments),
            label_space=self.label_space,
            preparation=self.preparation,
            channels=self.channels,
            labelled=tuple(labelled),
        )

    def weights(self, fold: str) -> dict[str, Tensor]:
        """nnU-Net's own weights of a fold."""
        return dict(unpickled(self.path, fold, self.checkpoint)["network_weights"])

    def policy(self, fold: str | None = None) -> Segmenter:
        """A network of its own with the weights of a fold; the first fold where None."""
        network = self.card().network.build()
        assert isinstance(network, NnUNetNetwork)
        fold = fold or self.folds[0]
        try:
            network.network.load_state_dict(self.weights(fold))
        except RuntimeError as error:
            raise SegprefError(
                f"the weights of fold {fold} in {self.path} do not fit {self.trainer}: has the "
                f"trainer changed since?"
            ) from error
        return Segmenter(network, self.label_space)

    def prediction(
        self, models: Sequence[Segmenter] | None = None, mirror: bool = True, step: float = 0.5
    ) -> NnUNetPrediction:
        """Whole volumes by nnU-Net's sliding windows.

        Args:
            models: their logits are averaged; those of :attr:`folds` where None.
            mirror: average over mirrored views too, as nnU-Net does by default.
            step: distance of the windows as a share of the patch.
        """
        return NnUNetPrediction(
            self.preparation,
            models or [self.policy(fold) for fold in self.folds],
            self.mirroring if mirror else (),
            step,
        )


def read_nnunet(
    path: Path | str,
    *,
    folds: Collection[str | int] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    trust: bool = False,
) -> NnUNetFolder:
    """Open the folder of a trained model.

    Args:
        path: ``nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION``.
        folds: such as ``[0]`` or ``["all"]``; all that were trained where None (``fold_all`` only
            where there is no other), as nnU-Net does.
        checkpoint: name of the file in each fold.
        trust: whether the folder's checkpoints may be unpickled and its plans name code to run.

    Raises:
        SegprefError: ``trust`` is off, nnunetv2 is missing, or the folder is no whole model.
    """
    path = Path(path).expanduser()
    plans, dataset = (description(path / name) for name in _DESCRIPTIONS)
    chosen = folds_of(path, folds, checkpoint)
    if not trust:
        raise SegprefError(
            f"{path} holds checkpoints that nnU-Net pickled, and unpickling runs whatever code "
            f"the file contains: if you know"
            " where it comes from, add --trust"
        )
    nnunet("utilities.plans_handling.plans_handler")
    origins = {fold: origin(unpickled(path, fold, checkpoint)) for fold in chosen}
    trainer, configuration, mirroring = origins[chosen[0]]
    for fold, other in origins.items():
        if other != origins[chosen[0]]:
            raise SegprefError(
                f"fold {fold} in {path} was trained in another way than fold {chosen[0]} ({other} "
                f"against {origins[chosen[0]]}): name one fold"
            )
    return NnUNetFolder(path, plans, dataset, configuration, trainer, mirroring, chosen, checkpoint)


def write_nnunet(folder: NnUNetFolder, networks: Mapping[str, nn.Module], out: Path | str) -> Path:
    """Write tuned networks into a folder that stock ``nnUNetv2_predict`` takes unchanged.

    Everything in a fold's checkpoint but the network's weights stays as it was, so that stock loading
    finds all that it looks for. Folds that were not tuned, and results of the old weights, are left
    out. To be found by ``nnUNetv2_predict -d``, the folder must lie in ``nnUNet_results/DATASET`` and
    keep its name; ``nnUNetv2_predict_from_modelfolder -m`` takes it from anywhere.

    Args:
        folder: the one that the networks came from.
        networks: fold -> :class:`NnUNetNetwork`.
        out: the folder to make, atomically.

    Raises:
        SegprefError: the place is taken, or a network isn't one of this folder.
    """
    out = Path(out).expanduser()
    with atomic_folder(out) as partial:
        for name in (*_DESCRIPTIONS, *_ALONGSIDE):
            if (folder.path / name).is_file():
                shutil.copyfile(folder.path / name, partial / name)
        for fold, network in networks.items():
            content = unpickled(folder.path, fold, folder.checkpoint)
            content["network_weights"] = _tuned(network, content["network_weights"], folder.path)
            (partial / f"fold_{fold}").mkdir()
            torch.save(content, partial / f"fold_{fold}" / folder.checkpoint)
    return out


def _tuned(network: nn.Module, before: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    inner = network.network if isinstance(network, NnUNetNetwork) else network
    assert isinstance(inner, nn.Module)
    weights = {name: value.detach().cpu().clone() for name, value in inner.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} != {
        name: value.shape for name, value in before.items()
    }:
        raise SegprefError(
            f"the tuned network has other weights than those in {path}: write it to the folder that it "
            "was read from"
        )
    return weights
