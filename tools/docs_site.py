"""What the documentation site needs beyond docs/: pages of the root, links, tables of settings.

Pages link to files as they lie in the repository, so that links work there, too. Here a link to a page
of the site becomes a link to that page, and a link to any other file one to the public repository,
whose address pyproject.toml has. A line ``{settings of CLASS}`` becomes tables of what its fields mean.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import segpref
from segpref.settings import Settings, described

ROOT = Path(__file__).parents[1]
FROM_ROOT = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
"""Pages of the site by the file of the repository that they show."""
SETTINGS = re.compile(r"^\{settings of (\w+)\}$", re.MULTILINE)
BOUNDS = {"least": "≥", "above": ">", "most": "≤", "below": "<"}
ROLE = re.compile(r":[a-z]+:<code>~?")
LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)#\s]+)(#[^)\s]*)?(?=\))")


def on_config(config: Any) -> Any:
    """Read the address of the repository, which is written down in pyproject.toml alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # Not as repo_url: with that, every visitor's browser would ask GitHub for the number of stars.
    icon = {"icon": "material/source-branch", "name": "Repository"}
    config.extra["social"] = [icon | {"link": project["urls"]["Repository"]}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the repository's root."""
    from mkdocs.structure.files import File

    for page, source in FROM_ROOT.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead the links of a page to where their targets are on the site, or in the repository."""
    where = page.file.src_uri
    markdown = SETTINGS.sub(lambda line: tables_of(getattr(segpref, line[1])), markdown)
    (repository,) = (one["link"] for one in config.extra["social"])
    return relinked(markdown, where, FROM_ROOT.get(where, f"docs/{where}"), repository, files)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Show the roles in docstrings as code, and keep a number and its spread in one line."""
    return ROLE.sub("<code>", html).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def relinked(markdown: str, where: str, source: str, repository: str, pages: Any) -> str:
    """A page whose links hold on the site.

    Args:
        markdown: the text.
        where: the page's own place on the site.
        source: the file of the repository that it shows.
        repository: the address of the public repository.
        pages: what has ``src_uris``, the places on the site.
    """
    shown = {root: page for page, root in FROM_ROOT.items()}

    def moved(link: re.Match[str]) -> str:
        start, target, anchor = link[1], link[2], link[3] or ""
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = shown.get(file, file.removeprefix("docs/") if file.startswith("docs/") else None)
        if place in pages.src_uris:
            there = posixpath.relpath(place, posixpath.dirname(where) or ".")
            return f"{start}{there}{anchor}"
        if (ROOT / file).exists():
            kind = "tree" if (ROOT / file).is_dir() else "blob"
            return f"{start}{repository}/{kind}/main/{file}{anchor}"
        return link[0]  # leads nowhere: a strict build says so

    return LINK.sub(moved, markdown)


def tables_of(kind: type[Settings]) -> str:
    """The settings of a class: a table for each class that declares some of them, its own first."""
    meaning = described(kind)
    here = {one.name: one for one in fields(kind)}
    text = []
    for base in kind.__mro__:
        inherited = {name for one in base.__mro__[1:] for name in _names(one)}
        rows = [_row(here[one], meaning[one]) for one in _names(base) if one not in inherited]
        if rows:
            title = (base.__doc__ or "").partition("\n")[0].rstrip(".")
            heading = [] if base is kind else [f"**{title}**", ""]
            text += [*heading, "| setting | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(text)


def _names(kind: type) -> list[str]:
    return [one.name for one in fields(kind)] if issubclass(kind, Settings) else []


def _row(one: Field[Any], meaning: str) -> str:
    default = "–" if one.default is None else f"`{one.default}`"
    bounds = ", ".join(f"{BOUNDS[name]} {bound:g}" for name, bound in one.metadata.items())
    told = " ".join(meaning.split()).replace("|", "\\|")
    return f"| `{one.name}` | {default} | {told}{f' ({bounds})' if bounds else ''} |"
