"""Results on record: equal to the bit on the kinds of machine that recorded them, and on no other."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def machine() -> str:
    """What the last bits of a training depend on: the processor, whether it has bfloat16, and torch."""
    model, features = platform.processor() or platform.machine(), ""
    if Path("/proc/cpuinfo").exists():
        about = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
        known = {name.strip(): value.strip() for name, _, value in reversed(about)}
        model = known.get("model name") or model
        # Clouds call every generation of a processor by one name; kernels are chosen by its features.
        features = " with bfloat16" if "avx512_bf16" in known.get("flags", "").split() else ""
    return f"{model}{features}, torch {torch.__version__}"


def on_record(file: Path) -> tuple[dict[str, Any], bool]:
    """Results of this kind of machine, and True; or those of the first that recorded any, and False."""
    known: dict[str, dict[str, Any]] = json.loads(file.read_text())
    same = machine() in known
    return known[machine()] if same else next(iter(known.values())), same


def put_on_record(file: Path, results: Mapping[str, Any]) -> None:
    """Write results of this kind of machine beside those of others."""
    known = json.loads(file.read_text()) if file.exists() else {}
    known[machine()] = {**known.get(machine(), {}), **results}
    rows = json.dumps(known, ensure_ascii=False)
    for begin, end in ("[]", "{}"):  # a line for each row of a table, and each epoch
        rows = rows.replace(f"{end}, {begin}", f"{end},\n{begin}")
    file.write_text(rows + "\n")
