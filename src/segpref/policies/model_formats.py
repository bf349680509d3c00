"""Opens a model in any format: segpref's own, nnU-Net, MONAI bundles, plain weights, LiteMedSAM."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import nn

from segpref.data.preparation import Preparation
from segpref.data.source import Reader
from segpref.policies.atomic_writes import atomic_folder
from segpref.policies.bundle import read_bundle, write_bundle
from segpref.policies.checkpoints import ModelCard, load_model, read_card
from segpref.policies.nnunet.files import FINAL, checkpoint_of
from segpref.policies.nnunet.folder import read_nnunet, write_nnunet
from segpref.policies.plain_weights import read_plain, write_plain
from segpref.policies.promptable import (
    lite_medsam_in,
    network_of,
    promptable_card,
    write_like,
)
from segpref.policies.tunable import TunablePolicy
from segpref.policies.weights import WeightFile, check_weights
from segpref.runtime import runtime
from segpref.types import LabelSpace, SegprefError

__all__ = ["OpenModel", "holds_model", "open_model"]

log = logging.getLogger(__name__)

Write = Callable[[Mapping[str, nn.Module], Path], Path]

_FOLD = "fold_"
# A plans.json does not tell: nnU-Net puts one beside its predictions, too.
_SIGNS = ("fold_*/", "checkpoint_*.pth", "configs/", "best.safetensors")
_DESCRIPTIONS = (".yaml", ".yml")
_ASKED_FOR = LabelSpace("multi-label", ("structure",))


@dataclass(frozen=True)
class OpenModel:
    """A model in segpref's terms, whatever its format; made by :func:`open_model`.

    Args:
        path: what was opened.
        card: what it is; the same for all members.
        members: name -> a network of its own as a policy, on the device of the program's runtime;
            several where a folder holds several folds.
        labelled: patients (or cases of theirs) that it was trained with; None if unknown.
        write: writes tuned networks, by member, in the format that the model came in; takes the folder
            to write into and returns what it wrote. None for segpref's own, which a run writes anyway.
        again: opens it in another process, which sees the same files.
    """

    path: Path
    card: ModelCard
    members: Mapping[str, Callable[[], TunablePolicy]]
    labelled: tuple[str, ...] | None
    write: Write | None = None
    again: Callable[[], OpenModel] | None = None

    @property
    def mirroring(self) -> tuple[int, ...]:
        """Axes over which it mirrors when it predicts."""
        return self.card.mirroring

    def policies(self) -> list[TunablePolicy]:
        """The networks of all members."""
        return [member() for member in self.members.values()]

    def patients(self, reader: Reader) -> tuple[str, ...] | None:
        """Patients of a dataset that it was trained with, named so or by an image; None if unknown."""
        if self.labelled is None:
            return None
        patients = {source.id: source.patient for source in reader.sources()}
        return tuple(sorted({patients.get(name, name) for name in self.labelled}))

    def check_dataset(
        self,
        reader: Reader,
        named: object = "the data",
        otherwise: str = "use the dataset that the model was made for",
    ) -> None:
        """Refuse a dataset of other labels, or of another number of channels.

        Args:
            reader: the dataset.
            named: what messages call it.
            otherwise: what can be done about other labels.

        Raises:
            SegprefError: it is one.
        """
        if reader.label_space != self.card.label_space:
            raise SegprefError(
                f"the labels of {named} are {reader.label_space or 'not there'}, but the model "
                f"{self.path} predicts {self.card.label_space}: {otherwise}"
            )
        if len(reader.channels) != len(self.card.channels):
            raise SegprefError(
                f"images of {named} have {len(reader.channels)} channels, but the model {self.path} "
                f"takes {len(self.card.channels)}: use images with the same channels"
            )


def open_model(
    path: Path | str,
    *,
    trust: bool = False,
    labelled: Collection[str] | None = None,
    preparation: Preparation | None = None,
) -> OpenModel:
    """Open a model in any of the formats that people have.

    =======================================  ==========================================================
    a run folder, ``.safetensors``           segpref's own
    ``TRAINER__PLANS__CONFIGURATION``        nnU-Net v2, all folds; ``.../fold_0`` is one of them
    a folder with ``configs/metadata.json``  MONAI bundle; ``preparation`` says how images are prepared
    ``.yaml``                                plain weights (:func:`read_plain`)
    ``.pth``, ``.pt``, ``.safetensors``      LiteMedSAM, told by the names of its tensors
    =======================================  ==========================================================

    Args:
        path: of the model.
        trust: whether code that comes with the model may be run (pickles of nnU-Net, expressions and
            classes of a bundle, also where it was aligned and lies in a run folder), and classes be
            built that it names, other than segpref's, MONAI's and torch's own.
        labelled: patients that it was trained with, besides those that it names itself.
        preparation: for a bundle, which has it as code, and for a LiteMedSAM, which has none.

    Raises:
        SegprefError: no model there, a damaged one, or one that needs ``trust`` or ``preparation``.
    """
    path = Path(path).expanduser()
    if _is_nnunet(path):
        opened = _nnunet(path, trust)
    elif (path / "configs").is_dir():
        opened = _bundle(path, trust, preparation)
    elif path.suffix in _DESCRIPTIONS:
        opened = _plain(path, trust)
    elif (weights := lite_medsam_in(path)) is not None:
        opened = _lite_medsam(weights, preparation)
    else:
        card = read_card(path, trust)
        opened = OpenModel(path, card, {"": partial(_own, path, trust)}, card.labelled)
    members = {name: partial(_placed, made, path) for name, made in opened.members.items()}
    known = opened.labelled if labelled is None else {*(opened.labelled or ()), *labelled}
    told = None if known is None else tuple(sorted(known))
    again = partial(open_model, path, trust=trust, labelled=labelled, preparation=preparation)
    return replace(opened, members=members, labelled=told, again=again)


def holds_model(folder: Path) -> bool:
    """Whether a folder holds a model, whatever else is in it, such as nnU-Net's ``progress.png``."""
    return any(next(folder.glob(sign), None) is not None for sign in _SIGNS)


