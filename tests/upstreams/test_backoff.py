"""A command that cannot start is not tried at every call; one that works again is not punished."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import Command
from tests.proxy.talk import run
from tests.upstreams.hosted import Ear, hosting, opener


def test_a_command_that_cannot_start_is_not_tried_at_every_call() -> None:
    """The waits double; a long one is not waited for but refused at once, with the reason and the time."""

    async def story() -> None:
        async with hosting() as processes:
            opening = opener(processes, Command("ghost", ("no-such-program-hush",)))
            for _ in range(3):
                with pytest.raises(UpstreamError, match="was not found on PATH") as first:
                    await opening.open(Ear())
                assert first.value.failure is FailureClass.PROCESS_START
                assert "hush" not in first.value.detail
            began = time.monotonic()
            with pytest.raises(
                UpstreamError, match=r"'no-such-program-.secret.' was not .*; .* again in [12]\.\d s"
            ) as last:
                await opening.open(Ear())
            assert time.monotonic() - began < 1
            assert last.value.failure is FailureClass.PROCESS_START

    run(story())


def test_failures_of_the_same_moment_count_once() -> None:
    """Ten sessions that open a broken server at once do not lock it for half a minute."""

    async def story() -> None:
        async with hosting() as processes:
            opening = opener(processes, Command("ghost", ("no-such-program",)))
            failures = await asyncio.gather(*(opening.open(Ear()) for _ in range(10)), return_exceptions=True)
            assert all("not found" in str(failure) for failure in failures)
            began = time.monotonic()
            with pytest.raises(UpstreamError):
                await opening.open(Ear())
            assert time.monotonic() - began > 0.3

    run(story())


def test_one_word_of_a_process_forgets_the_failures(tmp_path: Path) -> None:
    """A mended command is not punished for its past."""

    async def story() -> None:
        async with hosting() as processes:
            script = tmp_path / "server"
            opening = opener(processes, Command("mended", (str(script),)))
            for _ in range(2):
                with pytest.raises(UpstreamError, match="does not exist"):
                    await opening.open(Ear())
            script.write_text("#!/bin/sh\nexec cat\n", "ascii")
            script.chmod(0o700)
            ear = Ear()
            channel = await opening.open(ear)
            channel.write(b'{"jsonrpc":"2.0","method":"a"}', ear.unexpected.append)
            await ear.next()
            began = time.monotonic()
            await opening.open(Ear())
            assert time.monotonic() - began < 0.8

    run(story())


def test_an_exit_without_a_word_delays_the_next_start() -> None:
    """A program that starts and dies counts like one that cannot start."""

    async def story() -> None:
        async with hosting() as processes:
            opening = opener(processes, Command("dying", ("sh", "-c", "exit 5")))
            for _ in range(3):
                ear = Ear()
                await opening.open(ear)
                await ear.end()
            with pytest.raises(UpstreamError, match=r"ended with exit code 5 before it said anything; .* again in"):
                await opening.open(Ear())

    run(story())
