"""What a MONAI bundle is for, by its metadata: segmentation, or something that is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from segpref.types import SegprefError

__all__ = ["image_of", "refuse_guided", "segmentation_of"]

TAKEN = (
    "segpref takes bundles for segmentation, whose network makes of an image one logit for every voxel "
    "and structure"
)
_BY_TASK = {
    "segmentation": r"segment",
    "registration": r"regist",
    "detection": r"detect",
    "classification": r"classif",
    "landmarks": r"landmark|key ?points",
    "image generation": r"generat|synthes|\bgan\b|diffusion",
}
"""Kinds by what the task says, in the order in which they count."""
_BY_OUTPUT = {
    "segmentation": r"segment",
    "classification": r"class|categor",
    "detection": r"object|dict|box",
    "landmarks": r"point|landmark|tuple",
}
"""Kinds by type and format of an output, in the order in which they count."""
_NO_IMAGE = r"latent|noise"
_GUIDED = re.compile(r"Guidance|Click|Prompt")


def segmentation_of(metadata: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The description of the output that is a segmentation, empty where nothing is said of any.

    Type, format and shape of the output decide; the task, where they are not told.

    Args:
        metadata: content of ``configs/metadata.json``.
        path: of the bundle.

    Raises:
        SegprefError: the bundle is for classification, detection, registration, landmarks or the
            generation of images, or has several outputs.
    """
    task = str(metadata.get("task", ""))
    formats = metadata.get("network_data_format")
    if not isinstance(formats, Mapping):
        parts = [name for name in metadata if str(name).endswith("_data_format")]
        if parts and _kind(_BY_TASK, task) != "segmentation":
            kind = _kind(_BY_TASK, task)
            _refuse(path, f"for {kind}" if kind else f"of networks for {', '.join(parts)}", task)
        return {}
    outputs, inputs = _described(formats.get("outputs")), _described(formats.get("inputs"))
    if any(re.search(_NO_IMAGE, f"{name} {_said(one)}") for name, one in inputs.items()):
        _refuse(path, "for image generation", task)
    if len(outputs) > 1 and "pred" not in outputs:
        _refuse(path, f"with several outputs, {', '.join(outputs)}", task)
    output = outputs.get("pred") or next(iter(outputs.values()), {})
    kind = _of_output(output, image_of(formats), task)
    if kind != "segmentation":
        _refuse(path, kind if kind.startswith("with") else f"for {kind}", task)
    return output


def image_of(formats: Any) -> Mapping[str, Any]:
    """The description of the image that the network takes, empty where there is none."""
    inputs = _described(formats.get("inputs") if isinstance(formats, Mapping) else None)
    return inputs.get("image") or next(iter(inputs.values()), {})


def refuse_guided(transforms: Iterable[Any] | None, path: Path) -> None:
    """Refuse a bundle whose network is shown somebody's clicks besides the image.

    Args:
        transforms: of its preprocessing, as text.
        path: of the bundle.

    Raises:
        SegprefError: one of them draws clicks.
    """
    for transform in transforms or ():
        name = str(transform.get("_target_", "")) if isinstance(transform, Mapping) else ""
        if _GUIDED.search(name.rpartition(".")[2]):
            raise SegprefError(
                f"{path} is a MONAI bundle for annotation by clicks ({name.rpartition('.')[2]}), whose "
                f"network needs them besides the image: {TAKEN}"
            )


def _of_output(output: Mapping[str, Any], image: Mapping[str, Any], task: str) -> str:
    said, by_task = _said(output), _kind(_BY_TASK, task)
    by_output = _kind(_BY_OUTPUT, said)
    # Where the sizes of both are numbers, the output is a map of the image or it is none.
    known = _sizes(output) is not None and _sizes(image) is not None
    whole = known and _sizes(output) == _sizes(image)
    if by_output is not None and not (by_output == "classification" and whole):
        return by_output
    if known and not whole and "label" in said:
        return "classification"
    if by_output is not None or said in ("", "image") or "label" in said or "prob" in said:
        return by_task or "segmentation"
    return by_task or f"with an output of the format {said!r}"


def _kind(kinds: Mapping[str, str], text: str) -> str | None:
    return next((kind for kind, word in kinds.items() if re.search(word, text.lower())), None)


def _said(part: Mapping[str, Any]) -> str:
    """Type and format, as one text without repetition."""
    words = [str(part.get(name) or "").lower() for name in ("type", "format")]
    return " ".join(dict.fromkeys(word for word in words if word))


def _sizes(part: Mapping[str, Any]) -> tuple[int, ...] | None:
    sizes = part.get("spatial_shape")
    if not isinstance(sizes, list) or not all(isinstance(size, int) for size in sizes):
        return None
    return tuple(sizes)


def _described(parts: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(parts, Mapping):
        return {}
    return {str(name): part for name, part in parts.items() if isinstance(part, Mapping)}


def _refuse(path: Path, kind: str, task: str) -> NoReturn:
    told = f" ({task})" if task else ""
    raise SegprefError(f"{path} is a MONAI bundle {kind}{told}: {TAKEN}")
