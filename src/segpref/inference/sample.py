"""Many masks of new images, with their mean, majority vote and uncertainty, on the images' voxels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from segpref.data.dicom_images import write_series_report
from segpref.data.images import images_for
from segpref.data.masks import mask_paths
from segpref.data.orientation import orientation_of
from segpref.data.series_rule import ANY_SERIES, SeriesRule
from segpref.data.source import Source
from segpref.data.volumes import file_stem, is_nifti
from segpref.inference.image_sampler import ImageSampler
from segpref.inference.mask_formats import like
from segpref.inference.mask_places import check_output, mask_name, refuse_inputs
from segpref.inference.mask_writing import write_map, write_mask
from segpref.inference.predict import each_image
from segpref.inference.samples import summarise
from segpref.locking import alone_in
from segpref.progress import console
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["sample_folder"]

log = logging.getLogger(__name__)

_SMALL = 0.5
"""Share of an image below which a crop in its middle is no matter of course."""


def sample_folder(
    image_sampler: ImageSampler,
    images: Path | str,
    output: Path | str,
    *,
    count: int = 16,
    text: str | None = None,
    seed: int = 0,
    centre: tuple[float, float] | None = None,
    series: SeriesRule = ANY_SERIES,
) -> list[Path]:
    """Write masks of an image, or of every image in a folder, with the geometry of its input.

    Every image gets a folder of its own name in ``output`` with ``sample-01``, ..., their ``majority``
    vote, their ``mean`` (share of the samples) and ``uncertainty`` (entropy of that share in bits, 0 to
    1), each with the structure's name. Masks keep the format of the image as
    :func:`~segpref.inference.predict.predict_folder` does; mean and uncertainty are NIfTI, or TIFF
    where the image is a picture. What is there is written anew, but samples of another run that would
    be left beside the new ones are refused.

    A model that was made for crops sees no more of an image: beyond, masks are background, and mean
    and uncertainty NaN. Where that is more than half of an image and no centre is given, it warns.

    Args:
        image_sampler: draws the masks.
        images: as in :func:`~segpref.inference.predict.predict_folder`.
        output: folder of the masks, not one of images; made if it is not there.
        count: samples N of every image.
        text: one prompt for all samples; none where None or blank.
        seed: of the noise; the same seed gives the same samples, and more of them leave the first ones.
        centre: (x, y) of the pixel that the model's crop lies about, in every image (and every slice of
            a volume): of pictures column and row, of NIfTI and DICOM series the first two voxel
            indices, as viewers show them, from 0. The middle where None.
        series: which DICOM series of a folder are images; ``series.csv`` in the output says which were.

    Returns:
        The files that were written.

    Raises:
        SegprefError: no images, no place for masks, a text or centre that the model does not take,
            samples there that would stay beside the new ones, or another process that writes there; or,
            after all others are written, images that could not be segmented, with the reasons.
    """
    reader, output = (
        images_for(images, image_sampler.card.channels, series),
        Path(output).expanduser(),
    )
    check_output(output, reader, Path(images).expanduser())
    if count < 1:
        raise SegprefError(f"at least one sample of every image is needed, not {count}")
    text = text if text and not text.isspace() else None
    image_sampler.check(text, centre)
    todo = [(source, output / mask_name(source)) for source in reader.sources()]
    space = image_sampler.card.label_space
    folders = {_folder(path) for _, path in todo}
    refuse_inputs(reader, (file for one in folders if one.is_dir() for file in one.iterdir()))
    warned = False
    told: set[str | None] = set()

    def make(source: Source, path: Path, case: Case) -> Sequence[Path]:
        nonlocal warned
        if (codes := image_sampler.turns(case, centre)) and (
            own := orientation_of(case)
        ) not in told:
            told.add(own)
            console.print(
                f"{source.images[0]} has axes that point to {own}: it is turned to {codes}, as in "
                "training, and its masks turned back.",
                highlight=False,
                soft_wrap=True,
            )
        seen = image_sampler.seen(case, centre)
        if centre is None and seen.mean() < _SMALL and not warned:
            warned = True
            log.warning(_of_a_part(source, float(seen.mean())))
        masks = image_sampler(case, count, text, seed, centre)
        summary, shape = summarise(masks, seen), like(source, case)
        folder, ending = _folder(path), path.name[len(file_stem(path)) :]
        written: list[Path] = []
        for name, mask in zip(_samples(path, count), masks, strict=True):
            written += write_mask(name, mask, space, shape)
        written += write_mask(folder / f"majority{ending}", summary.majority, space, shape)
        kept = ending if is_nifti(path) else ".tif"
        written += write_map(folder / f"mean{kept}", summary.mean, space, shape)
        written += write_map(folder / f"uncertainty{kept}", summary.uncertainty, space, shape)
        return written

    with alone_in(output):
        write_series_report(reader, output)
        _refuse_leftovers([_samples(path, count) for _, path in todo], space)
        return each_image(
            reader, todo, make, output, {"--batch_size": image_sampler.sampler.batch_size}
        )


def _folder(path: Path) -> Path:
    return path.with_name(file_stem(path))


def _samples(path: Path, count: int) -> list[Path]:
    """Sample n has the same name however many there are."""
    ending = path.name[len(file_stem(path)) :]
    return [_folder(path) / f"sample-{number:02d}{ending}" for number in range(1, count + 1)]


def _refuse_leftovers(samples: Sequence[Sequence[Path]], space: LabelSpace) -> None:
    due = {file for paths in samples for path in paths for file in mask_paths(path, space)}
    for folder in sorted({file.parent for file in due}):
        if left := sorted(set(folder.glob("sample-[0-9]*")) - due):
            raise SegprefError(
                f"{folder} holds samples of another run, such as {left[0].name}, that would stay "
                "beside the new ones and their summaries: choose another output folder, or delete it"
            )


def _of_a_part(source: Source, share: float) -> str:
    return (
        f"{source.images[0]}: the model sees {100 * share:.2g} % of this image, its middle, and knows "
        "nothing of the rest, where masks are empty, mean and uncertainty NaN. Say where to look with "
        '--centre "[x, y]", or give crops.'
    )
