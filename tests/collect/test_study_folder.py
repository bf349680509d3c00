"""A study on disk: made, read back, damaged, erased, stopped and trained on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.collect.studies import HEART, heart_data, small_study, untrained

from segpref.cli.main import main
from segpref.collect import (
    Contents,
    PackedArray,
    StudyFolder,
    contents_from_json,
    contents_to_json,
    pack,
    unpack,
)
from segpref.data import Preparation, prepare
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.disk import Damaged, to_checked_json
from segpref.judges import OracleJudge
from segpref.policies import load_model
from segpref.preferences import (
    AbstainingJudge,
    Preference,
    RecordedPairs,
    RoundSlates,
    content_ids,
    pairs_from,
)
from segpref.proposals import InterfaceOffset, StructureOffset, UniformOffset
from segpref.types import LabelSpace, SegprefError, Slate
from segpref.workflows import init_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def study(place: Path) -> StudyFolder:
    return small_study(place, practice=2, gold=0.2)


def standing_slates(study: StudyFolder, place: Path) -> dict[str, Slate]:
    """The slates of the standing sets by case, read as a training reads them."""
    found: dict[str, Slate] = {}
    everything = prepare(heart_data(place / "data"), Preparation(dims=2, size=(32, 32)))
    names = [case.id for case in everything]
    for folder, cases in (
        (study.slates, study.train_cases),
        (study.held_out, study.held_out_cases),
    ):
        if not cases:
            assert not folder.exists()
            continue
        pool = everything.take([names.index(case) for case in cases])

        def made_anew(*_: Any) -> Any:
            raise AssertionError("the set is there")

        kept = RoundSlates(made_anew, pool, AbstainingJudge(), folder, every=5)
        found |= dict(zip(cases, kept(range(len(pool)), 0, 0).slates, strict=True))
    return found


def test_everything_that_is_asked_is_there(study: StudyFolder, place: Path) -> None:
    contents = study.contents()
    items = {item.id: item for item in contents.items}
    masks = {mask.id: mask for mask in contents.masks}
    uses = Counter(pair.use for pair in contents.pairs)
    assert uses["normal"] >= 10
    assert uses["practice"] == 2
    assert uses["gold"] == round(0.2 * uses["normal"])
    slates = standing_slates(study, place)
    for pair in contents.pairs:
        item = items[pair.item]
        one, other = (study.read_display(masks[mask].asset) for mask in pair.masks)
        assert one.shape == other.shape == item.display.shape
        assert study.read_display(item.display.asset).shape == item.display.shape
        value = study.note.label_space.names.index(pair.structure or "")
        differs = (one == value) != (other == value)
        assert differs.any()
        assert {axis: list(places) for axis, places in pair.slices.items()} == {"axial": [0]}
        if pair.use != "normal":
            assert pair.gold == 0
            assert item.use == "gold"
            continue
        ids = content_ids(slates[item.case])
        for mask in (masks[mask] for mask in pair.masks):
            assert ids[mask.candidate] == mask.prepared_id
            assert mask.model == load_model(study.base)[0].digest() == study.note.model_digest


def test_votes_about_it_are_pairs_of_a_training(study: StudyFolder, place: Path) -> None:
    contents, space = study.contents(), study.note.label_space
    items = {item.id: item for item in contents.items}
    masks = {mask.id: mask for mask in contents.masks}
    records = [
        Preference(
            case=items[pair.item].case,
            candidates=tuple(masks[mask].prepared_id for mask in pair.masks),
            choice="second",
            source="votes",
            structure=pair.structure,
        )
        for pair in contents.pairs
        if pair.use == "normal"
    ]
    slates = standing_slates(study, place)
    mined = pairs_from(records, list(slates), list(slates.values()), space)
    assert sum(mined.skipped.values()) == 0
    assert len(mined.pairs) == len(records)
    assert RecordedPairs.of(records)


def test_patients_are_on_one_side_and_gold_is_nobody_who_is_trained_on(study: StudyFolder) -> None:
    sides: dict[str, set[str]] = {}
    for item in study.contents().items:
        sides.setdefault(item.use, set()).add(item.patient)
    assert set(sides) == {"train", "choose", "gold"}
    assert sum(map(len, sides.values())) == len(set().union(*sides.values()))
    assert "phantom000" not in set().union(*sides.values())
    split = json.loads((study.path / "split.json").read_text())
    assert sides["gold"] <= {*split["validation"], *split["test"]}


def test_known_answers_are_right(study: StudyFolder, place: Path) -> None:
    contents, space = study.contents(), study.note.label_space
    reader = heart_data(place / "data")
    labels = {source.id: reader.read(source) for source in reader.sources()}
    masks = {mask.id: mask for mask in contents.masks}
    items = {item.id: item for item in contents.items}
    oracle = OracleJudge(space, "dice")
    for pair in (pair for pair in contents.pairs if pair.use != "normal"):
        case = labels[items[pair.item].case]
        # Back on the axes of the file, which are RAS here.
        shown = [study.read_display(masks[mask].asset)[0].T[::-1, ::-1] for mask in pair.masks]
        slate = Slate(np.stack(shown)[:, None], (None, None))  # type: ignore[arg-type]
        assert oracle.score(replace(case), slate)[:, 0].argmax() == 0


def test_nothing_that_is_served_carries_a_name(study: StudyFolder) -> None:
    contents = study.contents()
    names = {path.name for path in (study.path / "display").iterdir()}
    assets = {item.display.asset for item in contents.items} | {m.asset for m in contents.masks}
    assert names == {f"{asset}.bin" for asset in assets}
    for item in contents.items:
        for text in (item.case, item.patient, item.volume):
            assert not any(text in name for name in names)
            assert (
                text.encode()
                not in (study.path / "display" / f"{item.display.asset}.bin").read_bytes()
            )


def test_contents_come_back_and_are_checked(study: StudyFolder) -> None:
    contents = study.contents()
    assert contents_from_json(contents_to_json(contents)) == contents
    item, mask, pair = contents.items[0], contents.masks[0], contents.pairs[0]
    wrong = {
        "twice": replace(contents, masks=(*contents.masks, mask)),
        "an id that is none": replace(
            contents, items=(replace(item, id="../x"), *contents.items[1:])
        ),
        "not there": replace(contents, items=contents.items[1:]),
        "has 1 masks": replace(contents, pairs=(replace(pair, masks=pair.masks[:1]),)),
        "better mask": replace(contents, pairs=(replace(pair, gold=2),)),
    }
    for reason, one in wrong.items():
        with pytest.raises(Damaged, match=reason):
            contents_from_json(contents_to_json(one))
    data = contents_to_json(contents)
    with pytest.raises(Damaged, match="checksum"):
        contents_from_json(data.replace(b'"votes": 1', b'"votes": 2', 1))
    assert contents_from_json(contents_to_json(Contents(items=(), masks=(), pairs=())))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "float32", ">i2"])
def test_arrays_are_packed_without_loss(dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 200, (3, 4, 5)).astype(dtype)
    back = unpack(pack(array[:, ::-1]))
    assert np.array_equal(back, array[:, ::-1])
    assert back.dtype == np.dtype(dtype).newbyteorder("<")


@pytest.mark.parametrize("size", [0, 1, 2**21 - 1, 2**21, 2**21 + 1])
def test_arrays_of_several_parts_are_packed_without_loss(size: int) -> None:
    array = np.random.default_rng(0).integers(-1024, 1024, (1, 1, size), np.int16)
    assert np.array_equal(unpack(pack(array)), array)


def test_rows_are_unpacked_without_all_others() -> None:
    # 12 rows of 2^20 bytes; three parts of 2^22.
    array = np.random.default_rng(0).integers(-1024, 1024, (12, 2**19), np.int16)
    data = bytearray(pack(array))
    data[-1] ^= 1  # the last part is damaged
    packed = PackedArray(bytes(data))
    for start, stop in ((0, 1), (3, 5), (7, 8), (2, 2)):
        assert np.array_equal(packed.rows(start, stop), array[start:stop])
    for damaged in (lambda: packed.rows(7, 9), lambda: packed.rows(11, 12), packed.whole):
        with pytest.raises(Damaged, match="checksum"):
            damaged()
    with pytest.raises(Damaged, match="checksum"):
        packed.unpack_rest()
    assert np.array_equal(packed.rows(0, 8), array[:8])
    good = PackedArray(pack(array))
    good.rows(5, 6)
    good.unpack_rest()
    assert np.array_equal(good.whole(), array)


@pytest.mark.parametrize(
    "change",
    [{"shape": [-1, -1000]}, {"shape": [1001]}, {"parts": []}, {"parts": [1, 2]}, {"dtype": "O"},
     {"parts": "a"}, {"shape": None}, {"shape": [2**40]}, {"sums": []}, {"sums": ["0"]}, {"sums": 3},
     {"parts": [-1]}],
)  # fmt: skip
def test_a_packed_array_that_says_something_else_is_refused(change: dict[str, Any]) -> None:
    head, _, data = pack(np.arange(1000, dtype=np.int16)).partition(b"\n")
    note = {**json.loads(head), **change}
    del note["digest"]
    with pytest.raises(Damaged):
        unpack(to_checked_json(note) + b"\n" + data)


def test_packed_arrays_that_were_changed_are_refused() -> None:
    data = pack(np.arange(1000, dtype=np.int16).reshape(1, 25, 40))
    for place in (0, 5, 40, len(data) // 2, len(data) - 1):
        broken = bytearray(data)
        broken[place] ^= 1
        with pytest.raises(Damaged):
            unpack(bytes(broken))
    for cut in (data[:-1], data[: len(data) // 2], b"", data + b"x"):
        with pytest.raises(Damaged):
            unpack(cut)


def test_a_name_that_leads_elsewhere_is_refused(study: StudyFolder) -> None:
    for name in ("../study", "", "a/b", "x" * 65, "..", "\0"):
        with pytest.raises(SegprefError, match="opaque id"):
            study.read_display(name)


def test_a_place_that_is_no_new_folder_is_refused(study: StudyFolder, place: Path) -> None:
    with pytest.raises(SegprefError, match="holds a study already"):
        init_study(study.base, place / "data", out=study.path)
    (place / "mine").mkdir()
    (place / "mine" / "notes.txt").write_text("x")
    with pytest.raises(SegprefError, match=r"something else than a study, such as notes\.txt"):
        init_study(study.base, place / "data", out=place / "mine")
    with pytest.raises(SegprefError, match="holds no study"):
        StudyFolder(place / "mine")


def test_what_does_not_fit_is_refused_before_any_work(study: StudyFolder, place: Path) -> None:
    base, data, out = study.base, heart_data(place / "data"), place / "refused"
    with pytest.raises(SegprefError, match="give --data, or --pool"):
        init_study(base, out=out)
    with pytest.raises(SegprefError, match="give the other one as --tuned"):
        init_study(base, data, out=out, mode="base-or-tuned")
    with pytest.raises(SegprefError, match="leave it out"):
        init_study(base, data, out=out, tuned=base)
    with pytest.raises(SegprefError, match="is to be its own judge"):
        init_study(base, data, out=out, judge=str(base))
    with pytest.raises(SegprefError, match="title has from 1 to 500"):
        init_study(base, data, out=out, title=" ")
    with pytest.raises(SegprefError, match="nothing to ask about"):
        init_study(base, data, out=out, images=2, least_voxels=5000)
    assert not out.exists()
    assert init_study(base, data, out=out, images=2, gold=0.0, practice=0).contents.pairs


def test_an_erased_patient_is_in_no_file(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    contents = study.contents()
    for use in ("train", "choose", "gold"):
        patient = next(item.patient for item in contents.items if item.use == use)
        gone = {item.id for item in contents.items if item.patient == patient}
        kept = {
            name: slate
            for name, slate in standing_slates(study, tmp_path).items()
            if patient not in name
        }
        counts = study.erase(patient)
        assert counts["images"] == len(gone) > 0
        again = StudyFolder(study.path)
        left = again.contents()
        assert left.items == tuple(one for one in contents.items if one.id not in gone)
        assert left.masks == tuple(one for one in contents.masks if one.item not in gone)
        assert left.pairs == tuple(one for one in contents.pairs if one.item not in gone)
        for file in study.path.rglob("*"):
            assert patient not in file.name
            if file.is_file() and file.suffix == ".json":
                assert patient not in file.read_text()
        now = standing_slates(again, tmp_path)
        assert now.keys() == kept.keys()
        for name, slate in now.items():
            assert np.array_equal(slate.masks, kept[name].masks)
        assert study.erase(patient) == {"images": 0, "masks": 0, "pairs": 0}
        contents = left


def test_a_call_that_was_killed_leaves_no_study_and_is_given_again(tmp_path: Path) -> None:
    untrained(tmp_path / "base.safetensors", "phantom000")
    heart_data(tmp_path / "data")
    killed = (
        "import os, signal\n"
        "from segpref.collect import standing, study\n"
        "from tests.collect.studies import small_study\n"
        "from pathlib import Path\n"
        "study.contents_to_json = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"small_study(Path({str(tmp_path)!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", killed],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    assert list(tmp_path.glob(".study.*.partial"))
    with pytest.raises(SegprefError, match="holds no study"):
        StudyFolder(tmp_path / "study")
    study = small_study(tmp_path)
    assert study.train_cases
    left = {path.name for path in (study.path / "display").iterdir()}
    contents = study.contents()
    assert len(left) == len(contents.items) + len(contents.masks)


@pytest.mark.parametrize("mode", ["best-of-four", "accept-reject"])
def test_other_modes(mode: Any, tmp_path: Path) -> None:
    study = small_study(tmp_path, mode=mode, candidates=24, images=4)
    pairs = [pair for pair in study.contents().pairs if pair.use == "normal"]
    masks = {mask.id: mask for mask in study.contents().masks}
    assert {len(pair.masks) for pair in pairs} == {4 if mode == "best-of-four" else 1}
    assert {pair.mode for pair in pairs} == {mode}
    if mode == "accept-reject":
        anchors = [masks[pair.masks[0]].candidate == 0 for pair in pairs]
        assert any(anchors)
        assert not all(anchors)
    else:
        assert all(len(set(pair.masks)) == 4 for pair in pairs)


def test_the_command_makes_a_study_and_says_what_it_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = untrained(tmp_path / "base.safetensors", "phantom000"), tmp_path / "study"
    heart_data(tmp_path / "data")
    options = {"names": list(HEART), "patient_pattern": PATIENT_PATTERN}
    given = [
        "--data", str(tmp_path / "data"), "--data_options", json.dumps(options), "--cache",
        str(tmp_path / "cache"), "--images", "3", "--candidates", "8", "--votes", "2",
    ]  # fmt: skip
    assert main(["collect", "init", "--model", str(model), "--out", str(out), *given]) == 0
    printed = capsys.readouterr().err
    study = StudyFolder(out)
    pairs = study.contents().pairs
    normal = sum(pair.use == "normal" for pair in pairs)
    assert f"{normal} questions" in printed
    assert "burnt into the pixels" in printed
    assert {pair.votes for pair in pairs} == {2}
    assert study.note.settings["data"] == str(tmp_path / "data")
    assert study.note.settings["repeats"] == 0.1
    assert main(["collect", "init", "--model", str(model), "--out", str(out), *given]) == 1
    assert "holds a study already" in capsys.readouterr().err
    assert main(["collect", "init", "--out", str(tmp_path / "other"), *given]) == 1
    assert "or an alignment's run folder as --from" in capsys.readouterr().err
    run = tmp_path / "voted"
    run.mkdir()
    model.rename(run / "best.safetensors")
    (run / "config.yaml").write_text(f"data: {tmp_path / 'data'}\n")
    assert (
        main(["collect", "init", "--from", str(run), "--out", str(tmp_path / "next"), *given[2:]])
        == 0
    )
    assert StudyFolder(tmp_path / "next").note.model == str(run)


def test_two_models_are_compared_on_test_patients(tmp_path: Path) -> None:
    other = untrained(tmp_path / "tuned.safetensors", "phantom000", seed=1)
    study = small_study(tmp_path, mode="base-or-tuned", tuned=other, images=5)
    contents, split = study.contents(), json.loads((study.path / "split.json").read_text())
    asked = [item for item in contents.items if item.use == "evaluate"]
    assert {item.patient for item in asked} <= set(split["test"])
    pairs = [pair for pair in contents.pairs if pair.use == "normal"]
    assert len(pairs) == len(asked) > 1
    families = {mask.id: (mask.family, mask.model) for mask in contents.masks}
    digests = {
        name: load_model(path)[0].digest()
        for name, path in (("base", study.base), ("tuned", other))
    }
    assert {families[mask] for pair in pairs for mask in pair.masks} == set(digests.items())
    gold = {item.patient for item in contents.items if item.use == "gold"}
    assert not gold & {item.patient for item in asked}


def test_a_judge_and_a_folder_of_images_alone(tmp_path: Path) -> None:
    study = small_study(tmp_path, judge="oracle")
    scores = [mask.score for mask in study.contents().masks if mask.family not in ("label",)]
    assert any(score is not None for score in scores)
    alone = init_study(
        study.base, pool=tmp_path / "data" / "images", out=tmp_path / "pool", images=4, candidates=8,
        cache=tmp_path / "cache",
    )  # fmt: skip
    assert {item.use for item in alone.contents.items} == {"train", "choose"}
    assert "for want of labelled patients" in " ".join(alone.left_out)
    space: LabelSpace = alone.folder.note.label_space
    assert space.structures == ("RV", "MYO", "LV")


def test_passes_under_dropout_say_of_which_margins_the_model_is_unsure(tmp_path: Path) -> None:
    """The same weights and candidates with and without dropout: only expected information differs."""
    data = heart_data(tmp_path / "data")
    families = [UniformOffset(), InterfaceOffset(), StructureOffset()]
    found = []
    for name, dropout in (("with", 0.3), ("without", 0.0)):
        base = untrained(tmp_path / name / "base.safetensors", "phantom000", dropout=dropout)
        study = init_study(
            base, data, out=tmp_path / name / "study", cache=tmp_path / "cache", images=4,
            candidates=8, practice=0, gold=0.0, random=0.0, families=families, pairs_per_image=8,
        ).folder  # fmt: skip
        contents = study.contents()
        masks = {mask.id: mask for mask in contents.masks}
        cases = {item.id: item.case for item in contents.items}
        found.append({
            (cases[pair.item], pair.structure, *sorted(masks[one].prepared_id for one in pair.masks)):
            pair.information
            for pair in contents.pairs
        })  # fmt: skip
    both = found[0].keys() & found[1].keys()
    assert both
    assert any(found[0][one] != pytest.approx(found[1][one]) for one in both)
