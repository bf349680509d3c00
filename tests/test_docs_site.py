"""The documentation site builds without a warning, and its reference has every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from tools.docs_site import FROM_ROOT, relinked, tables_of

import segpref
from segpref.settings import described

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REPOSITORY = PROJECT["project"]["urls"]["Repository"]
PAGES = SimpleNamespace(src_uris={"guide.md": 0, "guide/slurm.md": 0, "changelog.md": 0})
NAMED = [
    name
    for page in sorted((DOCS / "api").glob("*.md"))
    for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
]


def test_the_reference_has_every_public_name_once() -> None:
    named = [one.rpartition(".")[2] for one in NAMED]
    assert len(named) == len(set(named))
    assert set(segpref.__all__) <= set(named)


@pytest.mark.parametrize("kind", [segpref.FitConfig, segpref.AlignConfig])
def test_the_tables_of_settings_have_every_setting_with_its_default(kind: type) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", tables_of(kind), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(described(kind))
    epochs = kind().epochs  # AlignConfig has the default of its base, FitConfig one of its own
    assert dict(rows)["epochs"] == f"`{epochs}`"


@pytest.mark.parametrize(
    ("where", "link", "there"),
    [
        ("guide/slurm.md", "../guide.md#a", "../guide.md#a"),
        ("guide.md", "../CHANGELOG.md", "changelog.md"),
        ("guide/slurm.md", "../../CHANGELOG.md", "../changelog.md"),
        ("changelog.md", "docs/guide/slurm.md", "guide/slurm.md"),
        ("guide.md", "../Makefile", f"{REPOSITORY}/blob/main/Makefile"),
        ("changelog.md", "src/segpref", f"{REPOSITORY}/tree/main/src/segpref"),
        ("guide.md", "nowhere.md", "nowhere.md"),
        ("guide.md", "#part", "#part"),
        ("guide.md", "https://example.org/a", "https://example.org/a"),
    ],
)
def test_links_lead_to_the_page_or_the_repository(where: str, link: str, there: str) -> None:
    source = FROM_ROOT.get(where, f"docs/{where}")
    assert relinked(f"a [b]({link}) c", where, source, REPOSITORY, PAGES) == f"a [b]({there}) c"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    # Not --quiet: what is not logged does not count for --strict.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", out]
    quiet = {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
def test_the_site_builds_and_every_name_says_what_it_is(site: Path) -> None:
    text = "".join(page.read_text() for page in (site / "api").rglob("index.html"))
    for name in NAMED:
        (found,) = re.findall(rf'id="{name}".*?doc-contents[^>]*>(.*?)</div>', text, re.DOTALL)
        assert len(re.sub("<.*?>", "", found).strip()) > 10, name
    assert ":class:" not in text


@pytest.mark.slow
def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    fetched = re.compile(r'<(?:script|img|iframe)[^>]+src="?http|rel="?stylesheet"?[^>]+http')
    for page in site.rglob("*.html"):
        assert not fetched.search(page.read_text()), page
