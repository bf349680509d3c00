"""Whatever a name holds, it is printed as it is and steers nothing: no terminal, page or table."""

from __future__ import annotations

import ast
import io
import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from segpref.cli.main import COMMANDS, main
from segpref.progress import console, headed, progress_bar, stdout
from segpref.terminal import Terminal, one_line, print_uncaught, set_up_messages, visible

SOURCES = Path(__file__).parents[1] / "src" / "segpref"
STEERING = [
    *map(chr, (*range(0x20), *range(0x7F, 0xA0))),
    *"\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    "\udc80",
    "\udcff",
]
HOSTILE = "[/red][bold]:smile:" + "".join(STEERING) + "end"


def steers(text: str, but: str = "\n") -> list[str]:
    return [sign for sign in STEERING if sign in text and sign not in but]


@pytest.mark.parametrize("sign", STEERING, ids=ascii)
def test_a_sign_that_steers_is_shown(sign: str) -> None:
    assert steers(one_line(f"a{sign}b"), but="") == []
    assert one_line(f"a{sign}b").startswith(("a\\x", "a\\u"))
    assert (visible(f"a{sign}b") == f"a{sign}b") == (sign in "\t\n")


@pytest.mark.parametrize("text", ["Łódź 患者 \u00a0 ± 😀 עברית العربية", "e\u0301", "a|b\\c [red]"])
def test_other_text_stays(text: str) -> None:
    assert one_line(text) == text


def in_cell() -> object:
    table = Table(title=HOSTILE, caption=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    return table


@pytest.mark.parametrize(
    "made",
    [lambda: HOSTILE, lambda: Text(HOSTILE), lambda: headed(HOSTILE, HOSTILE), in_cell],
    ids=["text", "Text", "headed", "table"],
)
def test_nothing_that_is_printed_steers(made: Callable[[], object]) -> None:
    file = io.StringIO()
    Terminal(file=file, width=4000).print(made())
    assert steers(file.getvalue()) == []
    assert "[/red][bold]:smile:" in file.getvalue()
    file.getvalue().encode()


@pytest.mark.parametrize("stream", [console, stdout], ids=["console", "stdout"])
def test_both_consoles_are_such(stream: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    stream.print(HOSTILE, soft_wrap=True)
    printed = "".join(capsys.readouterr())
    assert steers(printed) == []
    assert "[/red][bold]:smile:" in printed


def test_colours_that_are_meant_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    file = io.StringIO()
    terminal = Terminal(file=file, force_terminal=True, color_system="standard", width=200)
    terminal.print(Text.assemble(("failed", "red"), " \x1b[31m 7"))
    terminal.print("careful", style="yellow")
    terminal.print(headed("name", ": 12 cases"))
    printed = file.getvalue()
    assert "\x1b[31mfailed\x1b[0m \\x1b[31m 7" in printed
    assert "\x1b[33mcareful\x1b[0m" in printed
    assert "\x1b[1mname\x1b[0m" in printed
    assert "\x1b[1;36m12\x1b[0m" in printed  # numbers are highlighted as ever


def test_a_bar_shows_names_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    terminal = Terminal(file=file, width=4000, force_terminal=True, color_system=None)
    monkeypatch.setattr("segpref.progress.console", terminal)
    with progress_bar() as bar:
        bar.add_task(HOSTILE, total=2, note=HOSTILE)
    printed = re.sub(r"\x1b\[(\?25[lh]|2K|1A|\d*[ABCDGK])", "", file.getvalue())  # rich's own moves
    assert steers(printed, but="\n\r") == []
    assert "[/red][bold]:smile:" in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_is_none_is_shown(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), f"--{HOSTILE}", HOSTILE, "\x1b]0;title\x07"]) == 2
    assert steers("".join(capsys.readouterr()), but="\n\t") == []


@pytest.mark.parametrize("name", ["a\x1b[2J\nsegpref: all is well", "[/red]", "\u202egnp.a"])
def test_a_mistake_is_told_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--model", name, "--input", "x", "--output", "y"]) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert steers(printed) == []
    assert one_line(name) in printed


def test_an_unknown_command_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([HOSTILE]) == 2
    assert steers(capsys.readouterr().err) == []


def test_log_messages_and_warnings_do_not_steer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    set_up_messages()
    logging.getLogger("segpref.somewhere").warning("%s", HOSTILE)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert steers(printed) == []
    logging.getLogger("other").warning("two\nlines%s", HOSTILE)
    assert steers(capsys.readouterr().err, but="\n\t") == []
    printed = warnings.formatwarning(UserWarning(HOSTILE), UserWarning, "a.py", 1)
    assert steers(printed, but="\n\t") == []


def test_a_traceback_does_not_steer(capsys: pytest.CaptureFixture[str]) -> None:
    error = ValueError(HOSTILE)
    print_uncaught(ValueError, error, error.__traceback__)
    printed = capsys.readouterr().err
    assert printed.startswith("ValueError: ")
    assert steers(printed, but="\n\t") == []


@pytest.mark.parametrize(
    "path", sorted(SOURCES.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCES))
)
def test_no_module_goes_past_the_boundary(path: Path) -> None:
    """Only ``terminal.py`` makes consoles and only ``cli/main.py`` prints; markup is nowhere."""
    if path == SOURCES / "terminal.py":
        return
    tree = ast.parse(path.read_text())
    imported = {
        f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert not imported & {"rich.console.Console", "rich.markup.escape", "rich.print"}
    called = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    forbidden = {"Text.from_markup", "sys.stderr.write", "sys.stdout.write", "logging.basicConfig"}
    if path != SOURCES / "cli" / "main.py":
        forbidden |= {"print"}
    assert not forbidden & set(called)
    assert not [
        one for one in ast.walk(tree) if isinstance(one, ast.keyword) and one.arg == "markup"
    ]
