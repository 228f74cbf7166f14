"""`moongate` as a program: what it prints, how it ends, what it keeps."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from moongate.testing import Backend, Exchange, Script
from tests.patience import second
from tests.proxy.talk import call, config, connected, event, initialize, modern_call, polite, result, run, until

START = 15.0


class Program:
    """A running `moongate serve`. `errors` is its standard error so far."""

    def __init__(self, process: subprocess.Popen[str], port: int, said: list[str], errors: Path) -> None:
        self.process = process
        self.port = port
        self.said = said
        self._errors = errors

    @property
    def errors(self) -> str:
        """The log so far."""
        return self._errors.read_text("utf-8")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self, seconds: float = 8.0) -> int:
        """Its exit code."""
        await until(lambda: self.process.poll() is not None, seconds)
        return self.process.returncode


def environment(**more: str) -> dict[str, str]:
    """This process's, without proxies and without what would change the gateway."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("MOONGATE")
    }
    return {**kept, **more}


def moongate(*arguments: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    command = [sys.executable, "-m", "moongate", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=START, env=environment(**more), cwd=cwd, check=False
    )


def _collect(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)


@contextmanager
def serving(folder: Path, text: str, *, env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """A gateway on a free port until the block ends."""
    file = folder / "gate.yaml"
    file.write_text(text, "utf-8")
    command = [
        sys.executable,
        "-m",
        "moongate",
        "serve",
        *("--no-console", "-f", str(file), "--port", "0"),
        *("--data-dir", str(folder / "data")),
    ]
    errors = folder / "errors.log"
    with (
        errors.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(**(env or {}))
        ) as process,
    ):
        assert process.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_collect, args=(process.stdout, lines))
        reader.start()
        said: list[str] = []
        try:
            deadline = time.monotonic() + START
            while not said or not said[-1].startswith("Listening on http://127"):
                said.append(lines.get(timeout=max(0.0, deadline - time.monotonic())))
            port = int(said[-1].rsplit(":", 1)[1])
            yield Program(process, port, said, errors)
        finally:
            process.kill()
            process.wait()
            reader.join()
            while not lines.empty():
                said.append(lines.get())


@asynccontextmanager
async def program(
    folder: Path,
    script: Script,
    *,
    env: Mapping[str, str] | None = None,
    **entry: Any,  # noqa: ANN401 - any JSON
) -> AsyncIterator[tuple[Program, Backend]]:
    """A program in front of a scripted backend."""
    async with Backend(script) as backend:
        with serving(folder, config(backend.url, **entry), env=env) as served:
            yield served, backend


