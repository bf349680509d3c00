"""The message of a command that ran out of memory: options that need less, and how to continue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segpref.memory import Setting, out_of_memory_reason

__all__ = ["out_of_memory_message"]

_OPTIONS = {
    "fit": ("batch_size", "preparation.patch"),
    "align": ("batch_size", "candidates"),
    "audit": ("candidates",),
    "predict": ("batch_size", "patch"),
    "sample": ("batch_size",),
    "export": ("size",),
    "collect init": ("batch_size", "candidates"),
}
_RUNS = ("fit", "align")
_STUDIES = ("demo", "study", "ambiguity", "prompted")
_GOES_ON = ("predict", "pack", *_STUDIES)
"""Commands that do what is missing when they are given again."""


def out_of_memory_message(error: BaseException, command: str, values: Mapping[str, Any]) -> str:
    """The sentence of a command.

    Args:
        error: says that memory ran out.
        command: its name.
        values: its options; none where it got no further than reading them.
    """
    settings = {f"--{name}": _value(values, name) for name in _OPTIONS.get(command, ())}
    unset = [f"a {name}" for name, value in settings.items() if value is None and "patch" in name]
    if command in _STUDIES:
        unset = ["a recipe with a smaller batch_size, in another --out"]
    told = out_of_memory_reason(error, settings, " or ".join(unset) or None)
    return f"{told}{_go_on(command, values)}"


def _value(values: Mapping[str, Any], name: str) -> Setting:
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else getattr(found, part, None)
    return found  # type: ignore[no-any-return]


def _go_on(command: str, values: Mapping[str, Any]) -> str:
    if command in _RUNS and isinstance(values.get("out"), Path):
        out = values["out"]
        if any(out.glob("**/state.safetensors")):
            return (
                f"; what was learned is kept in {out}, and --resume with the same settings continues it"
                ", or starts again with others in another --out"
            )
        return "; nothing was learned yet, so give the same command with other settings"
    if command in _GOES_ON:
        return "; what is done is kept, and the same command continues it"
    return ""
