"""What a study asks, as a checked JSON file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any, TypeVar, get_type_hints

from segpref.checking import check_type
from segpref.collect.contents import Contents, DisplayInfo, Item, Mask, Pair
from segpref.disk import Damaged, from_checked_json, to_checked_json
from segpref.types import SegprefError

__all__ = ["contents_from_json", "contents_to_json", "is_opaque", "made_of"]

T = TypeVar("T")

_OPAQUE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COUNTS = {"pair": 2, "best-of-four": 4, "accept-reject": 1, "base-or-tuned": 2}


def is_opaque(text: object) -> bool:
    """Whether a text may be an id: letters, digits, ``-`` and ``_``, which lead to no other folder."""
    return isinstance(text, str) and _OPAQUE.fullmatch(text) is not None


def contents_to_json(contents: Contents) -> bytes:
    """Contents with a checksum, for :func:`contents_from_json`."""
    return to_checked_json({"format_version": 1, **asdict(contents)})


def contents_from_json(data: bytes) -> Contents:
    """The contents back, with every reference checked.

    Raises:
        Damaged: something else, another version, an id that is none, or a mask or pair that does not
            fit what it refers to.
    """
    content = from_checked_json(data)
    if content.get("format_version") != 1:
        raise Damaged("it is of another version of segpref")
    try:
        items = tuple(_item(one) for one in content["items"])
        masks = tuple(made_of(Mask, one) for one in content["masks"])
        pairs = tuple(_pair(one) for one in content["pairs"])
    except (KeyError, TypeError, ValueError, AttributeError, SegprefError) as error:
        raise Damaged(f"it holds no contents of a study ({error})") from error
    contents = Contents(items=items, masks=masks, pairs=pairs)
    _check(contents)
    return contents


def made_of(kind: type[T], content: Mapping[str, Any]) -> T:
    """A record of plain values, each of the type that its field has.

    Raises:
        SegprefError: a value of another type.
        TypeError: a field that is missing, or not known.
    """
    made = kind(**content)
    known: Any = kind
    for name, hint in _hints(known).items():
        check_type(name, getattr(made, name), hint)
    return made


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _item(content: Mapping[str, Any]) -> Item:
    display = dict(content["display"])
    for name in ("shape", "spacing_mm", "window"):
        display[name] = None if display[name] is None else tuple(display[name])
    return made_of(Item, {**content, "display": made_of(DisplayInfo, display)})


def _pair(content: Mapping[str, Any]) -> Pair:
    slices = {axis: tuple(places) for axis, places in content["slices"].items()}
    return made_of(Pair, {**content, "masks": tuple(content["masks"]), "slices": slices})


def _check(contents: Contents) -> None:
    groups = (contents.items, contents.masks, contents.pairs)
    for group in groups:
        _unique(one.id for one in group)
    assets = [item.display.asset for item in contents.items]
    _unique([*assets, *(mask.asset for mask in contents.masks)])
    items = {item.id for item in contents.items}
    item_of = {mask.id: mask.item for mask in contents.masks}
    for mask in contents.masks:
        if mask.item not in items:
            raise Damaged(f"mask {mask.id} is of an image that is not there")
    for pair in contents.pairs:
        if pair.item not in items or {item_of.get(one) for one in pair.masks} != {pair.item}:
            raise Damaged(f"pair {pair.id} has masks of another image, or that are not there")
        if len(pair.masks) != _COUNTS.get(pair.mode):
            raise Damaged(f"pair {pair.id} has {len(pair.masks)} masks, mode {pair.mode!r}")
        answers = 2 if pair.mode == "accept-reject" else len(pair.masks)
        if pair.gold is not None and not 0 <= pair.gold < answers:
            raise Damaged(f"pair {pair.id} names a better mask that it does not have")


def _unique(ids: Iterable[str]) -> None:
    counts = Counter(ids)
    if bad := next((one for one in counts if not is_opaque(one)), None):
        raise Damaged(f"it holds an id that is none: {bad!r}")
    if twice := next((one for one, count in counts.items() if count > 1), None):
        raise Damaged(f"it holds the id {twice} twice")
