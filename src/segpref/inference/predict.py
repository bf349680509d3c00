"""Masks of new images, on their own voxels and with their own geometry."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from segpref.cluster import RayPool, spread
from segpref.data.dicom_images import write_series_report
from segpref.data.images import images_for
from segpref.data.series_rule import ANY_SERIES, SeriesRule
from segpref.data.source import Reader, Source
from segpref.inference.attempts import Outcome, SomeFailed, attempt
from segpref.inference.mask_formats import AS_IMAGES, MaskFormat
from segpref.inference.mask_maker import MaskMaker, MaskOptions
from segpref.inference.mask_places import check_output, refuse_inputs
from segpref.inference.pipeline import pipelined
from segpref.inference.user_prompts import UserPrompts
from segpref.locking import alone_in
from segpref.memory import Setting
from segpref.policies.model_formats import OpenModel, open_model
from segpref.progress import console, progress_bar
from segpref.terminal import one_line
from segpref.types import Case

__all__ = ["each_image", "predict_folder"]


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
    pool: RayPool | None = None,
    series: SeriesRule = ANY_SERIES,
    format: MaskFormat = AS_IMAGES,
    reader: Reader | None = None,
) -> list[Path]:
    """Write the masks of images with the geometry of their input.

    Masks take the names of their images, or the ids of a table that gives ids. NIfTI, PNG, TIFF and
    BMP keep their format, JPEG, GIF and radiographs in DICOM become PNG, other volumes become NIfTI;
    structures that may overlap go to one file each
    (:func:`~segpref.inference.mask_writing.write_mask`). A model of several channels takes
    nnU-Net's ``NAME_0000``, ``NAME_0001``, ... where the folder has such files; masks are called
    NAME. Images that go through the network together have logits that may differ in their last bits
    from those of one alone, and so the mask of a pixel where two classes tie. An image that can't be
    segmented, such as a damaged file, is reported at once and does not keep the others from being
    segmented. Each mask is written as soon as it is made.

    Args:
        model: opened, or where it is (see :func:`~segpref.policies.model_formats.open_model`).
        images: an image file, the folder of a DICOM series, a folder of images or series, a table of
            images (:func:`~segpref.data.manifest.read_manifest`), or a packed dataset.
        output: folder of the masks, not one of images; made if it is not there.
        patch: as in :func:`~segpref.inference.case_masks.predict_case`.
        overlap: as in :func:`~segpref.inference.case_masks.predict_case`.
        batch_size: slices, windows, or images of one size that follow one another, that go through
            the network at once.
        overwrite: make masks anew that are there already; they stay otherwise, whichever model made
            them, and their number is told.
        prompts: asked in place of a promptable model's own; on a volume they are carried from their
            slice to the others (:func:`~segpref.inference.propagation.propagate`).
        carry: in volumes, a promptable model's own prompts, too, are carried, from the slice where it
            is surest; otherwise every slice has its own.
        reorient: whether volumes are turned as in training, and their masks turned back; otherwise
            they are used unchanged.
        pool: whose workers share the images, which they read and whose masks they write under the same
            paths; the masks are the same. This process alone where None.
        series: which DICOM series of a folder are images; ``series.csv`` in the output says which were.
        format: of the files of masks; as above where left out, or
            :func:`~segpref.inference.mask_formats.mask_format` makes others.
        reader: of these images, where they are open already.

    Returns:
        The files that were written, in the order of the images.

    Raises:
        SegprefError: no images, no place for masks, prompts that don't suit the model, or another
            process that writes there; or, after all others are written, images that could not be
            segmented, with their number and the reasons.
    """
    opened = model if isinstance(model, OpenModel) else open_model(model)
    given = prompts or UserPrompts()
    options = MaskOptions(patch, overlap, batch_size, given, carry, reorient, format)
    made, card = MaskMaker(opened, options), opened.card
    reader = images_for(images, card.channels, series) if reader is None else reader
    output = Path(output).expanduser()
    check_output(output, reader, Path(images).expanduser())
    given.check(made.policy, reader.sources())
    format.check(reader)
    targets = [(source, output / format.name(source)) for source in reader.sources()]
    space = card.label_space
    refuse_inputs(reader, (file for _, path in targets for file in format.files(path, space)))
    with alone_in(output):
        write_series_report(reader, output)
        todo = [
            (source, path)
            for source, path in targets
            if overwrite or not all(file.exists() for file in format.files(path, space))
        ]
        _tell_kept(len(targets) - len(todo), len(targets), output)
        if pool is None or pool.ray is None:
            pipe = partial(pipelined, reader, todo, made, batch_size, options.sizes)
            return _collected(pipe, todo, output)
        return _on_pool(pool, opened, options, reader, todo, output)


def _tell_kept(kept: int, masks: int, output: Path) -> None:
    """Say that masks stay which may be of another model: from here on they lie beside new ones."""
    if 0 < kept < masks:
        console.print(
            f"{output}: {kept} of {masks} masks are there already and stay, whichever model made them. "
            "With --overwrite true all are of this one.",
            highlight=False,
            soft_wrap=True,
        )


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

    def each(begins: Callable[[Path], None]) -> Generator[tuple[int, Outcome]]:
        for number, (source, path) in enumerate(todo):
            begins(path)
            yield number, _attempt(reader, make, sizes, source, path)

    return _collected(each, todo, output)


def _on_pool(
    pool: RayPool,
    opened: OpenModel,
    options: MaskOptions,
    reader: Reader,
    todo: Sequence[tuple[Source, Path]],
    output: Path,
) -> list[Path]:
    """The same by the workers of a pool, which read the images and write the masks themselves."""
    assert opened.again is not None

    def lost(item: tuple[Source, Path]) -> Outcome:
        why = "its process died every time, perhaps for want of memory"
        return Outcome((), f"{item[0].images[0]} could not be segmented ({why})")

    def each(begins: Callable[[Path], None]) -> Generator[tuple[int, Outcome]]:
        arguments = (opened.again, options, reader)
        for number, outcome in spread(pool, _Worker, arguments, todo, lost=lost):
            begins(todo[number][1])
            yield number, outcome

    return _collected(each, todo, output)


class _Worker:
    """Makes masks in a process of the pool."""

    def __init__(
        self, again: Callable[[], OpenModel], options: MaskOptions, reader: Reader
    ) -> None:
        self._make = MaskMaker(again(), options)
        self._reader, self._sizes = reader, options.sizes

    def __call__(self, item: tuple[Source, Path]) -> Outcome:
        return _attempt(self._reader, self._make, self._sizes, *item)


def _attempt(
    reader: Reader,
    make: Callable[[Source, Path, Case], Sequence[Path]],
    sizes: Mapping[str, Setting],
    source: Source,
    path: Path,
) -> Outcome:
    return attempt(lambda: make(source, path, reader.read(source)), source, sizes)


def _collected(
    each: Callable[[Callable[[Path], None]], Generator[tuple[int, Outcome]]],
    todo: Sequence[tuple[Source, Path]],
    output: Path,
) -> list[Path]:
    """What was written, in the order of the images, failures are printed at once."""
    written: dict[int, tuple[Path, ...]] = {}
    failures: dict[int, str] = {}
    with progress_bar() as bar:
        task = bar.add_task("predicting", total=len(todo), note="")
        # Closed at once where this ends early: what it began is then at its end, too.
        with closing(each(lambda path: bar.update(task, note=path.name))) as outcomes:
            for number, outcome in outcomes:
                written[number] = outcome.written
                if (why := outcome.failed) is not None:
                    failures[number] = why
                    console.print(one_line(why), style="red", highlight=False, soft_wrap=True)
                bar.advance(task)
    if failures:
        failed = [failures[number] for number in sorted(failures)]
        raise SomeFailed(
            f"{len(todo) - len(failed)} of {len(todo)} images were segmented into {output}, "
            f"{len(failed)} failed: "
            + "; ".join(failed[:5])
            + (f"; and {len(failed) - 5} more" if len(failed) > 5 else "")
        )
    return [path for number in sorted(written) for path in written[number]]
