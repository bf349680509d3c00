"""Models on disk: one safetensors file that holds the weights and all that is needed to use them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from segpref.checking import checked
from segpref.data.checksummed_tensors import read_checksummed, read_metadata, write_checksummed
from segpref.data.dataset import Dataset
from segpref.data.orientation import is_orientation
from segpref.data.preparation import Preparation
from segpref.data.prepared import ImagePreparation
from segpref.disk import Damaged
from segpref.memory import ran_out
from segpref.policies.capabilities import KnowsItsImages
from segpref.policies.card_format import FORMAT, current
from segpref.policies.tunable import PolicySpec, TunablePolicy, imported
from segpref.policies.weights import check_weights
from segpref.runtime import runtime
from segpref.trust import (
    PREPARATION,
    check_network,
    check_policy,
    check_preparation,
    is_code_of,
    own_path,
    parse_json,
    path_in_folder,
    require_trust,
    trust_code,
    vouch,
)
from segpref.types import LabelSpace, Region, SegprefError
from segpref.version import __version__

__all__ = [
    "ModelCard",
    "NetworkSpec",
    "load_model",
    "load_network",
    "load_segmenter",
    "read_card",
    "save_model",
]


@checked()
@dataclass(frozen=True)
class NetworkSpec:
    """A network class and its arguments.

    Args:
        module: import path of an ``nn.Module``, such as ``monai.networks.nets.UNet``; of code of a
            model's own folder that of :func:`~segpref.trust.own_path`.
        arguments: its keyword arguments.
    """

    module: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def for_data(self, channels: int, outputs: int) -> NetworkSpec:
        """The same with ``in_channels`` and ``out_channels`` filled in where they are None."""
        known = {"in_channels": channels, "out_channels": outputs}
        filled = {
            name: known[name] if value is None and name in known else value
            for name, value in self.arguments.items()
        }
        return NetworkSpec(self.module, filled)

    @property
    def name(self) -> str:
        """The import path for people and files: as the model's own folder has it."""
        return path_in_folder(self.module)

    def build(self) -> nn.Module:
        """A fresh network.

        What a file names must have been checked (:func:`~segpref.trust.check_network`).
        """
        vouch(self.module, self.arguments)
        network_class = imported(self.module)
        if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
            raise SegprefError(f"{self.name} is not a torch.nn.Module: name a network class")
        try:
            network = network_class(**self.arguments)
        except Exception as error:  # a foreign class may raise anything
            if ran_out(error):
                raise
            reason = " ".join(str(error).split())[:300]
            # An nnU-Net's plans are pages long.
            given = textwrap.shorten(str(dict(self.arguments)), 300, placeholder=" ...")
            raise SegprefError(f"{self.name} can't be made with {given}: {reason}") from error
        assert isinstance(network, nn.Module)
        return network


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model file says about itself.

    Args:
        network: how to build the network.
        label_space: what its outputs mean.
        preparation: how images become its input.
        channels: names of the image channels.
        labelled: patients whose labels it was trained with; they may not be used for alignment or
            testing.
        policy: how the network becomes a policy.
        mirroring: axes of the grid over which whole images are mirrored when they are predicted, as
            nnU-Net does; none where empty.
        code: folder that the network's class lies in, where that is a model's own, such as a MONAI
            bundle; None where the class is installed.
        orientation: where the axes of the training's volumes pointed to, such as ``RAS``; None where
            their files did not tell, or not all the same, and of 2D images.
        spacing_range_mm: smallest and largest voxel size of the training's images per axis; None where
            it is not known.
    """

    network: NetworkSpec
    label_space: LabelSpace
    preparation: ImagePreparation
    channels: tuple[str, ...] = ("image",)
    labelled: tuple[str, ...] = ()
    policy: PolicySpec = field(default_factory=PolicySpec)
    mirroring: tuple[int, ...] = ()
    code: str | None = None
    orientation: str | None = None
    spacing_range_mm: tuple[tuple[float, float], ...] | None = None

    def policy_of(self, network: nn.Module) -> TunablePolicy:
        """The policy of a network of this card.

        Raises:
            SegprefError: what prompts it does not see the images that the card describes.
        """
        policy = self.policy.build(network, self.label_space)
        if isinstance(policy, KnowsItsImages):
            policy.check_preparation(self.preparation)
        return policy

    def with_geometry(self, dataset: Dataset) -> ModelCard:
        """The card with the orientation and the voxel sizes of the images that it is trained with."""
        orientation, ranges = dataset.geometry()
        return replace(self, orientation=orientation, spacing_range_mm=ranges)

    def to_json(self) -> str:
        """The card as JSON."""
        content = asdict(self)
        content["network"]["module"] = self.network.name
        # Most models have neither, and their files stay as they were.
        for name in ("mirroring", "code"):
            if not content[name]:
                del content[name]
        del content["label_space"]["unlabelled"]  # which is of a dataset
        return json.dumps({"segpref": __version__, "format": FORMAT, **content})

    @classmethod
    def from_json(cls, text: str, file: object = "a card", trust: bool = False) -> ModelCard:
        """The card back from JSON, if it names nothing but what may be built.

        Args:
            text: from :meth:`to_json`.
            file: name of its file, for messages.
            trust: whether it may name any class; from then on, this process opens other files with
                the same names and arguments as well.

        Raises:
            SegprefError: it names a class, or an argument, that needs ``trust``.
        """
        raw = current(parse_json(text, f"the card in {file}"), file)
        space = raw["label_space"]
        module = raw["network"]["module"]
        policy = PolicySpec(**raw["policy"])
        if (code := raw.get("code")) is not None:
            if trust:
                trust_code(code)
            require_trust(code, file)
            if is_code_of(Path(code), module):
                module = own_path(code, module)
        network = NetworkSpec(module, raw["network"]["arguments"])
        if not trust:
            check_network(network.module, network.arguments, file)
            check_policy(policy.class_path, policy.init_args, file)
            check_preparation(raw["preparation"], file)
        card = cls(
            network=network,
            label_space=LabelSpace(
                space["kind"],
                tuple(space["names"]),
                tuple(Region(r["name"], tuple(r["values"])) for r in space["regions"]),
                tuple(space["on_disk"]),
            ),
            preparation=_preparation(raw["preparation"]),
            channels=tuple(raw["channels"]),
            labelled=tuple(raw["labelled"]),
            policy=policy,
            mirroring=tuple(raw.get("mirroring", ())),
            code=code,
            orientation=_orientation(raw["orientation"]),
            spacing_range_mm=_ranges(raw["spacing_range_mm"]),
        )
        if trust:
            card.vouch()
        return card

    def vouch(self) -> None:
        """Let files name what this card names, for the rest of this process."""
        vouch(self.network.module, self.network.arguments)
        vouch(self.policy.class_path, self.policy.init_args)
        vouch(PREPARATION, self.preparation.as_key())


def _orientation(codes: Any) -> str | None:
    if codes is not None and not (isinstance(codes, str) and is_orientation(codes)):
        raise ValueError(f"{codes} is no orientation")
    return codes


def _ranges(ranges: Any) -> tuple[tuple[float, float], ...] | None:
    return None if ranges is None else tuple((float(low), float(high)) for low, high in ranges)


def _preparation(key: dict[str, Any]) -> ImagePreparation:
    """Segpref's own preparation, or nnU-Net's, which has plans."""
    if "plans" in key:  # imported late: nnunet itself needs this module
        from segpref.policies.nnunet.preparation import NnUNetPreparation

        return NnUNetPreparation.from_key(key)
    return Preparation.from_key(key)


def save_model(path: Path, network: nn.Module, card: ModelCard) -> None:
    """Write weights and card into one file, atomically."""
    # This process may read it again, whatever network the user named.
    card.vouch()
    write_checksummed(path, network.state_dict(), "card", json.loads(card.to_json()))


def read_card(path: Path, trust: bool = False) -> ModelCard:
    """The card of a model file (or of the ``best.safetensors`` in a run folder).

    Args:
        path: of the model.
        trust: whether it may name any class, see :meth:`ModelCard.from_json`.
    """
    path = _model_file(path)
    try:
        return ModelCard.from_json(json.dumps(read_metadata(path, "card")), path, trust)
    except Damaged as error:
        raise _damaged(path, error) from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise SegprefError(
            f"{path} holds weights but does not say of which model: use a model written by "
            f"`segpref fit` "
            "or `segpref align`"
        ) from error


def load_model(path: Path | str, *, trust: bool = False) -> tuple[TunablePolicy, ModelCard]:
    """A model from its file or run folder, on the device of the program's runtime.

    Args:
        path: of the model.
        trust: whether it may name any class, see :meth:`ModelCard.from_json`.
    """
    network, card = load_network(path, trust=trust)
    return card.policy_of(runtime().place(network)), card


def load_network(path: Path | str, *, trust: bool = False) -> tuple[nn.Module, ModelCard]:
    """The network of a model file or run folder, on the CPU, and the card that says what it is.

    Args:
        path: of the model.
        trust: whether it may name any class, see :meth:`ModelCard.from_json`.

    Raises:
        SegprefError: the file is damaged or does not fit its class, or that is code of a folder which
            has not been trusted in this process (:func:`~segpref.trust.trust_code`).
    """
    path = _model_file(Path(path))
    card = read_card(path, trust)
    network = card.network.build()
    try:
        network.load_state_dict(read_checksummed(path, "card", old=True)[0])
    except Damaged as error:
        raise _damaged(path, error) from error
    except RuntimeError as error:
        raise SegprefError(
            f"the weights in {path} do not fit {card.network.name}: has the class changed since?"
        ) from error
    check_weights(network, path)
    return network, card


def load_segmenter(path: Path | str, trust: bool = False) -> TunablePolicy:
    """A frozen network by the name of its file.

    Name this function as ``class_path`` wherever YAML asks for a predictor.

    Args:
        path: model file or run folder.
        trust: whether it may name any class.
    """
    policy, _ = load_model(path, trust=trust)
    policy.network.requires_grad_(False)
    return policy


def _damaged(path: Path, error: Damaged) -> SegprefError:
    return SegprefError(
        f"{path} is not what was written ({error}): copy it again, or train it again"
    )


def _model_file(path: Path) -> Path:
    path = Path(path)
    if path.is_dir():
        path = path / "best.safetensors"
    if not path.exists():
        raise SegprefError(
            f"there is no model at {path}: name a run folder or a .safetensors file of segpref, a "
            "trained nnU-Net folder, a MONAI bundle, a .yaml that describes weights, or a LiteMedSAM"
        )
    return path
