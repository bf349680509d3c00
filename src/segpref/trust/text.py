"""JSON and YAML from untrusted files: plain values of a sensible size, or a one-sentence error."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from segpref.disk import cannot_read
from segpref.types import SegprefError

__all__ = ["parse_json", "read_json", "read_yaml", "refuse_repeats"]

_BYTES = 256 * 1024 * 1024
"""Larger than the index of a dataset of a million images."""
_DEPTH = 60
_VALUES = {"YAML": 1_000_000, "JSON": _BYTES}
"""YAML may repeat a part by reference, and a part of it again: a page may then expand to billions."""


def read_json(path: Path, how: str = "correct it or copy it again") -> Any:
    """Content of a JSON file.

    Args:
        path: the file.
        how: to fix it, for the sentence.

    Raises:
        SegprefError: it is not there, can't be read, is no JSON, names something twice in one object,
            or is nested without end.
    """
    return _parsed(_load_json, _text(path, how), path, "JSON", how)


def parse_json(text: str, file: object, how: str = "copy it again") -> Any:
    """JSON inside another file, such as the header of a model file.

    Raises:
        SegprefError: it is no JSON, names something twice in one object, or is nested without end.
    """
    return _parsed(_load_json, text, file, "JSON", how)


def read_yaml(path: Path, how: str = "correct it") -> Any:
    """Content of a YAML file without tags: text, numbers, lists and mappings alone.

    Raises:
        SegprefError: it is not there, can't be read, is not such YAML, names something twice in one
            mapping, or expands to too much.
    """
    return _parsed(_load_yaml, _text(path, how), path, "YAML", how)


def refuse_repeats(text: str, where: object) -> None:
    """Refuse a value in YAML that names something twice in one mapping; what is no YAML is passed over.

    Args:
        text: such as the value of an option.
        where: it stands, for the sentence.

    Raises:
        SegprefError: it does.
    """
    try:
        yaml.compose(text, Loader=_Loader)
    except _Repeated as error:
        raise SegprefError(f"{where} is not clear ({error}): leave one of the two out") from error
    except (yaml.YAMLError, RecursionError):
        return


def _load_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which a name is there once: of two values none is silently left out."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise ValueError(f"{names.most_common(1)[0][0]!r} is there twice in one object")
    return found


class _Repeated(yaml.YAMLError):
    """A key that is there twice."""


class _Loader(yaml.SafeLoader):
    """YAML without tags, in which a key is there once: of two values none is silently left out."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            told = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if told in seen:
                line = key.start_mark.line + 1
                raise _Repeated(f"{key.value} is there twice, again in line {line}")
            # Mappings may be merged into one from several places.
            if told is not None and not key.tag.endswith(":merge"):
                seen.add(told)
        return node


def _load_yaml(text: str) -> Any:
    # Its constructors are those of yaml.safe_load.
    return yaml.load(text, Loader=_Loader)


def _text(path: Path, how: str) -> str:
    try:
        if path.stat().st_size > _BYTES:
            raise SegprefError(f"{path} is larger than any description should be: {how}")
        # Windows begins UTF-8 with a byte order mark, which parsers take for content.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SegprefError(f"there is no file {path}: check the path, or restore it") from error
    except OSError as error:
        raise cannot_read(path, error) from error
    except UnicodeDecodeError as error:
        raise SegprefError(f"{path} is not UTF-8 text ({error.reason}): {how}") from error


def _parsed(parse: Callable[[str], Any], text: str, file: object, kind: str, how: str) -> Any:
    try:
        content = parse(text)
        _check_extent(content, _VALUES[kind])
    except RecursionError as error:
        raise SegprefError(f"{file} is not valid {kind} (nested too deeply): {how}") from error
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SegprefError(f"{file} is not valid {kind} ({reason}): {how}") from error
    return content


def _check_extent(content: Any, most: int) -> None:
    """Raise where a value is nested too deeply (or in itself), or expands to too many values."""
    left, layer = most, [content]
    for _ in range(_DEPTH):
        below: list[Any] = []
        for value in layer:
            if isinstance(value, Mapping):
                below.extend(value.values())
            elif isinstance(value, list | tuple | set):
                below.extend(value)
            if len(below) > left:
                raise ValueError("it repeats its parts millions of times")
        if not below:
            return
        left, layer = left - len(below), below
    raise RecursionError
