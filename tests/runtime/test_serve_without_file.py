"""`moongate serve` with one server on the command line: it works at once, and says how to use it."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from typer.testing import CliRunner

from moongate.cli.main import app
from moongate.control.compile import compile_documents
from moongate.control.files import load_texts
from moongate.testing import Backend
from tests.proxy.talk import call, connected, initialize, modern_call, polite, run, until
from tests.runtime.test_serve import START, Program, environment, moongate

LAST = ("Only this machine", "Everyone who reaches")
SERVER = """
import json, os, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "initialize":
        revision = message["params"]["protocolVersion"]
        result = {"protocolVersion": revision, "capabilities": {}, "serverInfo": {"name": "tide", "version": "1"}}
    else:
        result = {"words": sys.argv[1:], "key": "MOONGATE_KEY" in os.environ}
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


def _collect(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))


@contextmanager
def started(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """A gateway on a free port; `said` is all that it prints at its start."""
    fixed = ("--port", "0", "--data-dir", str(folder / "data"))
    command = [sys.executable, "-m", "moongate", "serve", *fixed, *words]
    errors = folder / "errors.log"
    with (
        errors.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(**(env or {})), cwd=folder
        ) as process,
    ):
        assert process.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_collect, args=(process.stdout, lines))
        reader.start()
        said: list[str] = []
        try:
            deadline = time.monotonic() + START
            while not said or not said[-1].startswith(LAST):
                said.append(lines.get(timeout=max(0.0, deadline - time.monotonic())))
            yield Program(process, int(said[0].rsplit(":", 1)[1]), said, errors)
        finally:
            process.terminate()
            process.wait(START)
            reader.join()


def snippet(program: Program) -> dict[str, Any]:
    """The `mcpServers` block that it has printed."""
    text = "\n".join(program.said)
    found = json.loads(text[text.index("{\n") : text.index("\n}") + 2])["mcpServers"]
    assert isinstance(found, dict)
    return found


def test_an_address_is_served_at_once(tmp_path: Path) -> None:
    """What is printed is what a client needs: address, snippet and command; the header goes to the server alone."""

    async def story() -> None:
        async with Backend(polite) as backend:
            header = ("--header", "Authorization: Bearer ${TIDE_TOKEN}")
            with started(tmp_path, backend.url, *header, env={"TIDE_TOKEN": "hush-hush"}) as program:
                base = f"http://127.0.0.1:{program.port}"

                assert snippet(program) == {"server": {"type": "streamable-http", "url": f"{base}/mcp"}}
                assert f"  {base}/mcp" in program.said
                assert f"  claude mcp add --transport http server {base}/mcp" in program.said
                async with connected(program.port) as client:
                    body, headers = modern_call()
                    answer = await client.ask(body, headers, path="/mcp")

                    assert answer.status == 200
                    assert backend.seen[-1].fields["authorization"] == "Bearer hush-hush"
                    assert backend.seen[-1].target == "/mcp"
                    assert (await client.ask(body, headers, path="/mcp/server")).status == 404
                assert "hush" not in "".join(program.said) + program.errors

    run(story())


@pytest.mark.requirement("AG-11")
def test_a_command_is_served_at_once(tmp_path: Path) -> None:
    """Its words reach it as they are, also those that look like options of the gateway."""
    words = ("two words", "--port", "7", "--", "${HOME}", "*")
    (tmp_path / "mcp_server_tide.py").write_text(SERVER, "utf-8")

    async def story() -> None:
        with started(
            tmp_path, "--", sys.executable, "mcp_server_tide.py", *words, env={"MOONGATE_KEY": "00" * 32}
        ) as program:
            assert list(snippet(program)) == ["tide"]
            async with connected(program.port) as client:
                opened = await client.ask(initialize(), path="/mcp")
                session = {"mcp-session-id": opened.fields["mcp-session-id"]}
                answer = await client.ask(call(7), session, path="/mcp")

                assert answer.message["result"] == {"words": list(words), "key": False}

    run(story())


def test_older_clients_find_it_at_the_root(tmp_path: Path) -> None:
    """`/sse` opens a stream whose endpoint is below the root too."""

    async def story() -> None:
        async with Backend(polite) as backend:
            with started(tmp_path, backend.url) as program:
                async with connected(program.port) as client:
                    await client.send(method="GET", path="/sse")
                    head = await client.head()

                    assert (head.status, head.fields["content-type"]) == (200, "text/event-stream")
                    assert b"data: /messages?" in await client.text(b"\n\n")
                    assert any(f"127.0.0.1:{program.port}/sse" in line for line in program.said)

    run(story())


