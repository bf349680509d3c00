"""Modules that are imported when something of them is first used."""

from __future__ import annotations

import sys

import pytest

from segpref.late import late


def test_a_module_is_imported_when_it_is_first_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    colours = late("colorsys")
    for name in (
        "__args__",
        "__wrapped__",
    ):  # asked by libraries that look at all names of a module
        assert not hasattr(colours, name)
    assert "colorsys" not in sys.modules
    assert colours.rgb_to_hsv(1, 1, 1) == (0, 0, 1)
    assert "colorsys" in sys.modules
    with pytest.raises(AttributeError, match="colour"):
        _ = colours.colour


def test_a_module_that_is_not_there_is_missed_where_it_is_used() -> None:
    nothing = late("segpref.nothing")
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        _ = nothing.some
