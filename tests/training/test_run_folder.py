from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from segpref.training import RunFolder
from segpref.types import SegprefError

SETTINGS = {"epochs": 3, "rate": 0.1, "out": Path("runs/a")}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.open(SETTINGS, resume=False)
    return folder


def test_a_run_is_not_overwritten(folder: RunFolder) -> None:
    with pytest.raises(SegprefError, match="already holds a run: add --resume") as caught:
        folder.open(SETTINGS, resume=False)
    assert str(folder.path) in str(caught.value)
    folder.open(SETTINGS, resume=True)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({**SETTINGS, "epochs": 4}, "epochs"),
        ({**SETTINGS, "new": 1}, "new"),
        ({"rate": 0.1}, "epochs, out"),
        ({**SETTINGS, "rate": 0.10000001, "epochs": 2}, "epochs, rate"),
    ],
)
def test_other_settings_are_refused(
    folder: RunFolder, settings: dict[str, object], names: str
) -> None:
    with pytest.raises(SegprefError, match=rf"begun with other settings \({names}\)"):
        folder.open(settings, resume=True)


def test_what_changes_no_result_may_be_another(folder: RunFolder) -> None:
    folder.open({**SETTINGS, "checkpoint_seconds": 1.0, "log_with": [], "cache": "b"}, resume=True)


@pytest.mark.parametrize("other", ["data/../data", "link", "{here}/data"])
def test_the_same_folder_by_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data", "others"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("data")
    folder = RunFolder(tmp_path / "run")
    folder.open({"data": "data", "more": {"models": ["data", 1]}}, resume=False)
    same = other.format(here=tmp_path)
    folder.open({"data": same, "more": {"models": [same, 1]}}, resume=True)
    for changed in ({"data": "others", "more": {"models": ["data", 1]}},
                    {"data": "data", "more": {"models": ["others", 1]}},
                    {"data": "data", "more": {"models": [same]}},
                    {"data": "absent", "more": {"models": ["absent", 1]}}):  # fmt: skip
        with pytest.raises(SegprefError, match="begun with other settings"):
            folder.open(changed, resume=True)
    # From elsewhere a name that is not whole may mean anything.
    (tmp_path / "others" / "data").mkdir()
    monkeypatch.chdir(tmp_path / "others")
    with pytest.raises(SegprefError, match=r"begun with other settings \(data\)"):
        folder.open({"data": str(tmp_path / "data"), "more": {"models": ["data", 1]}}, resume=True)


def test_what_is_learned_from_stays_as_it_was(folder: RunFolder, tmp_path: Path) -> None:
    folder.keep_digest("base", "a", "another base: restore it")
    folder.keep_digest("records", "b", "other records: restore them")
    folder.keep_digest("base", "a", "another base: restore it")
    with pytest.raises(SegprefError, match="was begun with other records: restore them, or choose"):
        folder.keep_digest("records", "c", "other records: restore them")
    # A folder that nobody opened notes nothing.
    RunFolder(tmp_path / "none").keep_digest("base", "a", "another base")
    assert not (tmp_path / "none").exists()


def test_what_a_run_was_made_with(folder: RunFolder) -> None:
    about = json.loads((folder.path / "run.json").read_text())
    assert about["versions"]["torch"] == torch.__version__
    assert about["threads"] == torch.get_num_threads()
    assert about["settings"]["epochs"] == 3


def test_only_the_first_process_of_a_launch_makes_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    RunFolder(tmp_path / "run").open(SETTINGS, resume=False)
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("RANK", "0")
    RunFolder(tmp_path / "run").open(SETTINGS, resume=False)
    monkeypatch.setenv("RANK", "1")
    RunFolder(tmp_path / "run").open(SETTINGS, resume=False)


def test_metrics_come_back(folder: RunFolder) -> None:
    history = [{"epoch": 0.0, "val_iou": 1 / 3}, {"epoch": 1.0, "val_iou": 0.5, "loss": 1e-300}]
    folder.write_metrics(history)
    assert folder.read_metrics() == history
    folder.write_metrics([{"epoch": 1.0, "loss": math.nan}])
    assert math.isnan(folder.read_metrics()[0]["loss"])


def test_the_state_comes_back_bit_by_bit(folder: RunFolder) -> None:
    assert folder.load_state() is None
    tensors = {"a": torch.randn(3, 4).t(), "b": torch.tensor(3), "c": torch.randn(2).bfloat16()}
    position = {"epoch": 2, "best": -math.inf, "totals": {"loss": [0.1 + 0.2, math.nan]}}
    folder.save_state(tensors, position)
    found = folder.load_state()
    assert found is not None
    for name, value in tensors.items():
        assert torch.equal(found[0][name], value)
        assert found[0][name].dtype == value.dtype
    assert found[1]["best"] == -math.inf
    assert found[1]["totals"]["loss"][0] == 0.1 + 0.2


@pytest.mark.parametrize("keep", [0, 10, -1])
def test_a_damaged_state(folder: RunFolder, keep: int) -> None:
    folder.save_state({"a": torch.zeros(100)}, {"epoch": 1})
    folder.state.write_bytes(folder.state.read_bytes()[:keep])
    with pytest.raises(SegprefError, match="delete it to start the run again") as caught:
        folder.load_state()
    assert str(folder.state) in str(caught.value)


def test_a_summary_says_that_the_run_is_finished(folder: RunFolder) -> None:
    assert not folder.finished
    folder.write_summary({"val_iou": 0.5})
    assert folder.finished
    assert folder.read_summary() == {"val_iou": 0.5}


@pytest.mark.parametrize("end", [SegprefError("no label"), KeyboardInterrupt()])
def test_a_run_that_never_began_may_be_begun_otherwise(tmp_path: Path, end: BaseException) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(type(end)), folder.begun({"epochs": 2}, resume=False):
        raise end
    with folder.begun({"epochs": 3}, resume=False):
        folder.write_metrics([{"epoch": 0}])
    assert "epochs: 3" in folder.config.read_text()


@pytest.mark.parametrize("kept", ["metrics.csv", "state.safetensors", "audit.json"])
def test_a_run_that_left_something_is_not_begun_otherwise(tmp_path: Path, kept: str) -> None:
    folder = RunFolder(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (folder.path / kept).touch()
    with pytest.raises(KeyboardInterrupt), folder.begun({"epochs": 2}, resume=False):
        raise KeyboardInterrupt
    with (
        pytest.raises(SegprefError, match=r"begun with other settings \(epochs\)"),
        folder.begun({"epochs": 3}, resume=True),
    ):
        pass
    assert "epochs: 2" in folder.config.read_text()


@pytest.mark.parametrize(
    "summary", [{}, {"kind": "fit"}, {"kind": "fit", "seed": "1"}, {"seed": 1}]
)
def test_a_summary_without_what_the_trainer_notes_is_refused(
    folder: RunFolder, summary: dict[str, object]
) -> None:
    folder.best.touch()
    folder.write_summary(summary)
    with pytest.raises(SegprefError, match=r"summary\.json can't be read .*what was trained"):
        folder.finished_summary()


def go_on(folder: RunFolder) -> None:
    folder.open(SETTINGS, resume=True)
    folder.keep_digest("base", "0", "another base")


@pytest.mark.parametrize("key", ["settings", "learns_from"])
def test_a_note_whose_parts_are_no_mappings_is_refused(folder: RunFolder, key: str) -> None:
    note = folder.path / "run.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), key: []}))
    with pytest.raises(SegprefError, match=rf"run\.json can't be read \({key} is no JSON object"):
        go_on(folder)
