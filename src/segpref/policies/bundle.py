"""MONAI bundles as policies, and back into bundles that ``python -m monai.bundle run`` takes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from segpref.data.preparation import Preparation
from segpref.policies.atomic_writes import atomic_folder
from segpref.policies.bundle_channels import channels_of, label_space_of
from segpref.policies.bundle_config import network_of, open_config, windows_of
from segpref.policies.bundle_kind import image_of, refuse_guided, segmentation_of
from segpref.policies.bundle_transforms import settings_of, transforms_of
from segpref.policies.checkpoints import ModelCard, NetworkSpec
from segpref.policies.segmenter import Segmenter
from segpref.policies.weights import WeightFile, read_weights, write_weights
from segpref.trust import is_own, read_json
from segpref.types import LabelSpace, SegprefError
from segpref.version import __version__

__all__ = ["Bundle", "read_bundle", "write_bundle"]

_WEIGHTS = Path("models") / "model.pt"
_OLD_WEIGHTS = ("*.pt", "*.pth", "*.ts", "*.onnx", "*.trt", "*.engine")


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk; made by :func:`read_bundle`.

    Args:
        path: its folder.
        metadata: content of ``configs/metadata.json``.
        network: class and arguments of ``network_def``, with all references resolved.
        label_space: what the outputs mean.
        channels: names of the image channels.
        windows: that its inferer slides, as the configuration has it (``roi_size``).
        transforms: of images before the network, as text; None where the configuration names none.
        file: the weights.
    """

    path: Path
    metadata: Mapping[str, Any]
    network: NetworkSpec
    label_space: LabelSpace
    channels: tuple[str, ...]
    windows: Any
    transforms: Sequence[Any] | None
    file: WeightFile

    def card(self, preparation: Preparation, labelled: Sequence[str] = ()) -> ModelCard:
        """What a model file of segpref says of such a network.

        Args:
            preparation: what the bundle's own preprocessing amounts to.
            labelled: patients that it was trained with: the bundle itself does not say.
        """
        own = is_own(self.network.module)
        return ModelCard(
            self.network,
            self.label_space,
            preparation,
            self.channels,
            tuple(labelled),
            code=str(self.path.resolve()) if own else None,
        )

    def patch(self, dims: int) -> tuple[int, ...] | None:
        """Voxels of the windows that its inferer slides; None where it sees whole images.

        Args:
            dims: number of axes of what the network sees.

        Raises:
            SegprefError: the configuration has them as code that is not run, for another number of
                axes, or some axes whole and others not.
        """
        windows = [self.windows] * dims if isinstance(self.windows, int) else self.windows
        if windows is None:
            return None
        if isinstance(windows, list | tuple):
            sizes = [size for size in windows if isinstance(size, int) and size > 0]
            # As MONAI has it, an axis without a size is taken whole.
            if not sizes and all(size is None or isinstance(size, int) for size in windows):
                return None
            if len(sizes) == len(windows) == dims:
                return tuple(sizes)
        raise SegprefError(
            f"the bundle {self.path} slides windows of {str(self.windows)[:60]}, which is not a "
            f"number of voxels for each of"
            f" {dims} axes: give --preparation.patch (or other --preparation.dims; "
            "where it is code, --trust runs it)"
        )

    def preparation(self) -> Preparation:
        """What its own preprocessing amounts to, as far as its configuration says it as text.

        Raises:
            SegprefError: it names no transforms, or some that no preparation can express.
        """
        settings, unknown = self._settings(self._dims)
        if not self.transforms or unknown:
            what = f"what {', '.join(unknown)} does" if unknown else "how images are prepared"
            raise SegprefError(
                f"the configuration of the bundle {self.path} does not say as text {what}: say what "
                "its preprocessing amounts to with --preparation (dims, orientation, spacing_mm, "
                "normalise, window, ...)"
            )
        # MONAI scales channel by channel where it is asked to, colours or not.
        return Preparation(**{"dims": self._dims, "colour_range": "each", **settings})

    def differences(self, preparation: Preparation) -> list[str]:
        """Where a preparation does something else than its own preprocessing, one sentence each."""
        settings, unknown = self._settings(preparation.dims)
        told = [
            f"its preprocessing amounts to {name} {value}, the preparation has {given}"
            for name, value in settings.items()
            if self.transforms and (given := getattr(preparation, name)) != value
        ]
        return told + [f"of its preprocessing, {name} is not looked at" for name in unknown]

    def _settings(self, dims: int) -> tuple[dict[str, Any], list[str]]:
        return settings_of(self.transforms or [], dims, len(self.channels))

    @property
    def _dims(self) -> Literal[2, 3]:
        windows = self.windows if isinstance(self.windows, list | tuple) else ()
        return 2 if (self.network.arguments.get("spatial_dims") or len(windows)) == 2 else 3

    def policy(self) -> Segmenter:
        """A network of its own with the bundle's weights."""
        network = self.network.build()
        self.file.load_into(network)
        return Segmenter(network, self.label_space)


