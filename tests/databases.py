"""The databases that tests run on: SQLite in a directory, and a real PostgreSQL that lives for the test run.

The server is Debian's, started in a temporary directory as a user that is not root, without fsync, and ends with the
tests (also when these are killed). Each test gets a database of its own.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

USER = "moongate"
START_SECONDS = 30
_PROGRAMS = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class Database:
    """Where a test keeps its store: what `open_store` is given. `server` is None for SQLite."""

    url: str | None
    data_dir: Path
    server: PostgreSQL | None = None


class PostgreSQL:
    """One server on a loopback port; `stop` and `start` play one that is away for a while."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self._directory = directory
        self.password = "pw-" + secrets.token_hex(8)
        self._identity = _somebody() if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    @property
    def pid(self) -> int:
        """Of its first process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def initialise(self) -> None:
        """Makes the cluster."""
        given = self._directory / "password"
        given.write_text(self.password)
        if self._identity is not None:
            for path in (self._directory, given):
                os.chown(path, *self._identity)
        self._run(
            "initdb",
            *("--pgdata", str(self._directory / "data"), "--username", USER, "--pwfile", str(given), "--no-sync"),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"),
        )

    def start(self) -> None:
        """Starts the server and waits until it answers. Not in a thread: the server ends with the one it came from."""
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._directory),
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "shared_buffers": "32MB",
            "max_connections": "60",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", str(self._directory / "data"), *options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
            )
        deadline = time.monotonic() + START_SECONDS
        while self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-q", check=False):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._directory / "log").read_text(errors="replace"))
            with socket.socket() as pause:  # a short wait that a signal ends
                pause.settimeout(0.05)
                pause.bind(("127.0.0.1", 0))
                pause.listen()
                with pytest.raises(TimeoutError):
                    pause.accept()

    def stop(self) -> None:
        """Ends the server at once; connections break."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(10)

    def new_database(self) -> str:
        """The URL of a fresh database."""
        name = f"test{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name}", "postgres")
        return self.url(name)

    def url(self, database: str) -> str:
        """The address of a database as operators write it."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str) -> str:
        """What psql prints for one statement."""
        found = subprocess.run(
            [self._programs / "psql", "-XAtqc", statement, self.url(database)],
            check=True,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        return found.stdout

    def dump(self, url: str) -> bytes:
        """Everything in a database, as text."""
        found = subprocess.run([self._programs / "pg_dump", url], check=True, capture_output=True, timeout=60)
        return found.stdout

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(
            self._command(program, *arguments), check=False, capture_output=True, timeout=60, cwd=self._directory
        )
        if check and done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace"))
        return done.returncode

    def _command(self, program: str, *arguments: str) -> list[str]:
        become = ["setpriv", "--pdeathsig", "INT"]
        if self._identity is not None:
            user, group = self._identity
            become += ["--reuid", str(user), "--regid", str(group), "--clear-groups"]
        return [*become, str(self._programs / program), *arguments]


def _somebody() -> tuple[int, int]:
    """A user that is not root: the server refuses to run as root."""
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return found.pw_uid, found.pw_gid
    raise LookupError("there is no user postgres or nobody to run the server as")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A running PostgreSQL server, one for the whole test run."""
    found = sorted(_PROGRAMS.glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        pytest.fail("PostgreSQL is missing: scripts/bootstrap.sh installs Debian's package")
    # Not below pytest's own directory, which other users may not enter.
    directory = Path(tempfile.mkdtemp(prefix="moongate-pg-"))
    server = PostgreSQL(found[-1], directory)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A fresh database: the same test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return Database(None, tmp_path / "data")
    server = request.getfixturevalue("postgresql")
    assert isinstance(server, PostgreSQL)
    return Database(server.new_database(), tmp_path / "data", server)
