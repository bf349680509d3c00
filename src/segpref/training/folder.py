"""A run folder: everything that one training leaves behind, written atomically.

==========================  =====================================================================
``config.yaml``             the resolved settings; ``--config`` takes it back
``run.json``                versions, platform, threads, command
``metrics.csv``             one row per epoch
``preferences.jsonl``       the mined pairs as records, where that is asked for
``audit.json``              how often the judge was wrong, where that is measured first
``verdict.json``            whether the model is better than its base, patient by patient (stage 2)
``validation.csv``          overlap and size of each structure of each validation volume, base and tuned
``summary.json``            the figures that tables read; its presence says that the run is finished
``best.safetensors``        the model with the best validation IoU
``last.safetensors``        the model after the last epoch, or where ``state`` is
``state.safetensors``       what ``--resume`` continues from (weights, optimiser, position)
``tensorboard/``            the curves of ``metrics.csv`` for TensorBoard
``report.html``             curves, tables and pictures in one file
``model-card.md``           model, data, judge, scores and limits on one page
==========================  =====================================================================
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from segpref.data.cache import sweep_partial, write_atomically
from segpref.data.checksummed_tensors import read_checksummed, write_checksummed
from segpref.data.csv_files import read_csv, write_csv
from segpref.disk import Damaged, refuse_scarcity
from segpref.locking import alone_in
from segpref.process import is_first_process
from segpref.targets import check_outputs
from segpref.types import SegprefError

__all__ = ["NO_EFFECT", "RunFolder", "is_first_process"]

NO_EFFECT = (
    "by", "cache", "checkpoint_seconds", "cpus", "gpus", "groups", "log_with", "ray", "trackers",
    "workers",
)  # fmt: skip
"""Settings that change no result: a run goes on with others. ``compile`` is none: it changes the last
bits of logits, as ``precision`` changes more of them, and so candidates and pairs that nearly tie."""

_REPORTED = ("segpref", "torch", "monai", "numpy", "accelerate")


class RunFolder:
    """Names and formats of a run folder.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.best = self.path / "best.safetensors"
        self.last = self.path / "last.safetensors"
        self.state = self.path / "state.safetensors"
        self.metrics = self.path / "metrics.csv"
        self.summary = self.path / "summary.json"
        self.config = self.path / "config.yaml"
        self.audit = self.path / "audit.json"
        self.preferences = self.path / "preferences.jsonl"
        self.verdict = self.path / "verdict.json"
        self.validation = self.path / "validation.csv"
        self.groups = self.path / "groups.csv"
        self._note = self.path / "run.json"

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.summary.exists()

    def check(self) -> None:
        """Refuse a folder that can't be written to, or in which something else is where its files go.

        Raises:
            SegprefError: it is so.
        """
        files = (self.best, self.last, self.state, self.metrics, self.summary, self.config)
        folders = (self.path, self.path / "tensorboard", self.path / "rounds")
        check_outputs(
            files=(
                *files,
                self.audit,
                self.preferences,
                self.verdict,
                self.validation,
                self.groups,
                self._note,
            ),
            folders=folders,
        )

    def open(self, settings: Mapping[str, Any], resume: bool) -> None:
        """Make the folder, or check that a run with the same settings is continued.

        What a killed process left half-written is removed once it is a day old.

        Raises:
            SegprefError: the folder can't be written to, or has a run and ``resume`` is off, or its
                settings differ.
        """
        if not is_first_process():
            return  # the first process of a launch makes the folder for all
        self.check()
        sweep_partial(self.path)
        if self._note.exists():
            if not resume:
                raise SegprefError(
                    f"{self.path} already holds a run: add --resume to go on, or choose another --out"
                )
            self.refuse_others(settings)
            return
        plain = _plain(settings)
        about = {
            "settings": plain,
            # torch itself knows its build (+cpu, +cu130), of which the package says nothing on PyPI.
            "versions": {name: version(name) for name in _REPORTED} | {"torch": torch.__version__},
            "python": sys.version.split()[0],
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
            "command": sys.argv,
        }
        write_atomically(self.config, yaml.safe_dump(plain, sort_keys=False).encode())
        write_atomically(self._note, json.dumps(about, indent=1).encode())

    @contextmanager
    def begun(self, settings: Mapping[str, Any], resume: bool) -> Iterator[None]:
        """Open the folder for what is done within, where no other process works; see :meth:`open`.

        Where anything ends a new run before something was learned, the folder takes other settings: a
        smaller batch, say, where memory ran out.
        """
        with alone_in(self.path):
            new = is_first_process() and not self._note.exists()
            self.open(settings, resume)
            try:
                yield
            except BaseException:
                if new and not any(
                    path.exists() for path in (self.state, self.metrics, self.audit)
                ):
                    self.config.unlink(missing_ok=True)
                    self._note.unlink(missing_ok=True)
                raise

    def refuse_others(self, settings: Mapping[str, Any]) -> None:
        """Refuse other settings than those that a run was begun with; none was where none is there.

        Raises:
            SegprefError: they differ.
        """
        if not self._note.exists():
            return
        before, now = _mapping(self._note, "settings"), _plain(settings)
        relevant = [name for name in {**before, **now} if name not in NO_EFFECT]
        changed = [name for name in relevant if not _same(before.get(name), now.get(name))]
        if changed:
            raise SegprefError(
                f"{self.path} was begun with other settings ({', '.join(sorted(changed))}): "
                "resume with the same ones, or choose another --out"
            )

    def keep_digest(self, name: str, digest: str, otherwise: str) -> None:
        """Note what a run learns from, or refuse something else than it was begun with.

        Args:
            name: of what is learned from.
            digest: of its content.
            otherwise: what is wrong where the run was begun with another, and how to fix it.

        Raises:
            SegprefError: the run was begun with another.
        """
        if not is_first_process() or not self._note.exists():
            return
        about, kept = _read_json(self._note), _mapping(self._note, "learns_from")
        if kept.get(name, digest) != digest:
            raise SegprefError(f"{self.path} was begun with {otherwise}, or choose another --out")
        if name in kept:
            return
        about["learns_from"] = {**kept, name: digest}
        write_atomically(self._note, json.dumps(about, indent=1).encode())

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """One row per epoch; columns are the union of what the epochs report."""
        columns = list(dict.fromkeys(name for row in history for name in row))
        write_csv(self.metrics, history, columns)

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows of ``metrics.csv``; an empty cell is left out.

        Raises:
            SegprefError: it can't be read, or a finished run had other epochs than it holds.
        """
        try:
            history = [
                {name: float(value) for name, value in row.items() if value}
                for row in read_csv(self.metrics)
            ]
        except (OSError, ValueError) as error:
            raise _damaged(self.metrics, error) from error
        due = self._due_epochs() if self.finished else None
        if due is not None and len(history) != due + 1:
            raise SegprefError(
                f"{self.metrics} holds {max(0, len(history) - 1)} epochs of {due}: restore it, or "
                "start the run again in another folder"
            )
        return history

    def _due_epochs(self) -> int | None:
        """Epochs of the run as its settings have them; None where they do not say."""
        if not self._note.exists():
            return None
        settings = _read_json(self._note).get("settings")
        due = settings.get("epochs") if isinstance(settings, dict) else None
        return due if isinstance(due, int) else None

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``."""
        write_atomically(self.summary, json.dumps(summary, indent=1).encode())

    def read_summary(self) -> dict[str, Any]:
        """Read ``summary.json``."""
        return _read_json(self.summary)

    def finished_summary(self) -> dict[str, Any]:
        """The summary of a finished run, whose model must be there.

        Raises:
            SegprefError: the summary can't be read, or the model is gone.
        """
        if not self.best.is_file():
            raise SegprefError(
                f"{self.best} is missing, though {self.summary.name} says that the run is finished: "
                "restore it, or start the run again in another folder"
            )
        found = self.read_summary()
        if not isinstance(found.get("kind"), str) or type(found.get("seed")) is not int:
            raise _damaged(self.summary, ValueError("it does not say what was trained"))
        return found

    def save_state(self, tensors: Mapping[str, Tensor], position: Mapping[str, Any]) -> None:
        """Write what a resumed run needs."""
        write_checksummed(self.state, tensors, "position", position)

    def load_state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Read it back; None where there is none yet.

        Raises:
            SegprefError: it is not what was written. A state without a checksum is of an earlier
                version, and is refused: of a model another file can be told from the right one by
                its figures, of a training that goes on nobody would see it.
        """
        if not self.state.exists():
            return None
        try:
            return read_checksummed(self.state, "position")
        except Damaged as error:
            raise SegprefError(
                f"{self.state} is not what was written ({error}): restore it, or delete it to "
                f"start the run again"
            ) from error


def _same(before: Any, now: Any) -> bool:
    """Whether two plain settings are one, or name the same file from where this process works."""
    if isinstance(before, str) and isinstance(now, str):
        return before == now or _one_file(before, now)
    if isinstance(before, dict) and isinstance(now, dict):
        return before.keys() == now.keys() and all(_same(before[name], now[name]) for name in now)
    if isinstance(before, list) and isinstance(now, list):
        return len(before) == len(now) and all(map(_same, before, now))
    return bool(before == now)


def _one_file(before: str, now: str) -> bool:
    try:
        return Path(before).samefile(now)
    except (OSError, ValueError):  # no file, or no path at all
        return False


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As they are read back."""
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
        return content
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from error


def _mapping(path: Path, key: str) -> dict[str, Any]:
    """What stands under a key of a JSON file; nothing where it is not there."""
    found = _read_json(path).get(key, {})
    if not isinstance(found, dict):
        raise _damaged(path, ValueError(f"{key} is no JSON object"))
    return found


def _damaged(path: Path, error: Exception) -> SegprefError:
    refuse_scarcity(path, error)
    reason = " ".join(str(error).split())
    return SegprefError(
        f"{path} can't be read ({reason[:120]}): restore it, or start the run again in another folder"
    )
