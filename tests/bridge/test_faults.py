"""Hosted servers that die, hang, lie or cannot start: nobody waits, nobody else notices, nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from moongate.testing import Gateway, gateway
from tests.bridge.talking import SERVER, Caller, beside, caller, hosted, hosting, messages, session, text_of
from tests.proxy.talk import connected, initialize, log_lines, records, run, until
from tests.runtime.test_reload import apply
from tests.runtime.test_serve import serving


def alive(pid: int) -> bool:
    """Whether a process is there, zombies included."""
    return Path(f"/proc/{pid}").exists()


@pytest.mark.requirement("AG-15", "PM-49")
@pytest.mark.parametrize("isolation", ["session", "shared"])
def test_a_process_that_dies_fails_its_calls_at_once_and_is_started_again(isolation: str) -> None:
    """Exit code and last words are in the record and the log, without secrets; the next session has a new process."""

    async def story() -> None:
        secret = "kestrel-at-dusk"
        env = {"API_TOKEN": secret}
        with log_lines() as log:
            async with hosting(isolation=isolation, env=env) as gate, session(gate) as one, beside(one, gate) as two:
                pid = (await one.who())["pid"]
                await two.start("hold", 2)
                await until(lambda: gate.runtime.plane.plan.upstreams[0] is not None)
                crashed = await one.call("crash", 3, code=7, last=f"bad key {secret}")
                assert crashed.failure == (502, "process_exit")
                told = crashed.message["error"]["data"]["detail"]  # to a client on this machine, and to no other
                assert "exit code 7" in told
                assert "bad key" in told
                assert secret not in told
                assert (await two.client.answer()).failure == (502, "process_exit")
                assert (await one.call("echo", text="x")).status == 404
                async with session(gate) as again:
                    assert (await again.who())["pid"] != pid
                details = [record["detail"] for record in records(gate) if record.get("failure") == "process_exit"]
                assert len(details) == 2
                assert all("exit code 7" in detail and "bad key" in detail for detail in details)
                assert secret not in json.dumps(records(gate)) + log.getvalue()
                assert not alive(pid)

    run(story())


def test_a_stream_that_has_begun_ends_with_an_error_when_the_process_dies() -> None:
    """Although its events carry ids: there is nothing to come back for."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one, beside(one, gate) as other:
            await one.start("hold", 2, "t", tell=True)
            head = await one.client.head()
            await one.client.text(b"progress")
            await other.call("crash", 3)
            last = messages((await one.client.body(head)).body)[-1]
            assert (last["id"], last["error"]["data"]["class"]) == (2, "process_exit")

    run(story())


def test_a_killed_process_is_told_from_one_that_ended() -> None:
    """The record names the signal. Who came through a proxy is not told."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one:
            pid = (await one.who())["pid"]
            one.headers["via"] = "1.1 elsewhere"
            await one.start("hold", 2)
            await until(lambda: len(records(gate)) == 3)
            os.kill(pid, signal.SIGKILL)
            answer = await one.client.answer()
            assert answer.failure == (502, "process_exit")
            assert "detail" not in answer.message["error"]["data"]
            assert "SIGKILL" in records(gate)[-1]["detail"]

    run(story())


@pytest.mark.requirement("AG-16", "PM-49")
@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"command": "no-such-program-anywhere", "args": []}, "no-such-program-anywhere"),
        ({"args": ["-c", "import sys; sys.exit('the moon is down')"]}, "the moon is down"),
        ({"args": ["-c", "import time; time.sleep(60)"], "startTime": "500ms"}, "did not answer initialize"),
        ({"args": ["-c", 'print(\'{"jsonrpc": "2.0"\')']}, "ended"),
    ],
)
@pytest.mark.parametrize("isolation", ["session", "shared"])
def test_a_server_that_cannot_start_is_a_clear_error_within_the_start_limit(
    entry: dict[str, Any], told: str, isolation: str
) -> None:
    """Not found, exits at start, never answers, exits in the middle of a line."""

    async def story() -> None:
        async with hosting(isolation=isolation, **entry) as gate, caller(gate) as one, asyncio.timeout(5):
            answer = await one.client.ask(initialize())
            assert answer.failure == (502, "process_start")
            assert records(gate)[-1]["failure"] == "process_start"
            assert told in records(gate)[-1]["detail"]

    run(story())


def test_a_server_that_keeps_dying_is_started_more_and_more_rarely() -> None:
    """After some failures in a row the answer comes at once and says so, without another start."""

    async def story() -> None:
        async with hosting(args=["-c", "raise SystemExit(4)"]) as gate, caller(gate) as one:
            for _ in range(4):
                assert (await one.client.ask(initialize())).failure == (502, "process_start")
            starts = gate.runtime.processes.starts
            assert (await one.client.ask(initialize())).failure == (502, "process_start")
            assert gate.runtime.processes.starts == starts
            assert "exit code 4" in records(gate)[-1]["detail"]

    run(story())


def test_a_server_that_hangs_at_start_delays_no_other() -> None:
    """While one instance waits for its process, another one is served."""

    async def story() -> None:
        servers = {
            "stuck": {"command": sys.executable, "args": ["-c", "import time; time.sleep(60)"]},
            "one": {"command": sys.executable, "args": [SERVER]},
        }
        async with (
            gateway(json.dumps({"gateway": {"limits": {"drainTime": "1s"}}, "mcpServers": servers})) as gate,
            connected(gate) as waiting,
        ):
            await waiting.send(initialize(), path="/mcp/stuck")
            async with session(gate) as one, asyncio.timeout(5):
                assert await one.text("echo", text="here") == "here"

    run(story())


@pytest.mark.requirement("AG-17")
def test_noise_on_standard_output_does_not_break_the_conversation() -> None:
    """Words, blank lines, broken JSON between the messages."""

    async def story() -> None:
        with log_lines() as log:
            async with hosting() as gate, session(gate) as one:
                assert await one.text("noise") == "heard through"
                assert await one.text("echo", text="still") == "still"
                await until(lambda: "starting up" in log.getvalue())

    run(story())


@pytest.mark.requirement("AG-17")
def test_an_answer_of_fifty_megabytes_arrives_whole() -> None:
    """One line, with letters of two bytes that fall on every border."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one:
            answer = await one.call("big", 2, size=33_000_000)
            assert len(answer.body) > 49_000_000
            assert text_of(answer.message) == "x\u00e9" * 16_500_000
            assert await one.text("echo", text="and on") == "and on"

    run(story())