def _is_nnunet(path: Path) -> bool:
    folder = path.parent if path.name.startswith(_FOLD) else path
    return (folder / "plans.json").is_file() or folder.name.count("__") == 2


def _placed(made: Callable[[], TunablePolicy], path: Path) -> TunablePolicy:
    policy = made()
    check_weights(policy.network, path)
    runtime().place(policy.network)
    return policy


def _lite_medsam(weights: WeightFile, preparation: Preparation | None) -> OpenModel:
    """One structure without a name, asked for by a box, in images of any size."""
    path, network = weights.path, network_of(weights)
    card = promptable_card(network, _ASKED_FOR, preparation or Preparation(dims=2))

    def policy() -> TunablePolicy:
        return card.policy_of(network_of(weights))

    def write(networks: Mapping[str, nn.Module], out: Path) -> Path:
        (tuned,) = networks.values()
        with atomic_folder(out) as partial_folder:
            write_like(tuned, weights, partial_folder / path.name)
        return out / path.name

    return OpenModel(path, card, {"": policy}, None, write)


def _own(path: Path, trust: bool) -> TunablePolicy:
    return load_model(path, trust=trust)[0]


def _nnunet(path: Path, trust: bool) -> OpenModel:
    one = path.name.startswith(_FOLD)
    folds = [path.name.removeprefix(_FOLD)] if one else None
    outer = path.parent if one else path
    checkpoint = checkpoint_of(outer, folds)
    folder = read_nnunet(outer, folds=folds, checkpoint=checkpoint, trust=trust)
    if checkpoint != FINAL:
        log.warning(
            "%s has no %s, so %s is taken, of a training that is perhaps not finished. What is tuned "
            "is written under that name, too: nnUNetv2_predict -chk %s.",
            *(path, FINAL, checkpoint, checkpoint),
        )

    def write(networks: Mapping[str, nn.Module], out: Path) -> Path:
        tuned = {name.removeprefix(_FOLD): network for name, network in networks.items()}
        return write_nnunet(folder, tuned, out / folder.path.resolve().name)

    members = {f"{_FOLD}{fold}": partial(folder.policy, fold) for fold in folder.folds}
    card = replace(folder.card(), mirroring=folder.mirroring)
    return OpenModel(path, card, members, folder.labelled, write)


def _bundle(path: Path, trust: bool, preparation: Preparation | None) -> OpenModel:
    bundle = read_bundle(path, trust=trust)
    if preparation is None:
        preparation = bundle.preparation()
    for difference in bundle.differences(preparation):
        log.warning(
            "%s: %s. The network was trained on what its own preprocessing gives.", path, difference
        )
    if not (preparation.size or preparation.crop or preparation.patch):
        preparation = replace(preparation, patch=bundle.patch(preparation.dims))

    def write(networks: Mapping[str, nn.Module], out: Path) -> Path:
        (network,) = networks.values()
        return write_bundle(bundle, network, out / path.resolve().name)

    return OpenModel(path, bundle.card(preparation), {"": bundle.policy}, None, write)


def _plain(path: Path, trust: bool) -> OpenModel:
    model = read_plain(path, trust=trust)

    def write(networks: Mapping[str, nn.Module], out: Path) -> Path:
        (network,) = networks.values()
        return write_plain(model, network, out)

    told = model.card.labelled if "labelled" in model.description else None
    return OpenModel(path, model.card, {"": model.policy}, told, write)
