"""`segpref predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.inference.predict import predict_folder
from segpref.progress import console

__all__ = ["predict"]


def predict(
    model: Path,
    input: Path,
    output: Path,
    settings: dict[str, Any],
    patch: tuple[int, ...] | None = None,
    overlap: float = 0.5,
    batch_size: int = 8,
    overwrite: bool = False,
) -> None:
    """Write masks of new images, in the images' own geometry.

    Args:
        model: file or run folder.
        input: an image, the folder of a DICOM series, or a folder of images or series.
        output: folder for the masks.
        settings: the resolved options.
        patch: window in voxels for images that are too large for one pass; only for a model whose
            preparation has no fixed size.
        overlap: share of a window that it has in common with the next.
        batch_size: slices or windows per pass.
        overwrite: make masks anew that are there already.
    """
    written = predict_folder(
        model,
        input,
        output,
        patch=patch,
        overlap=overlap,
        batch_size=batch_size,
        overwrite=overwrite,
    )
    kept = "" if written or overwrite else ", all were there already"
    # Brackets in a folder's name are no markup.
    console.print(
        f"{output}: {len(written)} masks written{kept}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
