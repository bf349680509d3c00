"""Checkpoints of transformers, loaded safely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.extras import needed
from segpref.trust import check_transformers_config, stays_local
from segpref.types import SegprefError

__all__ = ["pretrained"]


def pretrained(auto_class: Any, name: Path | str, what: str, **options: Any) -> Any:
    """``auto_class.from_pretrained(name)`` with one sentence where it fails.

    No code that comes with a checkpoint is run: weights are safetensors, or are read by torch's
    loader of weights alone, and a configuration that names compiled kernels or adapters of another
    checkpoint is refused. What only a model file names is not downloaded. It shows no bar of its own,
    which takes a moment and says nothing.

    Args:
        auto_class: of transformers.
        name: local folder, or name on the Hugging Face hub.
        what: what is loaded, for the sentence.
        options: passed on.

    Raises:
        SegprefError: there is no such checkpoint, it is of another kind, or it would load code.
    """
    logging = needed("transformers.utils.logging", "promptable")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    local_only = stays_local(str(name))
    local = {"local_files_only": local_only or Path(name).is_dir()}
    try:
        _refuse_code(name, local)
        return auto_class.from_pretrained(str(name), trust_remote_code=False, **local, **options)
    except SegprefError:
        raise
    except Exception as error:  # a foreign checkpoint may raise anything
        reason = " ".join(str(error).split())[:200]
        raise SegprefError(
            f"{what} can't be loaded from {name} ({reason}): name a local folder in the layout of "
            "transformers, or a name on the Hugging Face hub where that can be reached"
            + (" (what only a model file names is downloaded with --trust)" if local_only else "")
        ) from error
    finally:
        if shown:
            logging.enable_progress_bar()


def _refuse_code(name: Path | str, local: dict[str, bool]) -> None:
    """Look at the configuration before transformers acts on it."""
    if (Path(name) / "adapter_config.json").exists():
        raise SegprefError(
            f"{name} holds adapters of another checkpoint, which would be loaded from elsewhere: merge "
            "them into its weights first"
        )
    config: Any = needed("transformers", "promptable").PretrainedConfig
    check_transformers_config(config.get_config_dict(str(name), **local)[0], name)
