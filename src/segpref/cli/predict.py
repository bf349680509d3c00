"""`segpref predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.cluster import RayPool
from segpref.inference import QualityConfig
from segpref.inference.mask_formats import FormatName
from segpref.judges import NamedJudge
from segpref.progress import console
from segpref.workflows import predict as run
from segpref.workflows.options import PoolOptions, TrainedModel

__all__ = ["EXAMPLES", "predict"]

EXAMPLES = """\
  segpref predict --model runs/rn-dpo --input IMAGES --output masks
  segpref predict --model NNUNET --input IMAGES --output masks --trust
  segpref predict --model runs/rn-dpo --input pool.csv --output masks --ray auto
  segpref predict --model runs/ct --input EXPORT --output masks --series.description "*thorax*"
  segpref predict --model runs/ct --input EXPORT --output segs --format dicom-seg
  segpref predict --model runs/sam --input image.png --output masks --box "[10, 20, 60, 80]"
  segpref predict --model BASE --input A --output a --judge JUDGE --validation DATA --report report
  segpref predict --model M --input B --output b --judge J --validation a/calibration.json --report b
"""


def predict(
    model: Path,
    input: Path,
    output: Path,
    settings: dict[str, Any],
    opening: TrainedModel,
    pool: RayPool,
    where: PoolOptions,
    quality: QualityConfig,
    patch: tuple[int, ...] | None = None,
    overlap: float = 0.5,
    batch_size: int = 8,
    overwrite: bool = False,
    box: tuple[float, float, float, float] | None = None,
    points: list[tuple[float, float, int]] | None = None,
    text: str | None = None,
    slice: int | None = None,
    prompts: Path | None = None,
    carry: bool = False,
    reorient: bool = True,
    format: FormatName = "image",
    segments: Path | None = None,
    judge: NamedJudge | list[str] | str | None = None,
    validation: Path | None = None,
    report: Path | None = None,
) -> None:
    """Write masks of new images, in the images' own geometry.

    A promptable model makes its own prompts; what is given here takes their place.

    Args:
        model: model file or run folder of segpref, trained nnU-Net folder (or one fold of it), MONAI
            bundle, .yaml that describes plain weights, or lite_medsam.pth.
        input: an image, a folder of images or of DICOM exports in any layout, a table of images
            (.csv or .parquet with a column image of paths and, if wanted, a column id), or a folder
            written by segpref pack.
        output: folder for the masks.
        settings: the resolved options.
        opening: what may be opened.
        pool: whose workers share the images.
        where: which DICOM series are images; data, split and cache of the labelled images.
        quality: settings of the report.
        patch: window in voxels for images that are too large for one pass, where the model's
            preparation has none; not for one with a fixed size.
        overlap: share of a window that overlaps with the next.
        batch_size: images, slices or windows per pass.
        overwrite: replace masks that exist already.
        box: of a promptable model of one structure: where it is in every image, in pixels of the file,
            --box "[x_min, y_min, x_max, y_max]"; x counts columns and y rows, from 0.
        points: likewise, --points "[[x, y, 1], [x, y, 0]]", 1 on the structure and 0 beside it.
        text: likewise, what the structure is, for a model that was made with a text encoder; alone it
            goes for every slice of a volume.
        slice: of a volume, the slice (from 0) that box and points are drawn on; from there they are
            propagated to the slices on both sides, as far as the structure reaches.
        prompts: JSON file with prompts by name of image:
            {"a.png": {"box": [10, 20, 60, 80], "points": [[30, 40, 1]], "text": "a lesion"}}; a list of
            such for several structures, and "slice" for volumes. Images without are asked with the
            model's own.
        carry: in volumes, carry the model's own prompts, too, from the slice where it is surest, in
            place of asking each slice by itself.
        reorient: turn volumes as those of the training, and their masks back; otherwise they are
            used unchanged.
        format: image: NIfTI for volumes, pictures for pictures; dicom-seg: of images that are DICOM
            series, one DICOM-SEG file each, with a segment per structure, that refers to the series;
            seg.nrrd: of volumes, for 3D Slicer.
        segments: CSV file with the codes of structures for dicom-seg, where those that come with
            segpref do not suit.
        judge: scores the masks for a quality report: another model, an IoU regressor, a folder of
            masks, several of these, "[A, B]", averaged, or a class with its arguments (class_path,
            init_args).
        validation: labelled images that show what these scores are worth, of patients that neither
            model nor judge was trained with (others are left out); or the calibration.json of an
            earlier report.
        report: folder for the report: quality.html, quality.csv and quality.json with all masks, worst
            first, and look-first.csv, a table of the flagged images for collect init --pool.
    """
    written = run(
        model, input, output, patch=patch, overlap=overlap, batch_size=batch_size,
        overwrite=overwrite, box=box, points=points, text=text, slice=slice, prompts=prompts,
        carry=carry, reorient=reorient, format=format, segments=segments, judge=judge,
        validation=validation, report=report, quality=quality, **vars(opening), **vars(pool),
        **vars(where),
    )  # fmt: skip
    kept = "" if written or overwrite else ", all existed already, whichever model made them"
    console.print(
        f"{output}: {len(written)} masks written{kept}",
        highlight=False,
        soft_wrap=True,
    )
