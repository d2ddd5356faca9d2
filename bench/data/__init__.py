"""Data sets: from a name to a fixed, hashed slice. Imports torch only to download."""

from __future__ import annotations

from bench.data.fetch import fetch
from bench.data.images import Dataset, Images, Split, to_unit_range
from bench.data.named import DATASETS, get_dataset
from bench.data.path_forms import PATH_FORMS, is_path_form
from bench.data.roots import data_root
from bench.data.slice import Slice, hash_images, load_split, open_split, slice_index, take_slice

__all__ = [
    "DATASETS",
    "PATH_FORMS",
    "Dataset",
    "Images",
    "Slice",
    "Split",
    "data_root",
    "fetch",
    "get_dataset",
    "hash_images",
    "is_path_form",
    "load_split",
    "open_split",
    "slice_index",
    "take_slice",
    "to_unit_range",
]
