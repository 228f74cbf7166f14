"""What `make run` does: Moongate with an example server that it runs itself, and how to call a tool through it.

Ctrl-C (or SIGTERM, SIGHUP) ends both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
START_SECONDS = 30.0
SETTLE_SECONDS = 0.3
STOP_SECONDS = 15.0  # more than the gateway gives to calls that are in flight
REVISION = "2026-07-28"  # its calls need no session, so that one line can make one


class EndedError(Exception):
    """The gateway should be running and is not; the text says how it ended."""


async def stop(process: Process) -> None:
    """End a program, show what it said last, and leave nothing of it behind."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            rest, _ = await process.communicate()
            print(rest.decode(errors="replace"), end="", flush=True)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def running(*command: str | Path) -> AsyncIterator[Process]:
    """Run a program in a process group of its own, so that Ctrl-C reaches only us and we end things in order."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=DEVNULL, stdout=PIPE, limit=1 << 20, process_group=0
    )
    try:
        yield process
    finally:
        await stop(process)


async def relay(gateway: Process, until: re.Pattern[str] | None = None) -> str:
    """Pass its lines on until one matches and return what it holds; raise EndedError when the gateway ends."""
    assert gateway.stdout is not None
    async for line in gateway.stdout:
        text = line.decode(errors="replace")
        print(text, end="", flush=True)
        found = until.search(text) if until else None
        if found:
            return found[1]
    code = await gateway.wait()
    message = f"The gateway ended by itself with exit code {code}; its messages are above."
    raise EndedError(message)


async def address(gateway: Process) -> str:
    """Wait until it says where it listens."""
    async with asyncio.timeout(START_SECONDS):
        return await relay(gateway, re.compile(r"Listening on (https?://[^\s,;]+)"))


def call_command(url: str) -> str:
    """One shell line that calls the tool `add`; with Python where there is no curl."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "add", "arguments": {"a": 20, "b": 22}, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, separators=(",", ":"))
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": REVISION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "add",
    }
    if shutil.which("curl"):
        words = ["curl", "-sS", url]
        for name, value in headers.items():
            words += ["-H", f"{name}: {value}"]
        return shlex.join([*words, "-d", body])
    code = (
        f"import urllib.request as u;print(u.urlopen(u.Request({url!r},{body!r}.encode(),{headers!r})).read().decode())"
    )
    return shlex.join(["python3", "-c", code])


def card(url: str) -> str:
    """What a newcomer needs to see."""
    snippet = json.dumps({"mcpServers": {"example": {"type": "streamable-http", "url": url}}}, indent=2)
    return "\n\n".join(
        (
            f"\nMoongate is up. The address to give to an MCP client:\n  {url}",
            f"The same as a configuration snippet:\n{snippet}",
            f"To call a tool through it from another terminal:\n{call_command(url)}",
            "The gateway starts examples/server.py when it is needed. Ctrl-C ends everything.\n",
        )
    )


async def story(port: int) -> None:
    """Start the gateway, tell how to call, pass on what it says, until it ends or we are cancelled."""
    options = ("-f", "examples/moongate.yaml", "--port", str(port), "--data-dir", ".build/example")
    async with running(BIN / "moongate", "serve", *options) as gateway:
        front = await address(gateway)
        with contextlib.suppress(TimeoutError):  # what else it says at its start, so that ours comes last
            async with asyncio.timeout(SETTLE_SECONDS):
                await relay(gateway)
        print(card(f"{front.rstrip('/')}/mcp/example"), flush=True)
        await relay(gateway)


async def run(port: int) -> int:
    """Run the story with signals turned into an orderly end, and return the exit code."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    code = 1
    try:
        await story(port)
    except asyncio.CancelledError:
        print("\nEverything has ended.")
        code = 0
    except TimeoutError:
        print(f"It took longer than {START_SECONDS:.0f} seconds to start or to stop; it is ended.", file=sys.stderr)
    except EndedError as error:
        print(error, file=sys.stderr)
    return code


def is_free(port: int) -> bool:
    """Whether the gateway could listen on a loopback port."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="Moongate in front of an example server")
    parser.add_argument("--port", type=int, default=8000, help="the gateway's port; 0 takes any free one")
    port = parser.parse_args().port
    if not is_free(port):
        print(f"Port {port} is taken by another program (or not ours to take).", file=sys.stderr)
        print("Choose another one, for example: make run PORT=8080 (PORT=0 takes any free one)", file=sys.stderr)
        return 3
    return asyncio.run(run(port))


if __name__ == "__main__":
    sys.exit(main())