def test_it_survives_a_reload(tmp_path: Path) -> None:
    """There is no file to read again; SIGHUP changes nothing."""

    async def story() -> None:
        async with Backend(polite) as backend:
            with started(tmp_path, backend.url) as program:
                program.signal(signal.SIGHUP)
                await until(lambda: "reloaded" in program.errors)
                async with connected(program.port) as client:
                    body, headers = modern_call()

                    assert (await client.ask(body, headers, path="/mcp")).status == 200
                program.signal(signal.SIGTERM)

                assert await program.ended() == 0

    run(story())


@pytest.mark.requirement("AG-16")
def test_a_program_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    """As a warning: it may still be installed."""

    async def story() -> None:
        with started(tmp_path, "--", "no-such-program", "--token", "hush") as program:
            await until(lambda: "is not found on the PATH" in program.errors)

            assert "command line: no-such-program: the program 'no-such-program' is not found" in program.errors
            assert "hush" not in program.errors + "".join(program.said)

    run(story())


def test_who_is_let_in_is_said(tmp_path: Path) -> None:
    """Beyond this machine there are no tokens without a file."""
    with started(tmp_path, "http://127.0.0.1:9/mcp", "--host", "0.0.0.0") as program:
        assert program.said[-1].startswith("Everyone who reaches this machine can call the server.")


URL = "http://127.0.0.1:9/mcp"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("uvx", "mcp-server-time"), "To run a command, write -- in front of it: moongate serve -- uvx ..."),
        (("--port", "0", "uvx", "--port", "1"), "To run a command, write -- in front of it"),
        (("uvx", "server", "--token", "hush"), "To run a command, write -- in front of it"),
        (("localhost:9000/mcp",), "is not an address, which begins with http:// or https://"),
        ((URL, URL), "several servers stand in a file"),
        ((URL, "--", "uvx", "x"), "one address, or -- and a command"),
        (("--",), "after -- a command is expected"),
        (("--header", "X-A: hush", "--", "uvx", "x"), "--header: goes with an address"),
        (("--transport", "sse", "--", "uvx", "x"), "--transport: goes with an address"),
        (("--header", "X-A: hush"), "--header: goes with an address"),
        (("--transport", "carrier-pigeon", URL), "is not one of auto, streamable-http, sse"),
        (("-f", "gate.yaml", URL), "either files, or one server on the command line"),
        (("-f", "gate.yaml", "--", "uvx"), "either files, or one server on the command line"),
    ],
)
def test_words_that_do_not_fit_together_are_refused(words: tuple[str, ...], said: str) -> None:
    """With exit code 2, before anything is started, and with what to write instead."""
    ended = CliRunner().invoke(app, ["serve", *words], env={"COLUMNS": "400", "NO_COLOR": "1"})

    assert ended.exit_code == 2
    assert said in ended.output.replace("\n", " ")
    assert "hush" not in ended.output


def test_what_cannot_be_served_is_told_in_words_of_the_command_line(tmp_path: Path) -> None:
    """All of it at once, with exit code 2."""
    ended = moongate("serve", "http://127.0.0.1:port/", "--header", "hush", "--header", "X-A: ${HUSH}", cwd=tmp_path)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert [line.split(";")[0].split(",")[0] for line in ended.stderr.splitlines()] == [
        "command line: ${HUSH}: this environment variable is not set",
        "command line: url: the port must be a number from 1 to 65535",
        "--header: must be a name",
    ]
    assert "hush" not in ended.stderr


def test_without_anything_to_serve_the_one_line_starts_are_named(tmp_path: Path) -> None:
    """Beside the file; what is shown as one can be used as it is."""
    ended = moongate("serve", "--no-console", "--data-dir", str(tmp_path / "data"), cwd=tmp_path)
    example = ended.stderr[ended.stderr.index("mcpServers:") :]

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "moongate serve -- uvx mcp-server-time" in ended.stderr
    assert "moongate serve https://example.com/mcp --header 'Authorization: Bearer ${TOKEN}'" in ended.stderr
    assert compile_documents(load_texts([("moongate.yaml", example)], {})).warnings == ()
