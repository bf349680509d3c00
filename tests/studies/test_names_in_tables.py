"""Names of structures and methods, whatever is in them, in tables, figures and pages."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_reports import checked
from PIL import Image

from segpref.progress import stdout
from segpref.report import (
    Cell,
    Details,
    Key,
    Page,
    Picture,
    Section,
    Table,
    TableRow,
    latex,
    lines_chart,
    markdown,
    picture_grid,
    rich_table,
    write_page,
    write_pictures,
)
from segpref.studies import load_recipe, plan, recipe_file
from segpref.studies.ambiguity import load_ambiguity_recipe
from segpref.studies.prompted import load_prompted
from segpref.types import SegprefError

pytestmark = pytest.mark.slow

NAMES = ["a|b", "a\\|b", "a\\", "a\nb", "`a|`", "[x](y)", "<b>", "*a*", "$x^2$", "50 % & #1 {~}",
         "a\\\\", "[/red]", "\x1b[31mred", "\u202eback", "\udcff"]  # fmt: skip


def png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, format="png")
    return file.getvalue()


PNG = png()


def rows(name: str) -> list[TableRow]:
    return [TableRow(name, 1, {name: (0.5, 0.1)}), TableRow("other", 1, {name: (-0.25, np.nan)})]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_markdown_table_keeps_its_shape(name: str) -> None:
    lines = markdown(rows(name), None).split("\n")
    assert len(lines) == 4
    for line in lines:
        # As GitHub reads it: a backslash takes the meaning of what follows.
        assert re.sub(r"\\.", "", line).count("|") == 3
        line.encode()
    assert not re.search(r"(?<!\\)[`\[<]", re.sub(r"\\\\", "", lines[2]))


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_latex_table_keeps_its_shape(name: str) -> None:
    lines = latex(rows(name), None).split("\n")
    assert len(lines) == 8
    for line in (lines[2], *lines[4:6]):
        line.encode()
        assert line.endswith(r" \\")
        bare = re.sub(r"\\[a-z]+|\\[&%$#_{}]|\$\\pm\$|[{}]", "", line.removesuffix(r" \\"))
        assert bare.count("&") == 1
        assert not set(bare.replace("$", "") if "pm" in bare else bare) & set("\\%#^~\x1b")


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_table_in_the_terminal_shows_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    stdout.print(rich_table(rows(name), name, [name]))
    assert "0.500" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*NAMES, "$\\frac$", "$", "$a$ and $b"], ids=ascii)
def test_a_figure_shows_names_as_they_are(name: str) -> None:
    curve = np.array([0.1, 0.2])
    lines_chart("title", "label", {name: curve, "other": curve[::-1]})
    picture_grid([Picture(PNG, name, name, name)], [name])


@pytest.mark.parametrize(
    "name", [*NAMES, "<script>alert(1)</script>", "\"' onerror='x'"], ids=ascii
)
def test_a_page_escapes_every_text(tmp_path: Path, name: str) -> None:
    table = Table((name, "b"), ((name, Cell(name, best=True)), (name, Cell(name, link=name))), name)
    section = Section(
        title=name,
        text=name,
        table=table,
        pictures=(Picture(PNG, f"picture of {name}", name, name, name),),
        keys=(Key(name, "#000000"),),
        note=name,
    )
    page = Page(
        title=name,
        verdict=name,
        lead=name,
        warnings=[name],
        sections=[section],
        details=[Details(name, name)],
    )
    path = write_page(tmp_path / "page.html", page)
    text = path.read_text()
    assert not set(text) & set("\x1b\u202e")
    for tag in ("<script", "<b>", "onerror='"):
        assert tag not in text
    checked(path)


@pytest.mark.parametrize("title", ["../../x", "x" * 400, "é" * 300, "\udcff"])
def test_a_picture_stays_in_its_folder(tmp_path: Path, title: str) -> None:
    section = Section("s", pictures=(Picture(PNG, "a", title),))
    (path,) = write_pictures(tmp_path / "figures", Page("t", "v", sections=[section]))
    assert path.parent == tmp_path / "figures"
    assert path.exists()


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "..", ".", "", "a/b", "a\\b", "a\nb", "x" * 300]
)
def test_a_recipe_has_a_name_that_a_folder_can_have(tmp_path: Path, name: str) -> None:
    loads = {
        ("phantoms", "segpref.studies"): load_recipe,
        ("lidc-small", "segpref.studies.ambiguity"): load_ambiguity_recipe,
        ("busi-small", "segpref.studies.prompted"): load_prompted,
    }
    for (recipe, package), load in loads.items():
        content = yaml.safe_load(recipe_file(recipe, package).read_text())
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**content, "name": name}))
        with pytest.raises(SegprefError, match=r"recipe\.yaml .*the recipe has the name"):
            load(path)


@pytest.mark.parametrize("name", ["..", ".", ""])
@pytest.mark.parametrize("what", ["bases", "judges", "methods"])
def test_what_a_recipe_names_stays_in_its_folder(what: str, name: str) -> None:
    recipe, _ = load_recipe("phantoms")
    known = getattr(recipe, what)
    with pytest.raises(SegprefError, match=f"among the recipe's {what}"):
        plan(replace(recipe, **{what: {**known, name: next(iter(known.values()))}}))
