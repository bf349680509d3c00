"""Images and labels: readers per layout on disk, preparation, splits, the cache, phantoms."""

from segpref.data.acdc import ACDC
from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.decathlon import Decathlon
from segpref.data.detect import open_dataset
from segpref.data.folders import Folders
from segpref.data.images import Images, images_for
from segpref.data.jsrt import JSRT
from segpref.data.lidc import LIDC, middle_slices
from segpref.data.lidc_scans import LIDCScans
from segpref.data.masks import MaskFolder
from segpref.data.nnunet import NnUNetRaw
from segpref.data.packed import Packed, write_pack
from segpref.data.patches import PatchDraw
from segpref.data.preparation import Preparation
from segpref.data.preparing import prepare
from segpref.data.source import Reader, Source
from segpref.data.splits import Split, draw_cases, draw_patients, split_patients

__all__ = [
    "ACDC",
    "JSRT",
    "LIDC",
    "Cache",
    "Dataset",
    "Decathlon",
    "Folders",
    "Images",
    "LIDCScans",
    "MaskFolder",
    "NnUNetRaw",
    "Packed",
    "PatchDraw",
    "Preparation",
    "Reader",
    "Source",
    "Split",
    "draw_cases",
    "draw_patients",
    "images_for",
    "middle_slices",
    "open_dataset",
    "prepare",
    "split_patients",
    "write_pack",
]
