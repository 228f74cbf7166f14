"""SIGKILL under load, at random moments: every call that a client saw answered has exactly one record afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from moongate.testing import Backend
from tests.cli.calling import Serving, serving
from tests.proxy.talk import call, config, connected, polite, run

CLIENTS = 6


async def calling(port: int, seen: list[str]) -> None:
    """Call until the gateway is gone; remember what was answered to the last byte."""
    with suppress(OSError, EOFError, TimeoutError):
        async with connected(port) as client:
            for number in range(100_000):
                answer = await client.ask(call(number))
                seen.append(answer.fields["x-request-id"])


def kill(gate: Serving, dice: random.Random) -> None:
    """The gateway, or first the process that moves its records, or that one alone a moment before."""
    process = gate.process.pid
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    targets = [[process], [*map(int, children), process], [process, *map(int, children)]]
    for target in dice.choice(targets):
        with suppress(ProcessLookupError):
            os.kill(target, signal.SIGKILL)


async def rounds(folder: Path, count: int, seed: int) -> Counter[str]:
    """So many gateways on one data directory, each killed under load. What their clients saw."""
    dice = random.Random(seed)
    seen: list[str] = []
    async with Backend(polite) as backend:
        for _ in range(count):
            before = len(seen)
            opened = serving(folder, config(backend.url))
            gate = await asyncio.to_thread(opened.__enter__)
            try:
                callers = [asyncio.ensure_future(calling(gate.port, seen)) for _ in range(CLIENTS)]  # noqa: TID251 - gathered below
                while len(seen) < before + 20:  # noqa: ASYNC110 - answers have no event
                    await asyncio.sleep(0.005)
                await asyncio.sleep(dice.random() * 0.6)
                kill(gate, dice)
                await asyncio.gather(*callers)
            finally:
                await asyncio.to_thread(opened.__exit__, None, None, None)
            assert len(seen) > before
    return Counter(seen)


def recorded(folder: Path) -> Counter[str]:
    """What is found of them afterwards, without any gateway."""
    command = [sys.executable, "-m", "moongate", "audit", "list", "--json", "--limit", "0"]
    done = subprocess.run(
        [*command, "--data-dir", str(folder / "data")], capture_output=True, text=True, check=True, timeout=60, cwd="/"
    )
    return Counter(json.loads(text)["requestId"] for text in done.stdout.splitlines())


def check(folder: Path, count: int, seed: int, limit: float) -> None:
    """Kill so often, then compare."""
    seen: Counter[str] = Counter()

    async def story() -> None:
        seen.update(await rounds(folder, count, seed))

    run(story(), limit=limit)
    found = recorded(folder)
    assert set(seen.values()) == {1}
    assert [request for request in seen if found[request] != 1] == []
    assert set(found.values()) == {1}
    verified = subprocess.run(
        [sys.executable, "-m", "moongate", "audit", "verify", "--json", "--data-dir", str(folder / "data")],
        capture_output=True,
        check=False,
        timeout=60,
        cwd="/",
    )
    assert json.loads(verified.stdout)["findings"] == []


@pytest.mark.requirement("PM-55")
def test_what_was_answered_is_recorded_once(tmp_path: Path) -> None:
    """Three times, on one data directory."""
    check(tmp_path, 3, seed=11, limit=50)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.requirement("PM-55")
def test_what_was_answered_is_recorded_once_fifty_times(tmp_path: Path) -> None:
    """Fifty times."""
    check(tmp_path, 50, seed=12, limit=560)
