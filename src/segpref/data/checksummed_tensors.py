"""Safetensors files with a checksum of tensors and metadata.

The file's metadata is one piece of JSON. Under ``tensors`` it has the checksum of names, types, shapes
and bytes of the tensors, and under ``digest`` its own (:func:`~segpref.disk.to_checked_json`), so
that it can be trusted without reading the rest. It is one piece because safetensors writes several
in random order, and equal trainings make equal files. Nothing is memory-mapped: a file that
another process cuts short is an error, not a signal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from segpref.data.cache import write_atomically
from segpref.disk import Damaged, cannot_read, checksum, from_checked_json, to_checked_json

__all__ = ["read_checksummed", "read_metadata", "write_checksummed"]

_LENGTH = 8
"""Bytes of the length of the header, with which the format begins."""


def write_checksummed(
    path: Path, tensors: Mapping[str, Tensor], name: str, note: Mapping[str, Any]
) -> None:
    """Write tensors and metadata into one file atomically.

    Args:
        path: the file.
        tensors: on any device.
        name: of the note in the file's metadata.
        note: goes into JSON; without the names ``tensors`` and ``digest``.
    """
    plain = {one: value.detach().cpu().contiguous().clone() for one, value in tensors.items()}
    text = to_checked_json({**note, "tensors": _digest_of(plain)}).decode()
    write_atomically(path, save(plain, metadata={name: text}))


def read_checksummed(
    path: Path, name: str, *, old: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and note of :func:`write_checksummed`.

    Args:
        path: the file.
        name: of the note.
        old: read a file without checksums, too, such as those of earlier versions.

    Raises:
        Damaged: the file is not what was written.
        SegprefError: it can't be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from error
    note = _note(data, len(data), name, old)
    try:
        tensors: dict[str, Tensor] = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise Damaged(f"it is not a complete safetensors file: {error}") from error
    digest = note.pop("tensors", None)
    if digest is not None and digest != _digest_of(tensors):
        raise Damaged("its checksum does not match")
    return tensors, note


def read_metadata(path: Path, name: str) -> dict[str, Any]:
    """The note alone, of a file with checksums or without; empty where there is none.

    Raises:
        Damaged: the file is too short or too long, or the note is not what was written.
        SegprefError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            data = file.read(_LENGTH)
            # A damaged length may be any number.
            data += file.read(min(size, int.from_bytes(data, "little")))
    except OSError as error:
        raise cannot_read(path, error) from error
    note = _note(data, size, name, old=True)
    note.pop("tensors", None)
    return note


def _note(data: bytes, size: int, name: str, old: bool) -> dict[str, Any]:
    """The note of a file of so many bytes, from its beginning."""
    start = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    try:
        header = json.loads(data[_LENGTH:start])
        # A file without the note is one without a checksum.
        text = header.pop("__metadata__", {}).get(name, "{}")
        end = max((one["data_offsets"][1] for one in header.values()), default=0)
        complete = start + end == size
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise Damaged("it is not a complete safetensors file") from error
    if not complete:
        raise Damaged("it is not a complete safetensors file")
    return from_checked_json(text, old=old)


def _digest_of(tensors: Mapping[str, Tensor]) -> str:
    found = checksum()
    for name, value in sorted(tensors.items()):
        found.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