def journal(folder: Path) -> list[dict[str, object]]:
    """The records on disk."""
    files = sorted((folder / "data" / "journal").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def test_the_start_lines_name_addresses_and_who_can_connect(tmp_path: Path) -> None:
    """Each address, each instance ready to copy, and how to open up."""

    async def story() -> None:
        async with program(tmp_path, polite) as (served, _), connected(served.port) as client:
            assert (await client.ask(call())).status == 200
        text = "".join(served.said)
        assert f"Listening on http://127.0.0.1:{served.port}\n" in text
        assert f"http://127.0.0.1:{served.port}/mcp/one" in text
        assert "--host" in text

    run(story())


def test_exit_codes_of_what_cannot_start(tmp_path: Path) -> None:
    """2: usage or configuration, with file and line. 3: port taken, unusable data directory, bad key."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(config("http://127.0.0.1:9/mcp"))
    bad.write_text("mcpServers:\n  one:\n    url: ftp://x\n    typ: sse\n")
    data = ("--data-dir", str(tmp_path / "data"))
    occupied = tmp_path / "file"
    occupied.write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases: list[tuple[tuple[str, ...], dict[str, str], int, str]] = [
            (("serve", "-f", str(bad), *data), {}, 2, "bad.yaml:4"),
            (("serve", "-f", str(tmp_path / "none.yaml"), *data), {}, 2, "none.yaml"),
            (("serve", "--no-console", *data), {}, 2, "-f FILE"),
            (("serve", "--moon"), {}, 2, "--moon"),
            (("serve", "-f", str(good), "--port", "x"), {}, 2, "port"),
            (("serve", "-f", str(good), "--port", "70000", *data), {}, 2, "70000"),
            (("serve", "-f", str(good), "--log-level", "loud"), {}, 2, "loud"),
            (("dance",), {}, 2, "dance"),
            (("serve", "-f", str(good), "--port", port, *data), {}, 3, port),
            (("serve", "-f", str(good), "--port", "0", "--data-dir", str(occupied)), {}, 3, "--data-dir"),
            (("serve", "-f", str(good), "--port", "0", "--data-dir", str(occupied / "below")), {}, 3, "--data-dir"),
            (
                ("serve", "-f", str(good), "--port", "0", "--data-dir", str(occupied)),
                {"MOONGATE_KEY": "ab" * 32},
                3,
                "--data-dir",
            ),
            (("serve", "-f", str(good), "--port", "0", *data), {"MOONGATE_KEY": "short-moon-key"}, 3, "MOONGATE_KEY"),
            (("serve", "-f", str(good), "--port", "0", *data), {"MOONGATE_KEY": ""}, 3, "MOONGATE_KEY"),
            (("check", str(bad)), {}, 2, "bad.yaml:4"),
        ]
        for arguments, env, code, text in cases:
            done = moongate(*arguments, cwd=tmp_path, **env)
            assert done.returncode == code, (arguments, done.stdout, done.stderr)
            assert text in done.stderr, (arguments, done.stderr)
            assert "Traceback" not in done.stderr
            assert "short-moon-key" not in done.stderr


def test_commands_that_say_something(tmp_path: Path) -> None:
    """check, schema, --version, help."""
    good = tmp_path / "good.yaml"
    good.write_text(config("http://127.0.0.1:9/mcp"))
    checked = moongate("check", str(good))
    assert (checked.returncode, "ok" in checked.stdout, "/mcp/one" in checked.stdout) == (0, True, True)
    assert json.loads(moongate("schema").stdout)["type"] == "object"
    version = moongate("--version")
    assert version.returncode == 0
    assert re.fullmatch(r"moongate \d+\.\d+\.\d+\S*( \(compiled\))?\n", version.stdout)
    for arguments in ((), ("--help",), ("serve", "--help")):
        shown = moongate(*arguments)
        assert "Usage" in shown.stdout + shown.stderr
        assert shown.returncode == (0 if arguments else 2)
    assert "serve" in moongate("--help").stdout


def test_the_key_is_made_once_and_kept(tmp_path: Path) -> None:
    """0600 in a 0700 directory; a session of the first run is good in the second."""

    async def story() -> None:
        async with program(tmp_path, polite) as (served, _), connected(served.port) as client:
            session = (await client.ask(initialize())).fields["mcp-session-id"]
        key = tmp_path / "data" / "key"
        first = key.read_bytes()
        assert key.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0
        async with program(tmp_path, polite) as (served, _), connected(served.port) as client:
            assert (await client.ask(call(), {"mcp-session-id": session})).status == 200
        assert key.read_bytes() == first

    run(story())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_calls_in_flight_finish(number: int, tmp_path: Path) -> None:
    """No new connections; the answer comes whole; a GET stream ends at once; exit code 0."""

    async def story() -> None:
        here, go = asyncio.Event(), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if exchange.seen.method == "GET":
                await exchange.stream()
                await exchange.gone()
                return
            here.set()
            await go.wait()
            await exchange.answer(result())

        async with program(tmp_path, script, gateway={"limits": {"drainTime": "5s"}}) as (served, _):
            async with (
                connected(served.port) as client,
                connected(served.port) as stream,
                connected(served.port) as idle,
            ):
                await stream.send(None, method="GET")
                head = await stream.head()
                await client.send(call())
                await here.wait()
                served.signal(number)
                assert (await stream.body(head)).body == b""
                assert await idle.closed()
                with pytest.raises(ConnectionRefusedError):
                    async with connected(served.port):
                        pass
                assert served.process.poll() is None
                go.set()
                answer = await client.answer()
                assert (answer.status, answer.body) == (200, result())
                assert await client.closed()
            assert await served.ended(3.0) == 0
        assert [record.get("phase", "") for record in journal(tmp_path)] == ["open", "close", ""]

    run(story())


def test_the_drain_has_a_limit(tmp_path: Path) -> None:
    """What does not finish within drainTime is cut; still recorded; exit code 0."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.gone()

        async with program(tmp_path, script, gateway={"limits": {"drainTime": "300ms"}}) as (served, backend):  # noqa: SIM117 - the port is known only inside
            async with connected(served.port) as client:
                await client.send(call())
                await until(lambda: bool(backend.seen))
                started = time.monotonic()
                served.signal(signal.SIGTERM)
                assert await served.ended(3.0) == 0
                assert time.monotonic() - started < 2.0
                await client.closed()
        assert [record["failure"] for record in journal(tmp_path)] == ["client_closed"]

    run(story())


def test_a_second_signal_cuts(tmp_path: Path) -> None:
    """The process ends at once, although a call is in flight."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.gone()

        async with program(tmp_path, script, gateway={"limits": {"drainTime": "60s"}}) as (served, backend):  # noqa: SIM117 - the port is known only inside
            async with connected(served.port) as client:
                await client.send(call())
                await until(lambda: bool(backend.seen))
                served.signal(signal.SIGTERM)
                await until(lambda: "stopping" in served.errors)
                await until(lambda: _refuses(served.port))
                served.signal(signal.SIGTERM)
                assert await served.ended(2.0) != 0

    run(story())


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return True
    return False


@pytest.mark.requirement("PM-15", "AG-06")
def test_hup_and_changed_files_reload(tmp_path: Path) -> None:
    """SIGHUP at once, a changed file by itself; a broken one keeps the old and says why, with file and line."""

    async def story() -> None:
        async with (
            program(tmp_path, polite, headers={"x-n": "0"}) as (served, backend),
            connected(served.port) as client,
        ):

            async def value() -> str:
                assert (await client.ask(call())).status == 200
                return backend.seen[-1].fields["x-n"]

            assert await value() == "0"
            file = tmp_path / "gate.yaml"
            file.write_text(config(backend.url, headers={"x-n": "1"}))
            served.signal(signal.SIGHUP)
            await until(lambda: served.errors.count("configuration reloaded") >= 1)
            assert await value() == "1"
            beside = tmp_path / "gate.new"
            beside.write_text(config(backend.url, headers={"x-n": "2"}))
            beside.replace(file)
            async with asyncio.timeout(3):
                while await value() != "2":
                    pass
            file.write_text("mcpServers:\n  one:\n    url: ftp://x\n")
            await until(lambda: "gate.yaml:3" in served.errors, 4.0)
            assert "the old one stays" in served.errors
            assert await value() == "2"

    run(story())


@pytest.mark.requirement("PM-42")
def test_a_token_that_was_taken_out_of_the_file_is_refused_within_a_second(tmp_path: Path) -> None:
    """Three times in a row, so that luck with the watcher's clock does not count."""
    alice, bob = {"name": "alice", "token": "alice-token"}, {"name": "bob", "token": "bob-token"}

    async def story() -> None:
        async with (
            program(tmp_path, polite, gateway={"tokens": [alice, bob]}) as (served, backend),
            connected(served.port) as client,
        ):
            for tokens, status in (([bob], 401), ([alice, bob], 200), ([bob], 401)):
                (tmp_path / "gate.yaml").write_text(config(backend.url, gateway={"tokens": tokens}))
                changed = time.monotonic()
                while (await client.ask(call(), {"x-api-key": "alice-token"})).status != status:
                    assert time.monotonic() - changed < second()
                    await asyncio.sleep(0.02)

    run(story())


@pytest.mark.parametrize("kind", ["json", "event stream", "refused", "failed"])
def test_kill_9_right_after_an_answer_loses_nothing(kind: str, tmp_path: Path) -> None:
    """The client has the answer's last byte; the process is killed; the record is there."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if kind == "event stream":
                await exchange.stream()
                await exchange.chunk(event(result()))
                await exchange.gone()
            elif kind == "failed":
                exchange.reset()
            else:
                await exchange.answer(result())

        async with program(tmp_path, script) as (served, _), connected(served.port) as client:
            body, headers = modern_call()
            ids: list[object] = []
            for _ in range(1 if kind in {"event stream", "refused"} else 20):
                await client.send(body, {**headers, "content-type": "text/x"} if kind == "refused" else headers)
                head = await client.head()
                ids.append(head.fields["x-request-id"])
                if kind == "event stream":
                    await client.text(b"}}\n\n")
                else:
                    await client.body(head)
            served.process.kill()
            assert [record["requestId"] for record in journal(tmp_path)] == ids
            assert await served.ended() == -signal.SIGKILL

    run(story())


@pytest.mark.requirement("PM-32")
def test_nothing_that_the_program_writes_holds_a_secret(tmp_path: Path) -> None:
    """Start lines, log at its most talkative, journal: neither the backend's credentials nor the clients'."""
    secrets = ["backend-token-1", "client-token-1", "url-password-1", "ab" * 32]

    async def story() -> None:
        async with Backend(polite) as backend:
            port = backend.port
            with serving(
                tmp_path,
                json.dumps(
                    {
                        "gateway": {"tokens": [{"name": "alice", "token": "${ALICE}"}]},
                        "mcpServers": {
                            "one": {"url": backend.url, "headers": {"Authorization": "Bearer ${BACKEND}"}},
                            "two": {"url": f"http://user:url-password-1@127.0.0.1:{port}/?token=backend-token-1"},
                        },
                    }
                ),
                env={"ALICE": "client-token-1", "BACKEND": "backend-token-1", "MOONGATE_KEY": "ab" * 32},
            ) as served:
                async with connected(served.port) as client:
                    for path in ("/mcp/one", "/mcp/two", "/mcp/none"):
                        for headers in ({"x-api-key": "client-token-1"}, {"authorization": "Basic client-token-1"}, {}):
                            await client.ask(call(), headers, path=f"{path}?token=client-token-1")
                served.signal(signal.SIGHUP)
                await until(lambda: "reloaded" in served.errors)
        written = "".join(served.said) + served.errors + json.dumps(journal(tmp_path))
        for secret in secrets:
            assert secret not in written
        assert not (tmp_path / "data" / "key").exists()

    run(story())


def test_it_takes_the_descriptors_that_the_system_grants(tmp_path: Path) -> None:
    """A low soft limit is raised as far as it may be: each connection and each hosted server needs some."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with serving(tmp_path, "mcpServers: {}") as program:
            soft = resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert soft == (65_536 if before[1] == resource.RLIM_INFINITY else min(65_536, before[1]))
