"""Files of weights that others wrote: ``.pt`` and ``.safetensors``, in and out, never unpickled."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from segpref.data.cache import write_atomically
from segpref.types import SegprefError

__all__ = [
    "WeightFile",
    "check_weights",
    "read_weights",
    "tensor_names",
    "write_tensors",
    "write_weights",
]

_NESTED = ("state_dict", "model_state_dict", "network_weights", "model", "net", "network")
"""Where trainers put the weights in a larger checkpoint."""
_WRAPPED = "module."
"""What DataParallel puts before every name."""


@dataclass(frozen=True)
class WeightFile:
    """A file of weights, and how they lie in it.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote.
        weights: by name, without the prefix of a wrapper.
        key: where they lie in a larger checkpoint; None where they are the whole file.
        prefix: of a wrapper, before every name in the file.
    """

    path: Path
    weights: Mapping[str, Tensor]
    key: str | None = None
    prefix: str = ""

    def load_into(self, network: nn.Module) -> None:
        """Give the network these weights.

        Raises:
            SegprefError: they are not this network's.
        """
        try:
            network.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            reason = " ".join(str(error).partition("\n")[2].split())[:200]
            raise SegprefError(
                f"the weights in {self.path} do not fit {type(network).__name__} ({reason}): name the "
                "class and the arguments that they were trained with"
            ) from error


def check_weights(network: nn.Module, path: Path | str) -> None:
    """Refuse a network with weights that are NaN or infinite.

    Args:
        network: with its weights.
        path: where they come from, for the message.

    Raises:
        SegprefError: it predicts nothing but background, or noise.
    """
    for name, weight in network.state_dict().items():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise SegprefError(
                f"{path} holds weights that are NaN or infinite ({name}): take an earlier "
                "checkpoint, or train it again with a lower learning rate"
            )


def read_weights(path: Path | str, key: str | None = None) -> WeightFile:
    """Open a file of weights without running anything that it may bring along.

    Args:
        path: the file.
        key: where the weights lie in a larger checkpoint; looked for where None.

    Raises:
        SegprefError: the file is damaged, holds more than tensors and plain values, or no weights.
    """
    path = Path(path).expanduser()
    content = _content(path)
    if key is None and not _is_weights(content):
        found = [name for name in _NESTED if _is_weights(content.get(name))]
        key = found[0] if found else None
    weights: Any = content if key is None else content.get(key)
    if not _is_weights(weights):
        raise SegprefError(
            f"{path} holds no weights{'' if key is None else f' under {key!r}'}: name the key of the "
            f"state_dict, out of {', '.join(map(str, list(content)[:8]))}"
        )
    prefix = _WRAPPED if all(name.startswith(_WRAPPED) for name in weights) else ""
    return WeightFile(
        path, {name.removeprefix(prefix): value for name, value in weights.items()}, key, prefix
    )


def tensor_names(path: Path) -> frozenset[str]:
    """Names of the tensors of a ``.safetensors``, of its header alone; none where it can't be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return frozenset(file.keys())
    except (OSError, SafetensorError):
        return frozenset()


def write_weights(path: Path, network: nn.Module, like: WeightFile) -> None:
    """Write a network's weights in the format of the file that it came from, atomically.

    Args:
        path: the file, with the ending of ``like``.
        network: the tuned network.
        like: what it was loaded from; everything else in the file is copied unchanged.
    """
    write_tensors(path, network.state_dict(), like)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], like: WeightFile) -> None:
    """Write weights under names of one's own, see :func:`write_weights`."""
    weights = {
        f"{like.prefix}{name}": value.detach().cpu().contiguous().clone()
        for name, value in tensors.items()
    }
    if like.path.suffix == ".safetensors":
        metadata = _metadata(like.path) if like.path.exists() else None
        write_atomically(path, save(weights, metadata=metadata))
        return
    content: Mapping[str, Any] = weights
    if like.key is not None:
        content = {**_content(like.path), like.key: weights}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def _content(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise SegprefError(f"there is no file {path}: name the file of the weights") from error
    except pickle.UnpicklingError as error:
        raise SegprefError(
            f"{path} is damaged, or holds more than weights, and opening it could run code that "
            f"it contains:"
            " save it again with torch.save(network.state_dict(), ...)"
        ) from error
    except (OSError, SafetensorError, RuntimeError, EOFError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SegprefError(
            f"{path} can't be opened as weights ({reason}): copy it again"
        ) from error


def _is_weights(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(value, Tensor) for value in content.values())
    )


def _metadata(path: Path) -> dict[str, str] | None:
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, str] | None = file.metadata()
        return metadata
