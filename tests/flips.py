"""One bit of a file, turned round."""

from __future__ import annotations

from pathlib import Path


def flip(path: Path, share: float = 0.999, bit: int = 3) -> None:
    """Turn one bit round, at this share of the file."""
    content = bytearray(path.read_bytes())
    content[min(int(share * len(content)), len(content) - 1)] ^= 1 << bit
    path.write_bytes(content)
