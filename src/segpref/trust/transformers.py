"""Configurations of transformers: numbers are harmless, a few names in them load code and run it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from segpref.types import SegprefError

__all__ = ["check_transformers_config"]

_ATTENTION = (None, "eager", "sdpa")
"""What torch does by itself; any other name may be that of a compiled kernel on a hub."""
_CODE = re.compile(
    r"auto_map|custom_pipelines|kernel|quantiz|timm|pretrained|^backbone$|^peft|adapter",
    re.IGNORECASE,
)
"""Settings that lead to code, compiled kernels or weights from elsewhere."""
_HARMLESS = ("kernel_size", "kernel_sizes")


def check_transformers_config(config: Any, file: object, models: str | None = None) -> None:
    """Refuse a configuration that would bring along more than the sizes of a known network.

    Args:
        config: as ``config.json`` or ``to_dict()`` has it.
        file: name of its file, for the message.
        models: regular expression of the ``model_type`` that it and its parts may have; any where None,
            which is for a configuration that transformers itself resolves.

    Raises:
        SegprefError: it names compiled kernels, code of its own, or a network of another library.
    """
    if not isinstance(config, Mapping):
        return
    for name, value in config.items():
        if _leads_elsewhere(str(name), value, models):
            raise SegprefError(
                f"{file} sets {name} to {str(value)[:60]!r}, which would load code or weights from "
                "elsewhere: take that setting out of it if you know the model"
            )
        for part in value if isinstance(value, list | tuple) else [value]:
            check_transformers_config(part, file, models)


def _leads_elsewhere(name: str, value: Any, models: str | None) -> bool:
    if name.endswith(("attn_implementation", "experts_implementation")):
        return isinstance(value, Mapping) or value not in _ATTENTION
    if _CODE.search(name) and not name.endswith(_HARMLESS):
        return bool(value)
    return models is not None and name == "model_type" and not re.fullmatch(models, str(value))
