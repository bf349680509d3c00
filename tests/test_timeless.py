"""No test may depend on how fast the machine is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ALLOWED = {"conftest.py", "test_timeless.py", "waiting.py", "web/voters.py"}
"""Where the profile is, this file, the one place where a test waits for another process, and a client
that tries again while its server is down, and whose times a benchmark reads."""

HOW = {
    r"deadline\s*=": "the profile in tests/conftest.py has no deadline: leave it to that",
    r"\bsleep\(|signal\.alarm": "wait for what has to happen (tests/waiting.py), not for a time",
    r"timeout\w*\s*=\s*\d|default_timeout\(\d": (
        "take waiting.FAILED_S, beyond which a test has failed on any machine"
    ),
    r"perf_counter|process_time": "speed belongs into benchmarks/",
}


@pytest.mark.parametrize("pattern", HOW, ids=["deadline", "sleep", "timeout", "speed"])
def test_no_test_depends_on_time(pattern: str) -> None:
    found = [
        f"{path.relative_to(TESTS)}:{number}: {line.strip()}: {HOW[pattern]}"
        for path in sorted(TESTS.rglob("*.py"))
        if str(path.relative_to(TESTS)) not in ALLOWED
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert not found, "\n".join(found)
