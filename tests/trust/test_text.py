"""Descriptions from strangers end in one sentence, however they are broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpref.trust import parse_json, read_json, read_yaml
from segpref.types import SegprefError

DEEP = "[" * 100_000 + "]" * 100_000
NESTED = "[" * 200 + "]" * 200
LAUGHS = "\n".join(
    ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
)


@pytest.mark.parametrize("text", [DEEP, NESTED, "", "{", "\x00", '{"a": 1,}', '"\\ud800'])
def test_json_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    for read in (lambda: read_json(path), lambda: parse_json(text, path)):
        with pytest.raises(SegprefError, match=r"x\.json .*: "):
            read()


@pytest.mark.parametrize(
    "text", [DEEP, NESTED, LAUGHS, "a: &a [*a]", "a: [", "a: !!python/name:os.system", "\x00", "*b"]
)
def test_yaml_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(SegprefError, match=r"x\.yaml .*: correct it"):
        read_yaml(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(SegprefError, match="not UTF-8"):
        read_json(tmp_path / "x")
    with pytest.raises(SegprefError, match="there is no file"):
        read_json(tmp_path / "y")
    with pytest.raises(SegprefError, match="can't be read"):
        read_yaml(tmp_path)
    with (tmp_path / "z").open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    with pytest.raises(SegprefError, match="larger than"):
        read_json(tmp_path / "z")


def test_plain_values(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"a": [1, {"b": null}], "ü": "é"}', encoding="utf-8")
    assert (
        read_json(tmp_path / "x") == read_yaml(tmp_path / "x") == {"a": [1, {"b": None}], "ü": "é"}
    )
    again = "one: &one {n: 1}\nother: *one"
    (tmp_path / "y").write_text(again)
    assert read_yaml(tmp_path / "y") == {"one": {"n": 1}, "other": {"n": 1}}


@pytest.mark.parametrize("text", ["a: 1\nb: {c: 2, c: 2}", "a: 1\nb: 2\na: 1", "{1: x, 1: y}"])
def test_what_yaml_says_twice_is_not_decided(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(
        SegprefError, match=r"x\.yaml .* is there twice, again in line \d.*correct it"
    ):
        read_yaml(path)


@pytest.mark.parametrize("text", ['{"a": 1, "b": {"c": 2, "c": 2}}', '[{"a": 1, "a": 2}]'])
def test_what_json_says_twice_is_not_decided(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(SegprefError, match=r"x\.json .*'[ac]' is there twice in one object"):
        read_json(path)
    with pytest.raises(SegprefError, match=r"header .*'[ac]' is there twice in one object"):
        parse_json(text, "header")


def test_yaml_that_is_merged_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "a: &a {n: 1, m: 2}\nb: &b {<<: *a, n: 3}\nc: {<<: *b, <<: *a, n: 4}\n'1': x\n1: y"
    )
    found = read_yaml(path)
    assert found["b"] == {"n": 3, "m": 2}
    assert (found["c"]["n"], found["c"]["m"]) == (4, 2)
    assert (found["1"], found[1]) == ("x", "y")
