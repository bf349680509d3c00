"""Masks of new images, on their own voxels and with their own geometry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from segpref.data.dicom import is_radiograph
from segpref.data.images import images_for
from segpref.data.index import source_id
from segpref.data.manifest import is_manifest
from segpref.data.masks import mask_paths
from segpref.data.packed_images import packed_ending
from segpref.data.source import Reader, Source
from segpref.data.volumes import file_stem, is_nifti, is_picture
from segpref.inference.case_masks import CaseMasks
from segpref.inference.mask_writing import write_mask
from segpref.inference.user_prompts import UserPrompts, prompted_with
from segpref.inference.windows import whole_network
from segpref.locking import alone_in
from segpref.memory import Setting, out_of_memory_reason, ran_out
from segpref.policies import ModelCard
from segpref.policies.model_formats import OpenModel, open_model
from segpref.progress import console, progress_bar
from segpref.prompts import prompted
from segpref.terminal import one_line
from segpref.types import Case, SegprefError

__all__ = ["predict_folder"]

_LOSSY = (".jpg", ".jpeg", ".gif")


def predict_folder(
    model: OpenModel | Path | str,
    images: Path | str,
    output: Path | str,
    *,
    patch: Sequence[int] | None = None,
    overlap: float = 0.5,
    batch_size: int = 8,
    overwrite: bool = False,
    prompts: UserPrompts | None = None,
    carry: bool = False,
    reorient: bool = True,
) -> list[Path]:
    """Write the masks of images with the geometry of their input.

    Masks take the names of their images, or the ids of a table that gives ids. NIfTI, PNG, TIFF and
    BMP keep their format, JPEG, GIF and radiographs in DICOM become PNG, DICOM series become NIfTI;
    structures that may overlap go to one file each
    (:func:`~segpref.inference.mask_writing.write_mask`). A model of several channels takes
    nnU-Net's ``NAME_0000``, ``NAME_0001``, ... where the folder has such files; masks are called
    NAME. An image that can't be segmented, such as a damaged file, is reported at once and does not
    keep the others from being segmented. Each mask is written as soon as it is made.

    Args:
        model: opened, or where it is (see :func:`~segpref.policies.model_formats.open_model`).
        images: an image file, the folder of a DICOM series, a folder of images or series, a table of
            images (:func:`~segpref.data.manifest.read_manifest`), or a packed dataset.
        output: folder of the masks, not one of images; made if it is not there.
        patch: as in :func:`~segpref.inference.case_masks.predict_case`.
        overlap: as in :func:`~segpref.inference.case_masks.predict_case`.
        batch_size: as in :func:`~segpref.inference.case_masks.predict_case`.
        overwrite: make masks anew that are there already; they are skipped otherwise.
        prompts: asked in place of a promptable model's own; on a volume they are carried from their
            slice to the others (:func:`~segpref.inference.propagate.propagate`).
        carry: in volumes, a promptable model's own prompts, too, are carried, from the slice where it
            is surest; otherwise every slice has its own.
        reorient: whether volumes are turned as in training, and their masks turned back; otherwise
            they are used unchanged.

    Returns:
        The files that were written, in the order of the images.

    Raises:
        SegprefError: no images, no place for masks, prompts that don't suit the model, or another
            process that writes there; or, after all others are written, images that could not be
            segmented, with their number and the reasons.
    """
    opened = model if isinstance(model, OpenModel) else open_model(model)
    card, policies = opened.card, opened.policies()
    masks = CaseMasks(
        whole_network(policies, card.preparation, opened.mirroring, patch, overlap, batch_size),
        card,
        reorient,
    )
    reader, output = images_for(images, card.channels), Path(output).expanduser()
    check_output(output, reader, Path(images).expanduser())
    given = prompts or UserPrompts()
    given.check(policies[0], reader.sources())
    if carry:
        prompted(policies[0])
    targets = [(source, output / mask_name(source)) for source in reader.sources()]
    refuse_inputs(
        reader, (file for _, path in targets for file in mask_paths(path, card.label_space))
    )

    def made(source: Source, path: Path, case: Case) -> Sequence[Path]:
        asked, name = given.moved(source, case, card.preparation), source.images[0]
        if asked.slice is not None:
            mask = masks.carried(prompted(policies[0]), case, name, asked.prompts, asked.slice)
        elif asked.prompts:
            with prompted_with(policies[0], asked.prompts):
                if carry and case.image.ndim == 4:
                    mask = masks.carried(prompted(policies[0]), case, name)
                else:
                    mask = masks(case, name, turn=False)
        elif carry and case.image.ndim == 4:
            mask = masks.carried(prompted(policies[0]), case, name)
        else:
            mask = masks(case, name)
        return write_mask(path, mask, card.label_space, like(source, case))

    with alone_in(output):
        todo = [(source, path) for source, path in targets if overwrite or not _there(path, card)]
        sizes: Mapping[str, Setting] = {"--batch_size": batch_size, "--patch": patch}
        return each_image(reader, todo, made, output, sizes)


def each_image(
    reader: Reader,
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


def check_output(output: Path, reader: Reader, images: Path) -> None:
    files = [path for source in reader.sources() for path in source.images]
    given = [] if is_manifest(images) else [images]
    folders = {path if path.is_dir() else path.parent for path in [*given, *files]}
    # Images may be links to files elsewhere.
    real = {Path(os.path.realpath(path)).parent for path in files if path.is_file()}
    if Path(os.path.realpath(output)) in {Path(os.path.realpath(one)) for one in folders} | real:
        raise SegprefError(
            f"{output} holds the images, which would be overwritten by masks or mixed with them: "
            "choose another output folder"
        )
    there = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise SegprefError(
            f"{output} can't hold masks, because {there} is not a folder that you may write to: choose "
            "another output folder"
        )


def refuse_inputs(reader: Reader, masks: Iterable[Path]) -> None:
    """Refuse masks that would replace an image: of its name, a link to it, or what it is a link to."""
    # A link of the images may lead nowhere or in a circle: reading it says so.
    images = {
        (one.st_dev, one.st_ino)
        for source in reader.sources()
        for path in source.images
        if (one := _status(path)) is not None
    }
    for path in masks:
        found = _status(path)
        if found is not None and (found.st_dev, found.st_ino) in images:
            raise SegprefError(
                f"{path} is a link to an image, or the image itself, which its mask would "
                "overwrite: remove the link, or choose another output folder"
            )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, RuntimeError):  # RuntimeError: links in a circle, until Python 3.13
        return None


def mask_name(source: Source) -> str:
    """What the mask of an image is called: as its file, or by its id where it has one of its own."""
    path = source.images[0]
    if path.is_file() and (is_nifti(path) or is_picture(path)):
        stem = file_stem(path)
        ending = path.name[len(stem) :]
        stem = stem if source.id.endswith("_0000") else stem.removesuffix("_0000") or stem
        name = stem if source_id(stem) == source.id else source.id
        return name + (".png" if ending.lower() in _LOSSY else ending)
    if path.suffix == ".npz":
        return source.id + packed_ending(path)
    radiograph = path.is_file() and is_radiograph(path)
    return source.id + (".png" if radiograph else ".nii.gz")


def _there(path: Path, card: ModelCard) -> bool:
    return all(file.exists() for file in mask_paths(path, card.label_space))


def _named(error: BaseException, source: Source, sizes: Mapping[str, Setting]) -> str:
    if isinstance(error, SegprefError):
        return str(error)
    if ran_out(error):
        return f"{source.images[0]} could not be segmented ({out_of_memory_reason(error, sizes)})"
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{source.images[0]} could not be segmented ({reason})"
