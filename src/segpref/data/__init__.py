"""Images and labels: readers per layout on disk, preparation, splits, the cache, phantoms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.data.acdc import ACDC
    from segpref.data.array_files import ArrayFile, ArrayNote, ArrayWriter, StoredArray, write_array
    from segpref.data.cache import Cache, file_digest, key_digest, sweep_partial, write_atomically
    from segpref.data.cases import read_image, read_labels
    from segpref.data.compact_logits import (
        LogitFormat,
        largest_error,
        packed_logits,
        unpacked_logits,
    )
    from segpref.data.csv_files import csv_lines, csv_text, read_csv, write_csv
    from segpref.data.dataset import Dataset, Volume
    from segpref.data.decathlon import Decathlon
    from segpref.data.detect import open_dataset
    from segpref.data.dicom_images import series_of, write_series_report
    from segpref.data.dicom_series import Series
    from segpref.data.exports import Exports
    from segpref.data.folders import Folders
    from segpref.data.foreground import check_foreground
    from segpref.data.grids import check_grid
    from segpref.data.headers import nifti_geometry
    from segpref.data.images import Images, images_for
    from segpref.data.index import source_id
    from segpref.data.jsrt import JSRT
    from segpref.data.lidc import LIDC, consensus_label, middle_slices
    from segpref.data.lidc_scans import LIDCScans
    from segpref.data.masks import MaskFolder, mask_paths
    from segpref.data.nnunet import NnUNetRaw, label_space_of
    from segpref.data.orientation import is_orientation, orientation_of, turned
    from segpref.data.packed import Packed, write_pack
    from segpref.data.patches import LabelPlaces, PatchDraw, foreground_places
    from segpref.data.predictions import PredictionStore, predict_ahead
    from segpref.data.preparation import Preparation
    from segpref.data.prepared import preparation_key
    from segpref.data.preparing import prepare
    from segpref.data.prompts import CHARACTERISTICS, draw_prompt, nodule_prompt, prompts_of
    from segpref.data.relabelled import Relabelled
    from segpref.data.series_rule import ANY_SERIES, SeriesRule, chosen_series
    from segpref.data.source import Reader, Source
    from segpref.data.source_list import SourceList
    from segpref.data.splits import (
        PARTS,
        Split,
        cross_validation,
        draw_cases,
        draw_patients,
        refuse_leakage,
        split_patients,
    )
    from segpref.data.volumes import VolumeFile, file_stem, read_volume
    from segpref.data.walk import Tree
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "acdc": ("ACDC",),
            "array_files": ("ArrayFile", "ArrayNote", "ArrayWriter", "StoredArray", "write_array"),
            "cache": ("Cache", "file_digest", "key_digest", "sweep_partial", "write_atomically"),
            "cases": ("read_image", "read_labels"),
            "csv_files": ("csv_lines", "csv_text", "read_csv", "write_csv"),
            "dataset": ("Dataset", "Volume"),
            "decathlon": ("Decathlon",),
            "dicom_images": ("series_of", "write_series_report"),
            "dicom_series": ("Series",),
            "detect": ("open_dataset",),
            "exports": ("Exports",),
            "folders": ("Folders",),
            "foreground": ("check_foreground",),
            "grids": ("check_grid",),
            "headers": ("nifti_geometry",),
            "images": ("Images", "images_for"),
            "index": ("source_id",),
            "jsrt": ("JSRT",),
            "lidc": ("LIDC", "consensus_label", "middle_slices"),
            "lidc_scans": ("LIDCScans",),
            "masks": ("MaskFolder", "mask_paths"),
            "nnunet": ("NnUNetRaw", "label_space_of"),
            "orientation": ("is_orientation", "orientation_of", "turned"),
            "packed": ("Packed", "write_pack"),
            "patches": ("LabelPlaces", "PatchDraw", "foreground_places"),
            "compact_logits": ("LogitFormat", "largest_error", "packed_logits", "unpacked_logits"),
            "predictions": ("PredictionStore", "predict_ahead"),
            "preparation": ("Preparation",),
            "prepared": ("preparation_key",),
            "preparing": ("prepare",),
            "prompts": ("CHARACTERISTICS", "draw_prompt", "nodule_prompt", "prompts_of"),
            "relabelled": ("Relabelled",),
            "series_rule": ("ANY_SERIES", "SeriesRule", "chosen_series"),
            "source": ("Reader", "Source"),
            "source_list": ("SourceList",),
            "splits": (
                "PARTS",
                "Split",
                "cross_validation",
                "draw_cases",
                "draw_patients",
                "refuse_leakage",
                "split_patients",
            ),
            "volumes": ("VolumeFile", "file_stem", "read_volume"),
            "walk": ("Tree",),
        },
    )

__all__ = [
    "ACDC",
    "ANY_SERIES",
    "CHARACTERISTICS",
    "JSRT",
    "LIDC",
    "PARTS",
    "ArrayFile",
    "ArrayNote",
    "ArrayWriter",
    "Cache",
    "Dataset",
    "Decathlon",
    "Exports",
    "Folders",
    "Images",
    "LIDCScans",
    "LabelPlaces",
    "LogitFormat",
    "MaskFolder",
    "NnUNetRaw",
    "Packed",
    "PatchDraw",
    "PredictionStore",
    "Preparation",
    "Reader",
    "Relabelled",
    "Series",
    "SeriesRule",
    "Source",
    "SourceList",
    "Split",
    "StoredArray",
    "Tree",
    "Volume",
    "VolumeFile",
    "check_foreground",
    "check_grid",
    "chosen_series",
    "consensus_label",
    "cross_validation",
    "csv_lines",
    "csv_text",
    "draw_cases",
    "draw_patients",
    "draw_prompt",
    "file_digest",
    "file_stem",
    "foreground_places",
    "images_for",
    "is_orientation",
    "key_digest",
    "label_space_of",
    "largest_error",
    "mask_paths",
    "middle_slices",
    "nifti_geometry",
    "nodule_prompt",
    "open_dataset",
    "orientation_of",
    "packed_logits",
    "predict_ahead",
    "preparation_key",
    "prepare",
    "prompts_of",
    "read_csv",
    "read_image",
    "read_labels",
    "read_volume",
    "refuse_leakage",
    "series_of",
    "source_id",
    "split_patients",
    "sweep_partial",
    "turned",
    "unpacked_logits",
    "write_array",
    "write_atomically",
    "write_csv",
    "write_pack",
    "write_series_report",
]
