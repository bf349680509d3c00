"""Export of networks to TorchScript and ONNX, checked against the original."""

from __future__ import annotations

import copy
import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segpref.data.cache import write_atomically
from segpref.extras import needed
from segpref.memory import ran_out
from segpref.policies import ModelCard, TunablePolicy
from segpref.types import SegprefError

__all__ = ["Exported", "export_network"]

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Args:
        path: the file.
        format: ``torchscript`` or ``onnx``.
        dynamic: what of the input's shape may differ from the example: ``batch``, ``space``.
        difference: largest absolute difference of a logit from the network's own, over all shapes
            that were tried.
    """

    path: Path
    format: Literal["torchscript", "onnx"]
    dynamic: tuple[str, ...]
    difference: float


def export_network(
    model: TunablePolicy,
    card: ModelCard,
    path: Path | str,
    size: Sequence[int],
    tolerance: float = 1e-4,
) -> Exported:
    """Write a network as TorchScript (``.ts``) or ONNX (``.onnx``): prepared images to logits.

    The network is traced on noise, and what is written is run against it: on the example's shape, on
    other numbers of images, and on another size. What the trace does not take, the file refuses
    (a fixed size), so that it never gives wrong masks without a word.

    Args:
        model: the network.
        card: its card, which goes into the file as JSON under the name ``card``.
        path: the file.
        size: spatial shape of the example, such as the patch.
        tolerance: largest difference of a logit that is taken for equal.

    Raises:
        SegprefError: an ending that is not known, a package that is missing, a network that can't be
            traced, or a file that gives other logits than the network.
    """
    path = Path(path).expanduser()
    network = _Logits(copy.deepcopy(getattr(model.network, "module", model.network))).cpu().eval()
    example = _noise(2, len(card.channels), size)
    with torch.no_grad(), warnings.catch_warnings():
        # Tracing warns of every Python number; what it would break is found by running it.
        warnings.simplefilter("ignore")
        if path.suffix == ".ts":
            written, run, dynamic = _torchscript(network, card, example, tolerance)
        elif path.suffix == ".onnx":
            written, run, dynamic = _onnx(network, card, example, tolerance)
        else:
            raise SegprefError(f"{path} must end in .ts (TorchScript) or .onnx")
        shapes = [example, *_others(network, example, dynamic)]
        difference = max(_difference(network, run, images) for images in shapes)
    if not difference <= tolerance:
        raise SegprefError(
            f"{_name(network)} gives other logits once it is exported to {path.suffix} (by up to "
            f"{difference:.2g}): it can't be exported faithfully; keep its .safetensors file"
        )
    write_atomically(path, written)
    kind: Literal["torchscript", "onnx"] = "torchscript" if path.suffix == ".ts" else "onnx"
    return Exported(path, kind, dynamic, difference)


class _Logits(nn.Module):
    """The network without heads of lower resolution."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        output = self.network(image)
        logits = output[0] if isinstance(output, list | tuple) else output
        assert isinstance(logits, Tensor)
        return logits


class _OneSize(nn.Module):
    """A trace that refuses what it was not traced on."""

    def __init__(self, traced: nn.Module, size: list[int], batch: int) -> None:
        super().__init__()
        self.traced, self.size, self.batch = traced, size, batch

    def forward(self, image: Tensor) -> Tensor:
        if list(image.shape[2:]) != self.size and len(self.size) > 0:
            raise ValueError(f"this network takes images of {self.size} voxels only")
        if image.shape[0] != self.batch and self.batch > 0:
            raise ValueError(f"this network takes {self.batch} images at once only")
        logits: Tensor = self.traced(image)
        return logits


