"""Checkpoints of transformers, loaded safely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.extras import needed
from segpref.types import SegprefError

__all__ = ["pretrained"]


def pretrained(auto_class: Any, name: Path | str, what: str, **options: Any) -> Any:
    """``auto_class.from_pretrained(name)`` with one sentence where it fails.

    No code that comes with a checkpoint is run: weights are safetensors, or are read by torch's
    loader of weights alone. It shows no bar of its own, which takes a moment and says nothing.

    Args:
        auto_class: of transformers.
        name: local folder, or name on the Hugging Face hub.
        what: what is loaded, for the sentence.
        options: passed on.

    Raises:
        SegprefError: there is no such checkpoint, or it is of another kind.
    """
    logging = needed("transformers.utils.logging", "promptable")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return auto_class.from_pretrained(str(name), trust_remote_code=False, **options)
    except Exception as error:  # whatever a checkpoint of somebody else raises
        reason = " ".join(str(error).split())[:200]
        raise SegprefError(
            f"{what} can't be loaded from {name} ({reason}): name a local folder in the layout of "
            "transformers, or a name on the Hugging Face hub where that can be reached"
        ) from error
    finally:
        if shown:
            logging.enable_progress_bar()
