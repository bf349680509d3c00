"""Masks of new images, on their own voxels and with their own geometry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.data.dicom import is_radiograph
from segpref.data.images import Images, images_for
from segpref.data.masks import mask_paths
from segpref.data.source import Source
from segpref.data.volumes import file_stem, is_nifti, is_picture
from segpref.inference.export import write_mask
from segpref.inference.given import Given, GivenPrompts, asked_with
from segpref.inference.propagate import propagate
from segpref.inference.windows import WholeNetwork, WindowedNetwork, whole_network
from segpref.locking import alone_in
from segpref.memory import Setting, memory_told, ran_out
from segpref.policies import ModelCard
from segpref.policies.capabilities import CasePredictor
from segpref.policies.opening import OpenModel, open_model
from segpref.progress import console, progress_bar
from segpref.prompts import PromptedModel, prompted
from segpref.terminal import one_line
from segpref.types import Case, LabelSpace, Predictor, SegprefError

__all__ = ["predict_case", "predict_folder"]

_LOSSY = (".jpg", ".jpeg", ".gif")


def predict_case(
    model: Predictor,
    card: ModelCard,
    case: Case,
    *,
    patch: Sequence[int] | None = None,
    overlap: float = 0.5,
    batch_size: int = 8,
) -> UInt8[np.ndarray, "field *space"]:
    """Mask of one image on the image's own voxels.

    The image is prepared as the model's card says, the logits (not the mask) are brought back to the
    image's grid, and decoded there. Beyond the card's crop everything is background.

    Args:
        model: what predicts.
        card: its card.
        case: the whole image as it is on disk; a label is not looked at.
        patch: voxels of the windows that slide over images larger than that, blended with Gaussian
            weights; smaller images are padded. Without it the network sees the whole image.
        overlap: of neighbouring windows, as a share of the patch.
        batch_size: slices (2D) or windows that go through the network at once.

    Returns:
        uint8 of the shape of ``case.image`` with fields in place of channels.

    Raises:
        SegprefError: another number of channels or axes than the model's, no voxel size where it
            resamples, or a size that its network can't take.
    """
    network = WindowedNetwork(model, card.preparation, patch, overlap, batch_size)
    return _mask(network, card, case)


def predict_folder(
    model: OpenModel | Path | str,
    images: Path | str,
    output: Path | str,
    *,
    patch: Sequence[int] | None = None,
    overlap: float = 0.5,
    batch_size: int = 8,
    overwrite: bool = False,
    prompts: GivenPrompts | None = None,
    carry: bool = False,
) -> list[Path]:
    """Write the mask of an image, or of every image in a folder, with the geometry of its input.

    Masks take the names of their images. NIfTI, PNG, TIFF and BMP keep their format, JPEG, GIF and
    radiographs in DICOM become PNG, DICOM series become NIfTI; structures that may overlap go to one
    file each (:func:`~segpref.inference.export.write_mask`). A model of several channels takes
    nnU-Net's ``NAME_0000``, ``NAME_0001``, ... where the folder has such files; masks are called
    NAME. An image that can't be segmented, such as a damaged file, is told of at once and does not
    keep the others from being segmented. Each mask is written as soon as it is made.

    Args:
        model: opened, or where it is (see :func:`~segpref.policies.opening.open_model`).
        images: an image file, the folder of a DICOM series, or a folder of images or series.
        output: folder of the masks, not one of images; made if it is not there.
        patch: as in :func:`predict_case`.
        overlap: as in :func:`predict_case`.
        batch_size: as in :func:`predict_case`.
        overwrite: make masks anew that are there already; they are skipped otherwise.
        prompts: asked in place of a promptable model's own; on a volume they are carried from their
            slice to the others (:func:`~segpref.inference.propagate.propagate`).
        carry: in volumes, a promptable model's own prompts, too, are carried, from the slice where it
            is surest; otherwise every slice has its own.

    Returns:
        The files that were written, in the order of the images.

    Raises:
        SegprefError: no images, no place for masks, prompts that don't suit the model, or another
            process that writes there; or, after all others are written, images that could not be
            segmented, with their number and the reasons.
    """
    opened = model if isinstance(model, OpenModel) else open_model(model)
    card, policies = opened.card, opened.policies()
    network = whole_network(
        policies, card.preparation, opened.mirroring, patch, overlap, batch_size
    )
    reader, output = images_for(images, card.channels), Path(output).expanduser()
    check_output(output, reader, Path(images).expanduser())
    given = prompts or GivenPrompts()
    given.check(policies[0], reader.sources())
    if carry:
        prompted(policies[0])
    targets = [(source, output / mask_name(source)) for source in reader.sources()]
    refuse_inputs(
        reader, (file for _, path in targets for file in mask_paths(path, card.label_space))
    )

    def made(source: Source, path: Path, case: Case) -> Sequence[Path]:
        asked = given.moved(source, case, card.preparation)
        if asked.slice is not None:
            mask = _carried(prompted(policies[0]), card, case, asked)
        else:
            with asked_with(policies[0], asked.prompts):
                if carry and case.image.ndim == 4:
                    mask = _carried(prompted(policies[0]), card, case, Given())
                else:
                    mask = _mask(network, card, case)
        return write_mask(path, mask, card.label_space, like(source, case))

    with alone_in(output):
        todo = [(source, path) for source, path in targets if overwrite or not _there(path, card)]
        sizes: Mapping[str, Setting] = {"--batch_size": batch_size, "--patch": patch}
        return each_image(reader, todo, made, output, sizes)


def each_image(
    reader: Images,
    todo: Sequence[tuple[Source, Path]],
    make: Callable[[Source, Path, Case], Sequence[Path]],
    output: Path,
    sizes: Mapping[str, Setting],
) -> list[Path]:
    """Segment images one by one; what can't be does not keep the others from it.

    Args:
        reader: reads the images.
        todo: images and what their masks are called.
        make: writes the masks of an image and returns their files.
        output: where they go, as messages name it.
        sizes: what memory grows with, by the names of the options.

    Raises:
        SegprefError: after all others are written, some could not be, with the reasons.
    """
    written: list[Path] = []
    failed: list[str] = []
    with progress_bar() as bar:
        task = bar.add_task("predicting", total=len(todo), note="")
        for source, path in todo:
            bar.update(task, note=path.name)
            try:
                written += make(source, path, reader.read(source))
            except Exception as error:  # whatever it is, the other images are worth having
                failed.append(_named(error, source, sizes))
                console.print(one_line(failed[-1]), style="red", highlight=False, soft_wrap=True)
            bar.advance(task)
    if failed:
        raise SegprefError(
            f"{len(todo) - len(failed)} of {len(todo)} images were segmented into {output}, "
            f"{len(failed)} failed: "
            + "; ".join(failed[:5])
            + (f"; and {len(failed) - 5} more" if len(failed) > 5 else "")
        )
    return written


def like(source: Source, case: Case) -> Path | Case:
    """What tells the geometry: a NIfTI header goes over as it is, of other formats the case knows."""
    return source.images[0] if is_nifti(source.images[0]) else case


def _mask(
    network: WindowedNetwork | WholeNetwork | CasePredictor, card: ModelCard, case: Case
) -> UInt8[np.ndarray, "f *space"]:
    check_case(card, case)
    case = replace(case, label=None)
    if isinstance(network, CasePredictor):
        return network.mask(case)
    preparation, space = card.preparation, card.label_space
    items = preparation.apply(case).images
    mask = np.empty((space.fields, *case.image.shape[1:]), np.uint8)
    sliced = preparation.dims == 2 and case.image.ndim == 4
    # Slices come back to the image's grid a batch at a time: only their masks pile up.
    for start in range(0, len(items), network.batch_size):
        batch = torch.from_numpy(items[start : start + network.batch_size])
        logits = network(batch).float().cpu()
        part = decoded(restored(logits, card, case), space)
        if sliced:
            mask[..., start : start + len(batch)] = part
        else:
            mask[:] = part
    return mask


def _carried(
    model: PromptedModel, card: ModelCard, case: Case, given: Given
) -> UInt8[np.ndarray, "f *space"]:
    """Mask of a volume whose prompts are carried from slice to slice."""
    check_case(card, case)
    slices = torch.from_numpy(card.preparation.apply(replace(case, label=None)).images)
    logits = propagate(model, slices, given.prompts or None, given.slice)
    return decoded(restored(logits, card, case), card.label_space)


def check_case(card: ModelCard, case: Case) -> None:
    wanted, spacing = card.channels, card.preparation.spacing_mm
    if len(case.image) != len(wanted):
        raise SegprefError(
            f"{case.id} has {len(case.image)} channels but the model takes {len(wanted)} "
            f"({', '.join(wanted)}): use images as the model was trained on"
        )
    if spacing is not None and case.spacing_mm is None:
        raise SegprefError(
            f"{case.id} does not tell its voxel size, but the model resamples to "
            f"{' x '.join(f'{step:g}' for step in spacing)} mm: use a file with a voxel size (NIfTI or "
            "DICOM)"
        )


def restored(
    logits: Float[Tensor, "item C *grid"], card: ModelCard, case: Case
) -> Iterator[Float[Tensor, " *space"]]:
    """Logits on the case's own voxels, one channel at a time: all of a large scan's may not fit."""
    # As far from the decision as the logits are on average, so that resampling leaves the edge of the
    # crop where it is.
    strength = float(logits.abs().mean()) or 1.0
    for channel in range(logits.shape[1]):
        background = card.label_space.kind == "multi-class" and channel == 0
        outside = torch.tensor([strength if background else -strength])
        yield card.preparation.restore(logits[:, channel : channel + 1], case, outside)[0]


def decoded(
    channels: Iterator[Float[Tensor, " *space"]], space: LabelSpace
) -> UInt8[np.ndarray, "field *space"]:
    """:meth:`LabelSpace.decode` of channels that come one by one."""
    if space.kind == "multi-label":
        return np.stack([(logits > 0).numpy().astype(np.uint8) for logits in channels])
    best = next(channels).clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8)
    for value, logits in enumerate(channels, start=1):
        # Of equal logits the first wins, as in argmax.
        labels[logits > best] = value
        torch.maximum(best, logits, out=best)
    return labels.numpy()[None]


def check_output(output: Path, reader: Images, images: Path) -> None:
    files = [path for source in reader.sources() for path in source.images]
    folders = {path if path.is_dir() else path.parent for path in [images, *files]}
    if output.resolve() in {folder.resolve() for folder in folders}:
        raise SegprefError(
            f"{output} holds the images, which would be overwritten by masks or mixed with them: "
            "choose another output folder"
        )
    there = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise SegprefError(
            f"{output} can't hold masks, for {there} is no folder that you may write to: choose "
            "another output folder"
        )


def refuse_inputs(reader: Images, masks: Iterable[Path]) -> None:
    """Refuse masks that would be written through a link into an image."""
    images = [path for source in reader.sources() for path in source.images]
    # A link of the images may lead nowhere or in a circle: reading it says so.
    for path in (mask for mask in masks if mask.is_symlink() and mask.exists()):
        if any(image.exists() and path.samefile(image) for image in images):
            raise SegprefError(
                f"{path} is a link to an image, which its mask would overwrite: remove the link, or "
                "choose another output folder"
            )


def mask_name(source: Source) -> str:
    path = source.images[0]
    if path.is_file() and (is_nifti(path) or is_picture(path)):
        stem = file_stem(path)
        ending = path.name[len(stem) :]
        stem = stem if source.id.endswith("_0000") else stem.removesuffix("_0000") or stem
        return stem + (".png" if ending.lower() in _LOSSY else ending)
    radiograph = path.is_file() and is_radiograph(path)
    return source.id + (".png" if radiograph else ".nii.gz")


def _there(path: Path, card: ModelCard) -> bool:
    return all(file.exists() for file in mask_paths(path, card.label_space))


def _named(error: BaseException, source: Source, sizes: Mapping[str, Setting]) -> str:
    if isinstance(error, SegprefError):
        return str(error)
    if ran_out(error):
        return f"{source.images[0]} could not be segmented ({memory_told(error, sizes)})"
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{source.images[0]} could not be segmented ({reason})"
