"""Escapes names for Markdown, LaTeX and figures."""

from __future__ import annotations

import re

from segpref.terminal import visible

__all__ = ["in_figure", "in_latex", "in_markdown"]

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def in_markdown(text: str) -> str:
    """The text escaped for a heading or a cell, in one line."""
    # Underscores within words are no emphasis, and would only be harder to read.
    return re.sub(r"([\\|`*\[\]])", r"\\\1", _in_one_line(text)).replace("<", "&lt;")


def in_latex(text: str) -> str:
    """The text escaped for a cell or a comment, in one line."""
    return "".join(_LATEX.get(sign, sign) for sign in _in_one_line(text))


def in_figure(text: str) -> str:
    """The text escaped so that Matplotlib does not read it as mathematics."""
    return _in_one_line(text).replace("$", r"\$")


def _in_one_line(text: str) -> str:
    return visible(" ".join(text.split()))
