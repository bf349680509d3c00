"""Plain weights as a policy: a ``state_dict`` and a YAML file that describes the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from segpref.data.preparation import Preparation
from segpref.policies.atomic_writes import atomic_folder
from segpref.policies.checkpoints import ModelCard, NetworkSpec
from segpref.policies.tunable import PolicySpec, TunablePolicy
from segpref.policies.weights import WeightFile, read_weights, write_weights
from segpref.trust import check_network, read_yaml
from segpref.types import LabelSpace, Region, SegprefError

__all__ = ["PlainModel", "read_plain", "write_plain"]

_NEEDED = ("weights", "network", "label_space", "preparation")
_KNOWN = (*_NEEDED, "key", "channels", "labelled", "tail")


@dataclass(frozen=True)
class PlainModel:
    """Weights and what they are of; made by :func:`read_plain`.

    Args:
        path: the YAML file.
        description: its content.
        card: the same as segpref's own model files say it.
        file: the weights.
    """

    path: Path
    description: Mapping[str, Any]
    card: ModelCard
    file: WeightFile

    def policy(self) -> TunablePolicy:
        """A network of its own with the weights."""
        network = self.card.network.build()
        self.file.load_into(network)
        return self.card.policy_of(network)


def read_plain(path: Path | str, *, trust: bool = False) -> PlainModel:
    """Open the description of a model.

    .. code-block:: yaml

        weights: unet.pt            # .pt, .pth or .safetensors; relative to this file
        key: state_dict             # where in a larger checkpoint; looked for if left out
        network:
          class_path: monai.networks.nets.UNet
          init_args: {spatial_dims: 3, in_channels: 1, out_channels: 3, ...}
        label_space: {kind: multi-class, names: [background, liver, tumour]}
        preparation: {dims: 3, spacing_mm: [1, 1, 1], normalise: z-score, patch: [96, 96, 96]}
        channels: [CT]
        labelled: [patient1, patient2]
        tail: [decoder.last, head]

    ``weights``, ``network``, ``label_space`` and ``preparation`` are needed. The preparation has the
    ``patch`` that the network was trained on, or the ``size`` of its whole images. ``regions`` of the
    label space are written ``{whole: [1, 2]}``. Weights are never unpickled.

    Args:
        path: the description.
        trust: whether it may name any network class; MONAI's, torch's and segpref's need none.

    Raises:
        SegprefError: the file is no such description, it names a class that needs ``trust``, or its
            weights can't be opened.
    """
    path = Path(path).expanduser()
    content = read_yaml(path)
    if not isinstance(content, dict) or (lacking := [n for n in _NEEDED if n not in content]):
        told = ", ".join(_NEEDED if not isinstance(content, dict) else lacking)
        raise SegprefError(f"{path} does not describe a model: add {told}")
    if unknown := [name for name in content if name not in _KNOWN]:
        raise SegprefError(
            f"{path} has the unknown setting {unknown[0]!r}: choose from {', '.join(_KNOWN)}"
        )
    try:
        card = _card(content)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # What Python says of a None where a mapping is due helps nobody.
        reason = "a value of another type" if "NoneType" in str(error) else f"{error}"
        raise SegprefError(
            f"{path} describes its network, label space or preparation in a way that is not known "
            f"({reason}): see `read_plain` for an example"
        ) from error
    if not trust:
        check_network(card.network.module, card.network.arguments, path)
    weights = read_weights(path.parent / str(content["weights"]), content.get("key"))
    return PlainModel(path, content, card, weights)


def write_plain(model: PlainModel, network: nn.Module, out: Path | str) -> Path:
    """Write tuned weights in the format that they came in, and the same description beside them.

    Args:
        model: what the network came from.
        network: the tuned network.
        out: the folder to make, atomically.

    Returns:
        The new description.

    Raises:
        SegprefError: the place is taken or can't be written to.
    """
    out, weights = Path(out).expanduser(), model.file.path.name
    text = yaml.safe_dump({**model.description, "weights": weights}, sort_keys=False)
    with atomic_folder(out) as partial:
        write_weights(partial / weights, network, model.file)
        (partial / model.path.name).write_text(text, encoding="utf-8")
    return out / model.path.name


def _card(content: Mapping[str, Any]) -> ModelCard:
    network, space = content["network"], content["label_space"]
    regions = dict(space.get("regions", {})).items()
    tail = content.get("tail")
    return ModelCard(
        network=NetworkSpec(network["class_path"], dict(network.get("init_args", {}))),
        label_space=LabelSpace(
            space["kind"],
            tuple(map(str, space["names"])),
            tuple(Region(str(name), tuple(map(int, values))) for name, values in regions),
        ),
        preparation=Preparation.from_key(dict(content["preparation"].items())),
        channels=tuple(map(str, content.get("channels", ("image",)))),
        labelled=tuple(map(str, content.get("labelled", ()))),
        policy=PolicySpec(init_args={} if tail is None else {"tail": list(map(str, tail))}),
    )