def read_bundle(
    path: Path | str,
    *,
    config: str = "inference",
    label_space: LabelSpace | None = None,
    trust: bool = False,
) -> Bundle:
    """Open a bundle: its metadata, its inference configuration and ``models/model.pt``.

    The label space is that of ``channel_def`` in the metadata: exclusive classes where channel 0 is the
    background, structures that may overlap otherwise. Weights are never unpickled. Configurations are
    text, unless they hold expressions (``$...``), which are Python code, or name code of the bundle or
    any other class than those of MONAI and torch that are known to be harmless.

    Args:
        path: folder of the bundle.
        config: name of the configuration that defines the network.
        label_space: if the metadata are missing or wrong.
        trust: whether code in the definition of the network may be run.

    Raises:
        SegprefError: the bundle is not for segmentation, a file is missing or damaged, the definition
            needs ``trust``, or the label space can't be told.
    """
    path = Path(path).expanduser()
    metadata = _json(path / "configs" / "metadata.json")
    output = segmentation_of(metadata, path)
    parser = open_config(path, config, trust)
    transforms = transforms_of(parser)
    refuse_guided(transforms, path)
    network = network_of(parser, path, trust)
    return Bundle(
        path=path,
        metadata=metadata,
        network=network,
        label_space=label_space or label_space_of(output, path),
        channels=channels_of(image_of(metadata.get("network_data_format")), path),
        windows=windows_of(parser, path, trust),
        transforms=transforms,
        file=read_weights(path / _WEIGHTS),
    )


def write_bundle(bundle: Bundle, network: nn.Module, out: Path | str) -> Path:
    """Write the bundle with tuned weights: ``version`` and ``changelog`` go on, all else is kept.

    Exports of the old weights (TorchScript, ONNX, TensorRT) are left out.

    Args:
        bundle: what the network came from.
        network: the tuned network.
        out: the folder to make, atomically.

    Raises:
        SegprefError: the place is taken or can't be written to.
    """
    out = Path(out).expanduser()
    with atomic_folder(out) as partial:
        shutil.copytree(bundle.path, partial, ignore=_left_out(bundle.path), dirs_exist_ok=True)
        write_weights(partial / _WEIGHTS, network, bundle.file)
        text = json.dumps(_next_version(bundle.metadata), indent=4)
        (partial / "configs" / "metadata.json").write_text(text + "\n", encoding="utf-8")
    return out


def _left_out(root: Path) -> Any:
    weights = shutil.ignore_patterns(*_OLD_WEIGHTS)

    def chosen(folder: str, names: list[str]) -> set[str]:
        hidden = {name for name in names if name in (".git", "__pycache__")}
        return hidden | (weights(folder, names) if Path(folder) == root / "models" else set())

    return chosen


def _next_version(metadata: Mapping[str, Any]) -> dict[str, Any]:
    before = str(metadata.get("version", "0.0.0"))
    first, _, last = before.rpartition(".")
    version = f"{first}.{int(last) + 1}" if first and last.isdigit() else f"{before}.1"
    note = f"fine-tuned from {before} on preferences between masks, by segpref {__version__}"
    return {
        **metadata,
        "version": version,
        "changelog": {version: note, **metadata.get("changelog", {})},
    }


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise SegprefError(f"there is no {path}: name the folder of a MONAI bundle")
    content = read_json(path)
    if not isinstance(content, dict):
        raise SegprefError(f"{path} does not describe a bundle: copy it again")
    return content
