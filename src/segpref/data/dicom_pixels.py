"""The pixels of DICOM files, decoded by pydicom, or by GDCM (SimpleITK) where they are compressed."""

from __future__ import annotations

import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num, Shaped

from segpref.data.dicom_file import read_dicom
from segpref.data.dicom_headers import Header, Plane
from segpref.disk import refuse_scarcity
from segpref.late import late
from segpref.types import SegprefError

__all__ = ["rescaled", "stored_values"]

pydicom, sitk = late("pydicom"), late("SimpleITK")

_PIXELS = (
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip


def stored_values(header: Header) -> Num[np.ndarray, "frame row column"]:
    """The values of a file before any rescaling: as stored, or as its Modality LUT maps them.

    Raises:
        SegprefError: pixels that are missing, cut off or damaged, or compressed in a way that no
            package here decodes; then it names the one that does.
    """
    path = header.path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty values, which were read with the header
            data = read_dicom(path)
            _complete(data)
            syntax = data.file_meta.TransferSyntaxUID
            array = _decompressed(path, data, syntax) if syntax.is_compressed else _native(data)
            if data.get("ModalityLUTSequence"):
                array = pydicom.pixels.apply_modality_lut(array, data)
    except SegprefError:
        raise
    except Exception as error:  # pydicom's decoders and GDCM raise whatever they like
        refuse_scarcity(path, error)
        reason = " ".join(str(error).split()).rstrip(".")
        raise SegprefError(
            f"the pixels of {path} cannot be decoded ({reason[:120]}): export the series again, "
            "without compression if it is compressed"
        ) from error
    return np.asarray(array.reshape(-1, header.rows, header.columns))


def rescaled(
    values: Num[np.ndarray, "row column"], header: Header, plane: Plane
) -> Num[np.ndarray, "row column"]:
    """Values of the modality, such as Hounsfield units, in which high is bright.

    They stay integers where the file states neither slope nor intercept. MONOCHROME1 is inverted within
    the stored range. Pixels with PixelPaddingValue are values as others.
    """
    slope = 1.0 if plane.slope is None else plane.slope
    intercept = plane.intercept or 0.0
    if plane.slope is not None or plane.intercept is not None:
        values = np.asarray(values.astype(np.float32) * np.float32(slope) + np.float32(intercept))
    if not header.dark_is_high:
        return values
    low = -(2 ** (header.bits - 1)) if header.signed else 0
    total = slope * (2 * low + 2**header.bits - 1) + 2 * intercept
    return np.asarray(total - values.astype(np.float32))


def _complete(data: Any) -> None:
    """State the transfer syntax of a file that has no header of its own, as it was found out."""
    if data.file_meta.get("TransferSyntaxUID"):
        return
    implicit, little = data.original_encoding
    uids = pydicom.uid
    explicit = uids.ExplicitVRLittleEndian if little else uids.ExplicitVRBigEndian
    data.file_meta.TransferSyntaxUID = uids.ImplicitVRLittleEndian if implicit else explicit


def _native(data: Any) -> Shaped[np.ndarray, "..."]:
    array = data.pixel_array
    bits, high = data.get("BitsStored"), data.get("HighBit")
    allocated = array.dtype.itemsize * 8
    if array.dtype.kind not in "iu" or not bits or bits >= allocated:
        return np.asarray(array)
    # What stands in the other bits is none of the value: overlays, or no continuation of the sign.
    left = allocated - 1 - (bits - 1 if high is None else high)
    return np.asarray((array << left) >> (allocated - bits))


def _decompressed(path: Path, data: Any, syntax: Any) -> Shaped[np.ndarray, "..."]:
    if syntax == pydicom.uid.RLELossless:
        return np.asarray(data.pixel_array)
    gdcm = find_spec("SimpleITK") is not None and "High-Throughput" not in syntax.name
    if gdcm:
        return _by_gdcm(data)
    try:
        known = pydicom.pixels.get_decoder(syntax).is_available
    except NotImplementedError:
        known = False
    if known:
        return np.asarray(data.pixel_array)
    if "High-Throughput" in syntax.name:
        fix = "pip install pylibjpeg pylibjpeg-openjpeg"
    elif "MPEG" in syntax.name or "HEVC" in syntax.name:
        fix = "export its frames as images, for it is a video"
    elif "JPEG" in syntax.name:
        fix = "pip install 'segpref[dicom]'"
    else:
        fix = "export it without compression"
    raise SegprefError(
        f"the pixels of {path} are compressed with {syntax.name}, which nothing installed here "
        f"decodes: {fix}"
    )


def _by_gdcm(data: Any) -> Shaped[np.ndarray, "..."]:
    """What is stored: GDCM gets the pixels alone, for it has rules of its own about rescaling."""
    bare = pydicom.Dataset()
    for name in _PIXELS:
        if name in data:
            bare[name] = data[name]
    bare.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    if int(data.get("NumberOfFrames") or 1) > 1:
        bare.SOPClassUID = pydicom.uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    bare.SOPInstanceUID = pydicom.uid.generate_uid()
    bare.file_meta = pydicom.dataset.FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = data.file_meta.TransferSyntaxUID
    with tempfile.TemporaryDirectory(prefix="segpref-") as folder:
        file = Path(folder) / "pixels.dcm"
        bare.save_as(file, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        return np.asarray(sitk.GetArrayFromImage(reader.Execute()))
