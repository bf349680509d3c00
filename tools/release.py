"""What has to hold before a version is tagged and uploaded: ``make release``, which does neither.

CONTRIBUTING.md, "Releases", has the steps around it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGETS = ("check-static", "test", "test-nnunet", "docs", "dist")
SOURCES = ("src", "tests", "pyproject.toml", "constraints.txt")
"""What `make test-long` depends on: it counts for a later commit only if these are as they were."""


VERSION = "src/segpref/version.py"


def _version(root: Path) -> str:
    """The version that the sources have."""
    found = re.search(r'^__version__ = "(\S+)"$', (root / VERSION).read_text(), re.MULTILINE)
    if found is None:
        sys.exit(f'{VERSION} has no line __version__ = "...".')
    return found[1]


def faults(root: Path) -> list[str]:
    """What is wrong in a checkout, a sentence each; none where the version may be built."""
    version = _version(root)
    found = []
    if _git(root, "status", "--porcelain"):
        found.append("The working tree is not clean: commit or remove what `git status` lists.")
    if _git(root, "tag", "--list", f"v{version}"):
        found.append(f"The tag v{version} exists: raise it in {VERSION}.")
    cited = re.search(r"^version: *(\S+)", (root / "CITATION.cff").read_text(), re.MULTILINE)
    if cited is None or cited[1] != version:
        found.append(f"CITATION.cff has not version {version}.")
    section = _section((root / "CHANGELOG.md").read_text(), version)
    if section is None:
        found.append(f"CHANGELOG.md needs a heading `## {version} - YYYY-MM-DD` as its first.")
    else:
        found += _long_tests(root, section)
    return found


def _section(changelog: str, version: str) -> str | None:
    """The text of the newest version, if it is this one with its date."""
    _, *sections = re.split(r"^## ", changelog, flags=re.MULTILINE)
    heading = rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d\n"
    return sections[0] if sections and re.match(heading, sections[0]) else None


def _long_tests(root: Path, section: str) -> list[str]:
    recorded = re.search(r"`make test-long` at `([0-9a-f]{7,40})`", section)
    if recorded is None:
        return ["CHANGELOG.md has no result of `make test-long` at a commit for this version."]
    try:
        changed = _git(root, "diff", "--name-only", recorded[1], "HEAD", "--", *SOURCES)
    except subprocess.CalledProcessError:
        return [f"The commit {recorded[1]} of `make test-long` is not in this repository."]
    # What a release itself changes there is the number of the version.
    changed = "\n".join(one for one in changed.splitlines() if one != VERSION)
    if changed:
        return [f"`make test-long` ran at {recorded[1]}; since then there changed:\n{changed}"]
    return []


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Refuse what is not ready, run every check, and print what is left to do by hand."""
    if found := faults(ROOT):
        sys.exit("\n".join(found))
    subprocess.run(["make", *TARGETS], cwd=ROOT, check=True)
    version = _version(ROOT)
    print(f"Ready. By hand:\n  git tag -a v{version} -m {version}\n  git push origin v{version}")
    print("  .venv/bin/twine upload dist/*")


if __name__ == "__main__":
    main()
