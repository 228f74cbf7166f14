"""One gateway with its API for all tests here, an account and keys of each role."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from moongate.console.guard import COOKIE
from tests.platform.stage import PASSWORD, free_port
from tests.runtime.test_serve import environment

ROLES = ("admin", "operator", "auditor")
START = 40.0


@dataclass
class Api:
    """A running admin API. `keys` and `sessions` by role."""

    base: str
    folder: Path
    port: int
    keys: dict[str, str] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)

    def client(self, role: str | None = None, **headers: str) -> httpx.Client:
        """A client with a role's key (None: with nothing)."""
        if role is not None:
            headers["authorization"] = f"Bearer {self.keys[role]}"
        return httpx.Client(base_url=self.base, headers=headers, timeout=20, trust_env=False)

    @contextmanager
    def signed_in(self, role: str = "auditor") -> Iterator[httpx.Client]:
        """A browser in which somebody with this role has signed in, by the form of the page."""
        if role not in self.sessions:
            self.sessions[role] = self.enter(f"person-{role}", role)
        with self.client(origin=self.base) as browser:
            for path in ("/api/v1", "/console"):
                browser.cookies.set(COOKIE, self.sessions[role], "127.0.0.1", path)
            yield browser

    def enter(self, name: str, role: str) -> str:
        """Make an account, and sign in with it; the session."""
        with self.client("admin") as admin:
            made = admin.post("/api/v1/operators", json={"name": name, "role": role, "password": PASSWORD})
            assert made.status_code == 201, made.text
        with self.client(origin=self.base) as browser:
            entered = browser.post("/sign-in", data={"name": name, "password": PASSWORD})
            assert (entered.status_code, entered.headers["location"]) == (303, "/console"), entered.text
            return next(cookie.value or "" for cookie in browser.cookies.jar)

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Method, path and description of all there are."""
        for path, found in self.document["paths"].items():
            for method, operation in found.items():
                yield method, path, operation


def _wait_for(file: Path, wanted: str, process: subprocess.Popen[bytes]) -> str:
    """What follows `wanted` in the file, as soon as it is there."""
    until = time.monotonic() + START
    while time.monotonic() < until and process.poll() is None:
        for line in file.read_text("utf-8").splitlines():
            if wanted in line:
                return line.partition(wanted)[2].strip()
        with_patience(process)
    raise AssertionError(f"no {wanted!r}: {file.read_text('utf-8')}")


def with_patience(process: subprocess.Popen[bytes]) -> None:
    """A moment, or until the process has ended."""
    try:
        process.wait(0.02)
    except subprocess.TimeoutExpired:
        return


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The gateway, with one instance of a file."""
    with running(tmp_path_factory.mktemp("console")) as found:
        yield found


@contextmanager
def running(folder: Path) -> Iterator[Api]:
    """A gateway of one's own in a folder."""
    file = folder / "gate.json"
    servers = {"filed": {"url": "http://127.0.0.1:9/mcp", "headers": {"X-Key": "key-" + "f" * 12}}}
    file.write_text(json.dumps({"console": {"port": free_port()}, "mcpServers": servers}), "utf-8")
    words = ["-f", str(file), "--port", "0", "--data-dir", str(folder / "data")]
    said = folder / "said.log"
    with (
        said.open("wb") as out,
        subprocess.Popen(
            [sys.executable, "-m", "moongate", "serve", *words], stdout=out, stderr=subprocess.STDOUT, env=environment()
        ) as process,
    ):
        try:
            base = _wait_for(said, "Console on ", process)
            code = _wait_for(said, "/sign-in#code=", process)
            port = int(_wait_for(said, "Listening on http://127.0.0.1:", process))
            found = Api(base, folder, port)
            with found.client(origin=base) as browser:
                body = {"code": code, "name": "first", "password": PASSWORD}
                assert browser.post("/api/v1/sign-in", json=body).status_code == 200
                for role in ROLES:
                    made = browser.post("/api/v1/api-keys", json={"name": role, "role": role})
                    found.keys[role] = made.json()["value"]
                found.document = browser.get("/api/v1/openapi.json").json()
            yield found
        finally:
            process.terminate()
            process.wait(20)