def _torchscript(
    network: _Logits, card: ModelCard, example: Tensor, tolerance: float
) -> tuple[bytes, Run, tuple[str, ...]]:
    traced = _attempted(lambda: _trace(network, example), network)
    dynamic = _dynamic(network, traced, example, tolerance)
    if len(dynamic) < 2:
        size = [] if "space" in dynamic else list(example.shape[2:])
        traced = torch.jit.script(_OneSize(traced, size, 0 if "batch" in dynamic else len(example)))
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer, _extra_files={"card": card.to_json()})
    buffer.seek(0)
    # What is checked is what was written.
    loaded: Run = torch.jit.load(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue(), loaded, dynamic


def _onnx(
    network: _Logits, card: ModelCard, example: Tensor, tolerance: float
) -> tuple[bytes, Run, tuple[str, ...]]:
    onnx, onnxruntime = (needed(package, "export") for package in ("onnx", "onnxruntime"))

    def write(dynamic: Sequence[str]) -> tuple[bytes, Run]:
        names = {
            "batch": {0: "batch"},
            "space": {n: f"axis{n - 1}" for n in range(2, example.ndim)},
        }
        axes = {axis: name for part in dynamic for axis, name in names[part].items()}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "network.onnx"
            # By way of a trace: the other exporter fails on some transformers and takes far longer.
            torch.onnx.export(
                network,
                (example,),
                file,
                dynamo=False,
                input_names=["image"],
                output_names=["logits"],
                dynamic_axes={"image": axes, "logits": axes},
            )
            content = onnx.load(file)
        entry = content.metadata_props.add()
        entry.key, entry.value = "card", card.to_json()
        data = content.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
        return data, lambda images: torch.from_numpy(
            session.run(None, {"image": images.numpy()})[0]
        )

    both = ("batch", "space")
    data, run = _attempted(lambda: write(both), network)
    dynamic = _dynamic(network, run, example, tolerance)
    if dynamic != both:
        data, run = _attempted(lambda: write(dynamic), network)
    return data, run, dynamic


def _trace(network: _Logits, example: Tensor) -> Any:
    return torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]


def _attempted(export: Callable[[], Any], network: _Logits) -> Any:
    try:
        return export()
    except Exception as error:  # a foreign class may raise anything while it is traced
        if ran_out(error):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SegprefError(
            f"{_name(network)} can't be exported ({reason}): its forward pass must depend on the shape "
            "of its input only, never on its values"
        ) from error


def _dynamic(network: _Logits, run: Run, example: Tensor, tolerance: float) -> tuple[str, ...]:
    """Of what shape the input may be other than the example's."""
    found = []
    for part in ("batch", "space"):
        others = _others(network, example, (part,))
        try:
            if others and all(_difference(network, run, images) <= tolerance for images in others):
                found.append(part)
        except Exception:  # a trace of one shape fails on others in ways of its own
            continue
    return tuple(found)


def _others(network: _Logits, example: Tensor, dynamic: Sequence[str]) -> list[Tensor]:
    """Images of other shapes that the network itself takes."""
    channels, size = example.shape[1], tuple(example.shape[2:])
    found = []
    if "batch" in dynamic:
        found += [_noise(1, channels, size), _noise(3, channels, size)]
    if "space" in dynamic:
        half, more = [n // 2 for n in size], [n + (n & -n) for n in size]
        found += [
            images
            for images in (_noise(1, channels, sizes) for sizes in (half, more) if min(sizes) > 0)
            if _takes(network, images)
        ][:1]
    return found


def _takes(network: _Logits, images: Tensor) -> bool:
    try:
        return bool(network(images).shape[2:] == images.shape[2:])
    except (RuntimeError, ValueError, AssertionError):
        return False


def _difference(network: _Logits, run: Run, images: Tensor) -> float:
    expected, found = network(images), run(images)
    if found.shape != expected.shape:
        return float("inf")
    return float((found - expected).abs().max())


def _noise(
    batch: int, channels: int, size: Sequence[int]
) -> Float[Tensor, "batch channels *space"]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, *size, generator=generator)


def _name(network: _Logits) -> str:
    return type(network.network).__name__
