"""A PostgreSQL server of the tests' own, in a temporary folder, reached by a socket."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from waiting import until

REQUIRED = "SEGPREF_REQUIRE_POSTGRESQL"
"""With 1 in this variable of the environment, tests fail where PostgreSQL is missing."""

_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_NEEDED = ("initdb", "pg_isready", "postgres", "psql")
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",  # the server itself is not killed here
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "200",
}


class PostgresqlCluster:
    """A running server, with empty databases for those who ask."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._numbers = itertools.count()

    def url(self, database: str = "postgres", user: str = "segpref") -> str:
        """Where a database is, for :class:`segpref.collect.VoteStore`."""
        return f"postgresql://{user}@/{database}?host={self.folder}"

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """The URL of a database that is dropped afterwards."""
        name = f"votes_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser."""
        command = [
            "psql",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            str(self.folder),
            "-U",
            "segpref",
        ]
        command[0] = str(self._programs / command[0])
        done = subprocess.run(
            [*command, "-d", database, "-c", statement], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def _programs() -> Path | None:
    """The folder of all its programs, some of which may have links elsewhere."""
    found = [Path(path).resolve().parent for path in [shutil.which("postgres")] if path]
    for pattern in _PLACES:
        found += sorted(Path("/").glob(pattern[1:]), reverse=True)
    return next((one for one in found if all((one / name).exists() for name in _NEEDED)), None)


def _as_another_user() -> list[str]:
    """PostgreSQL does not run as root; and it ends with the tests, however they end."""
    if not shutil.which("setpriv"):
        return []
    user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    return ["setpriv", "--pdeathsig=INT", *user]


@contextmanager
def running_cluster() -> Iterator[PostgresqlCluster]:
    """Start a server and stop it afterwards; skip the test where there is no PostgreSQL."""
    programs = _programs()
    if programs is None:
        says = "PostgreSQL is not installed here (apt-get install postgresql)"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{says}, and {REQUIRED}=1 asks for it")
        pytest.skip(says)
    folder = Path(tempfile.mkdtemp(prefix="votes-"))
    server: subprocess.Popen[bytes] | None = None
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        folder.chmod(0o755)
        data = folder / "data"
        as_user = _as_another_user()
        made = subprocess.run(
            [*as_user, str(programs / "initdb"), "-D", str(data), "-U", "segpref", "-A", "trust",
             "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        settings = {**_SETTINGS, "unix_socket_directories": str(folder)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log = folder / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [*as_user, str(programs / "postgres"), "-D", str(data), *options],
                cwd=folder, stdout=output, stderr=output,
            )  # fmt: skip
        ready = [str(programs / "pg_isready"), "-q", "-h", str(folder)]

        def answers() -> bool:
            assert server is not None
            assert server.poll() is None, log.read_text()
            return subprocess.run(ready, check=False).returncode == 0

        until(answers)
        yield PostgresqlCluster(folder, programs)
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # it ends connections, then itself
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)