@pytest.mark.requirement("AG-11")
def test_the_environment_of_a_server_is_the_gateways_without_the_gateways_secrets() -> None:
    """`env` adds; what the configuration names in ${...} and MOONGATE_* stays; `clearEnv` leaves `env` alone."""

    async def story() -> None:
        names = ["GIVEN", "PLAIN", "CLIENT_TOKEN", "MOONGATE_KEY"]
        environ = {"PLAIN": "p", "CLIENT_TOKEN": "referenced-token", "MOONGATE_KEY": "00" * 32, "PATH": "/usr/bin:/bin"}
        block = {"tokens": [{"name": "ann", "token": "${CLIENT_TOKEN}"}]}
        for clear, plain in ((False, "p"), (True, None)):
            text = hosted(block=block, env={"GIVEN": "g $PLAIN 'x'"}, clearEnv=clear)
            async with gateway(text, environ=environ) as gate:
                headers = {"authorization": "Bearer referenced-token"}
                async with session(gate, headers) as one:
                    found = json.loads(await one.text("env", names=names))
                    assert found == {
                        "GIVEN": "g $PLAIN 'x'",
                        "PLAIN": plain,
                        "CLIENT_TOKEN": None,
                        "MOONGATE_KEY": None,
                    }

    run(story())


@pytest.mark.requirement("AG-14")
def test_with_its_session_a_process_and_all_its_descendants_end() -> None:
    """Also those that moved into a session of their own."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one:
            pids = json.loads(await one.text("spawn"))
            assert all(map(alive, pids))
            await one.client.ask(None, one.headers, method="DELETE")
            await until(lambda: not any(map(alive, pids)), 8)

    run(story())


@pytest.mark.requirement("AG-14")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_gateway(tmp_path: Path, number: signal.Signals) -> None:
    """Neither a stop nor `kill -9` leaves a server or one of its children behind."""

    async def story() -> None:
        with serving(tmp_path, hosted()) as program:
            async with connected(program.port) as client:
                opened = await client.ask(initialize())
                headers = {"mcp-session-id": opened.fields["mcp-session-id"]}
                one = Caller(client, headers)
                pids = json.loads(await one.text("spawn"))
            program.signal(number)
            await program.ended()
            await until(lambda: not any(map(alive, pids)), 10)

    run(story())


def test_a_reload_that_concerns_others_leaves_sessions_and_processes_alone() -> None:
    """Another instance comes and goes; this one's session lives on. When it is removed itself, its process ends."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one:
            pid = (await one.who())["pid"]
            more = json.loads(hosted())
            more["mcpServers"]["two"] = {"url": "http://127.0.0.1:9/mcp"}
            await apply(gate, json.dumps(more))
            assert (await one.who())["pid"] == pid
            del more["mcpServers"]["one"]
            await apply(gate, json.dumps(more))
            await until(lambda: not alive(pid), 8)
            assert (await one.call("echo", text="x")).status == 404

    run(story())


async def come_and_go(gate: Gateway, count: int) -> None:
    """Open sessions; a third of them is ended, the others are left."""
    for number in range(count):
        async with session(gate) as one:
            if not number % 3:
                await one.client.ask(None, one.headers, method="DELETE")


async def nothing_is_left(count: int) -> None:
    """Neither process, task nor descriptor more than before; the memory is given back."""
    async with hosting(maxProcesses=8, idleTime="200ms") as gate:
        processes = gate.runtime.processes
        await come_and_go(gate, 20)
        await until(lambda: processes.running == 0, 10)
        files, tasks, memory = descriptors(), len(asyncio.all_tasks()), resident()
        await come_and_go(gate, count)
        await until(lambda: processes.running == 0, 10)
        await until(lambda: descriptors() <= files and len(asyncio.all_tasks()) <= tasks, 5)
        assert resident() < memory + 8 * 1024 * 1024
        assert processes.starts == processes.exits == count + 20


@pytest.mark.requirement("AG-14")
def test_nothing_is_left_of_abandoned_sessions() -> None:
    """After sixty sessions, ended or abandoned."""
    run(nothing_is_left(60))


@pytest.mark.long
@pytest.mark.timeout(180)
def test_nothing_is_left_of_five_hundred_abandoned_sessions() -> None:
    """The same for five hundred."""
    run(nothing_is_left(500), 150)


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
