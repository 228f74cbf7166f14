"""A Prometheus that watches itself, prometheus-mcp-server, and a `docker` for machines that have none."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.hosted.household import BIN
from tests.peers import programs

SERVER = BIN / "prometheus-mcp-server"
UNPACKED = programs.ROOT / ".build" / "prometheus" / "usr" / "bin" / "prometheus"
PRINTED = "http://192.168.1.74:9090"
PRINTED_IMAGE = "ghcr.io/pab1it0/prometheus-mcp-server:latest"
QUIET = {"FASTMCP_CHECK_FOR_UPDATES": "off", "FASTMCP_SHOW_SERVER_BANNER": "false"}
_START_SECONDS = 30.0
_CONFIG = {
    "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
    "scrape_configs": [{"job_name": "itself", "static_configs": [{"targets": []}]}],
}


def absent() -> str | None:
    """What is missing; None if nothing is."""
    if not SERVER.exists():
        return f"{SERVER.relative_to(programs.ROOT)} does not exist; `make test` installs it"
    if _program() is None:
        return "there is no Prometheus; on Debian: apt-get install prometheus"
    return None


def _program() -> str | None:
    return shutil.which("prometheus") or (str(UNPACKED) if UNPACKED.exists() else None)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """A Prometheus that has measured itself at least once; yields its address."""
    program = _program()
    assert program is not None
    address = f"127.0.0.1:{free_port()}"
    config: dict[str, Any] = json.loads(json.dumps(_CONFIG))
    config["scrape_configs"][0]["static_configs"][0]["targets"].append(address)
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config))  # JSON is YAML
    argv = [
        program,
        f"--config.file={file}",
        f"--web.listen-address={address}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
    ]
    with (
        (folder / "prometheus.log").open("w") as log,
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder) as process,
    ):
        try:
            _await_figures(f"http://{address}", process, folder / "prometheus.log")
            yield f"http://{address}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _await_figures(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Nothing announces the first figures; ask until they are there."""
    deadline = time.monotonic() + _START_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                answer = client.get(f"{address}/api/v1/query", params={"query": "up"}).json()
            except (httpx.TransportError, ValueError):
                answer = {}
            if answer.get("data", {}).get("result"):
                return
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
    raise AssertionError(f"Prometheus had nothing to tell within {_START_SECONDS:g} s:\n{log.read_text()}")


def stand_in_docker(folder: Path, address: str) -> Path:
    """Make a `docker` that runs the server itself, with `address` instead of the printed one. Gives its directory.

    What it was started with is appended to the file `docker.log` in that directory, one line of JSON for each start.
    """
    place = folder / "bin"
    place.mkdir()
    program = place / "docker"
    program.write_text(
        f"""#!{shlex.quote(os.path.realpath(BIN / "python"))}
import json, os, sys
with open({str(place / "docker.log")!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
assert sys.argv[1:5] == ["run", "-i", "--rm", "-e"], sys.argv
name, value = sys.argv[5].split("=", 1)
os.environ |= {{name: value.replace({PRINTED!r}, {address!r}), **{QUIET!r}}}
os.execv({str(SERVER)!r}, [{str(SERVER)!r}])
"""
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return place


def starts(place: Path) -> list[list[str]]:
    """With what the stand-in was started, start by start."""
    return [json.loads(line) for line in (place / "docker.log").read_text().splitlines()]
