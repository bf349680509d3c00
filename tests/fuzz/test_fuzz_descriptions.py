# ruff: noqa: E501
"""Changes of descriptions: dataset.json, pack.json with its volumes, splits."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import (
    DECATHLON,
    NNUNET,
    VOLUME,
    VOLUME_MAP,
    case,
    contents,
    decathlon,
    nnunet,
    pairs,
    read,
)
from mutations import Mutation, cut, flipped, hold, labelled, same, sentence

from segpref.data import Folders, Packed, Split, write_pack
from segpref.types import SegprefError

SCAN = partial(case, VOLUME, VOLUME_MAP, "c", spacing_mm=(1.0, 1.5, 2.0))
DATASETS = {"Decathlon": (decathlon, DECATHLON), "nnU-Net": (nnunet, NNUNET)}


def described(folder: Path, make: Any, description: Any) -> Any:
    return read(make(folder, description))


def changed(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return copy.deepcopy(content) | changes


def texts() -> Iterator[Mutation]:
    """Descriptions that are no text, no JSON, or JSON written in another way."""
    for seed, (name, (make, content)) in enumerate(DATASETS.items()):
        data = json.dumps(content).encode()
        for at, part in cut(data, 20, seed):
            yield Mutation(
                f"{name} cut at {at}", "refuse", partial(described, make=make, description=part)
            )
        deep = b"[" * 5000 + b"]" * 5000
        nested = data[:-1] + b', "x": ' + b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"}"
        for what, other in {
            "UTF-16": json.dumps(content).encode("utf-16"), "latin": b'{"\xe4": 1}', "a list": b"[]",
            "text": b'"a"', "nothing": b"", "null": b"null", "deep": deep, "deep inside": nested,
            "NaN alone": b"NaN", "XML": b"<?xml version='1.0'?>", "zeros": bytes(99),
        }.items():  # fmt: skip
            yield Mutation(
                f"{name} is {what}", "refuse", partial(described, make=make, description=other)
            )
        backward = dict(reversed(content.items()))
        for what, alike in {
            "with a byte order mark": b"\xef\xbb\xbf" + data,
            "indented": json.dumps(content, indent=4).encode(),
            "with Windows' line ends": json.dumps(content, indent=1).replace("\n", "\r\n").encode(),
            "backward": json.dumps(backward).encode(),
            "with more": json.dumps(
                content | {"name": "x", "reference": None, "licence": [1]}
            ).encode(),
            "tight": json.dumps(content, separators=(",", ":")).encode(),
            "with spaces": b"\n\n  " + data + b"\n ",
        }.items():
            yield Mutation(
                f"{name} {what}", "equal", partial(described, make=make, description=alike), SCAN
            )


ODD: dict[str, tuple[Any, ...]] = {
    "modality": (None, 3, "MR", [], {}, {"a": "MR"}, {"0": "MR", "x": "T2"}),
    "labels": (None, 3, [], {}, ["a"], {"a": 0}, {"1": "a"}, {"0": "b", "x": "c"}, {"0": "b", "1": "b"},
               {"0": "b", "1": 3}, {"0": "b", "01": "a", "1": "c"}, {"0": "b", "1": "a"}, {"0": "b", "-1": "a"}),
    "training": (None, 3, {}, "a", [3], [None], [[]], [{}], [{"label": "x"}], [{"image": None}],
                 [{"image": 3}], [{"image": ["imagesTr/c.nii.gz"] * 2}], [{"image": "gone.nii.gz"}],
                 [{"image": "../c.nii.gz"}], [{"image": "/etc/passwd"}], [{"image": ["gone.nii.gz"]}],
                 [{"image": "imagesTr/c.nii.gz", "label": ["labelsTr/c.nii.gz"]}],
                 [{"image": "imagesTr/c.nii.gz", "label": {"a": 1}}],
                 [{"image": "imagesTr/c.nii.gz", "label": 7}],
                 [{"image": "imagesTr/c.nii.gz", "label": "labelsTr"}],
                 [{"image": "imagesTr/c.nii.gz"}] * 2),
    "test": (3, {"a": 1}, [3], ["gone.nii.gz"], ["imagesTr/c.nii.gz"]),
}  # fmt: skip
ODD_NNUNET: dict[str, tuple[Any, ...]] = {
    "channel_names": (None, 3, "MR", [], {}, {"a": "MR"}, {"0": "MR", "1": "T2"}),
    "labels": (None, 3, [], {}, {"background": 0}, {"background": 1, "a": 0}, {"background": 0, "a": "x"},
               {"background": 0, "a": 1}, {"background": 0, "a": 2}, {"background": 0, "a": None},
               {"a": 1, "b": 2}, {"background": 0, "a": [1, "x"]}, {"background": 0, "a": 300}),
    "file_ending": (None, 3, "", "nii.gz", ".nrrd", "*", "../x", [".nii.gz"], {"a": 1}),
}  # fmt: skip


def odd_values() -> Iterator[Mutation]:
    for name, (make, content) in DATASETS.items():
        for key, values in (ODD if make is decathlon else ODD_NNUNET).items():
            for value in values:
                what = f"{name} with {key} {value!r:.60}"
                odd = changed(content, **{key: value})
                yield Mutation(what, "refuse", partial(described, make=make, description=odd))
            if key != "test":
                less = {one: value for one, value in content.items() if one != key}
                yield Mutation(
                    f"{name} without {key}",
                    "refuse",
                    partial(described, make=make, description=less),
                )


def of_old_names() -> Iterator[Mutation]:
    for image in ("c", "c_0000"):
        make = partial(decathlon, image=image)
        for written in (
            "./imagesTr/c.nii.gz",
            "imagesTr/c.nii.gz",
            "imagesTr//c.nii.gz",
            "./././imagesTr/c.nii.gz",
        ):
            entry = [{"image": written, "label": "./labelsTr/c.nii.gz"}]
            yield Mutation(
                f"{written} for {image}", "equal",
                partial(described, make=make, description=changed(DECATHLON, training=entry)), SCAN,
            )  # fmt: skip


def packed(folder: Path) -> Path:
    whole = pairs(folder / "whole")
    write_pack(Folders(whole, names=["background", "a", "b"]), folder / "pack")
    return folder / "pack"


def pack_of(folder: Path, **changes: Any) -> Any:
    out = packed(folder)
    file = out / "pack.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return contents(Packed(out))


def pack_volume(folder: Path, **arrays: Any) -> Any:
    """A pack of which one array of its volume is another; None takes it away."""
    out = packed(folder)
    path = out / "volumes/a.npz"
    with np.load(path) as found:
        content = {name: found[name] for name in found.files} | arrays
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return contents(Packed(out))


def pack_bytes(folder: Path, change: Any) -> Any:
    out = packed(folder)
    path = out / "volumes/a.npz"
    path.write_bytes(change(path.read_bytes()))
    return contents(Packed(out))


def recompressed(data: bytes, method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return file.getvalue()


def whole_pack() -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return contents(Packed(packed(Path(folder))))


VOLUME_ENTRY = {"id": "a", "patient": "a", "stratum": None, "text": None, "labelled": True}
ODD_PACK: dict[str, tuple[Any, ...]] = {
    "version": (0, 2, "1", None, []), "channels": (None, 3, [], ["a", "b"], {}),
    "label_space": (3, [], {}, "multi-class", {"kind": "x", "names": ["a"], "regions": []},
                    {"kind": "multi-class", "names": ["b", "a"], "regions": []},
                    {"kind": "multi-class", "names": ["b", "a", None], "regions": []},
                    {"kind": "multi-label", "names": ["a", "b"], "regions": []}),
    "volumes": (None, 3, {}, [], [3], [VOLUME_ENTRY, VOLUME_ENTRY], [VOLUME_ENTRY | {"id": "../a"}],
                [VOLUME_ENTRY | {"id": "gone"}], [VOLUME_ENTRY | {"patient": ""}],
                [VOLUME_ENTRY | {"labelled": False}], [{"id": "a"}], [VOLUME_ENTRY | {"id": None}]),
}  # fmt: skip


def packs() -> Iterator[Mutation]:
    for key, values in ODD_PACK.items():
        for value in values:
            yield Mutation(
                f"pack with {key} {value!r:.80}", "refuse", partial(pack_of, **{key: value})
            )
    label = np.zeros((1, 24, 20), np.uint8)
    arrays: dict[str, list[Any]] = {
        "label": [label[:, :20], label[:, :, :19], label[0], label[None], label.repeat(2, 0), label + 3,
                  label + 254, label.astype(float), label.astype(np.int16) - 1, label.astype(bool), None],
        "image": [np.zeros((1, 20, 20), np.uint8), np.zeros((2, 24, 20), np.uint8), np.zeros((24, 20), np.uint8),
                  np.zeros((1, 0, 20), np.uint8), np.full((1, 24, 20), np.nan), None, np.array("text")],
        "scale": [np.array([np.nan]), np.array([np.inf]), np.zeros(3), None, np.array("a"), np.zeros(0)],
        "offset": [np.array([np.nan]), np.array([-np.inf]), np.zeros(3), None],
        "raters": [label, label[None, :, :20], label[None] + 7, np.zeros((2, 24, 20), np.uint8)],
        "spacing_mm": [np.ones(3), np.ones(1), np.ones((2, 2))],
        "affine": [np.eye(3), np.ones(4)],
    }  # fmt: skip
    for name, values in arrays.items():
        for number, value in enumerate(values):
            yield Mutation(
                f"pack with another {name}, {number}",
                "refuse",
                partial(pack_volume, **{name: value}),
            )
    for number in range(25):
        yield Mutation(
            f"pack cut, {number}", "refuse",
            partial(pack_bytes, change=lambda data, n=number: [*cut(data, 25, 7, 0.95)][n][1]),
        )  # fmt: skip
    for name, data in {"text": b"no archive", "nothing": b"", "zip": b"PK\5\6" + bytes(18)}.items():
        yield Mutation(f"pack is {name}", "refuse", partial(pack_bytes, change=lambda _, d=data: d))
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        change = partial(recompressed, method=method)
        yield Mutation(
            f"pack compressed by {method}", "equal", partial(pack_bytes, change=change), whole_pack
        )


@pytest.mark.parametrize("number", range(40))
def test_a_bit_of_a_packed_volume(number: int, tmp_path: Path) -> None:
    """Some bits of an archive mean nothing: then what is read is right, else it is refused."""
    change = lambda data: [*flipped(data, 40, 11)][number][1]  # noqa: E731
    try:
        found = pack_bytes(tmp_path, change)
    except SegprefError as error:
        sentence(str(error))
    else:
        same(found, whole_pack())


SPLIT = {"train": ["a"], "judge": ["b"], "validation": ["c"], "test": ["d"], "by_patient": True}


def split_of(folder: Path, content: Any) -> Any:
    path = folder / "split.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    split = Split.load(path)
    return [list(getattr(split, part)) for part in ("train", "judge", "validation", "test")]


def splits() -> Iterator[Mutation]:
    right = lambda: [["a"], ["b"], ["c"], ["d"]]  # noqa: E731
    for part in ("train", "judge", "validation", "test"):
        for value in (
            None,
            3,
            "a",
            {"a": 1},
            [3.5],
            [True],
            [None],
            [["a"]],
            ["a", "b", "c", "d"],
            [""],
        ):
            yield Mutation(
                f"split with {part} {value!r}",
                "refuse",
                partial(split_of, content=SPLIT | {part: value}),
            )
        less = {name: value for name, value in SPLIT.items() if name != part}
        yield Mutation(f"split without {part}", "refuse", partial(split_of, content=less))
    data = json.dumps(SPLIT).encode()
    for at, part in cut(data, 12, 3):
        yield Mutation(f"split cut at {at}", "refuse", partial(split_of, content=part))
    yield Mutation(
        "split with a byte order mark",
        "equal",
        partial(split_of, content=b"\xef\xbb\xbf" + data),
        right,
    )
    yield Mutation(
        "split with a number",
        "equal",
        partial(split_of, content=SPLIT | {"train": [7]}),
        lambda: [["7"], ["b"], ["c"], ["d"]],
    )
    yield Mutation(
        "split with more", "equal", partial(split_of, content=SPLIT | {"note": "x"}), right
    )


ALL = [*texts(), *odd_values(), *of_old_names(), *packs(), *splits()]


@pytest.mark.parametrize("mutation", labelled(ALL))
def test_descriptions(mutation: Mutation, tmp_path: Path) -> None:
    hold(mutation, tmp_path)
