"""Hosted processes: how they are started, what they are given, and that whole trees end, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import MIB, Command, ProcessLimits
from moongate.upstreams.processes import ExitStatus
from tests.proxy.talk import run, until
from tests.upstreams.hosted import Ear, alive, children_of, hosting, open_puppet, puppet, tell

ENVIRON = {
    "PATH": os.environ["PATH"],
    "COLOUR": "blue",
    "API_KEY": "a-secret",
    "MOONGATE_KEY": "a-key",
    "BOTH": "outer",
}
ROOT = Path(__file__).parent.parent.parent
KINDS = ["same", "session", "double", "clean", "stubborn"]


def test_arguments_arrive_as_written() -> None:
    """No shell looks at them: spaces, quotes, dollars, nothing at all, line breaks, and other alphabets."""
    arguments = ["a b", '"quoted"', "it's", "$HOME", "`id`", "", "one\ntwo", "*", "--", "日本語", "\udcff"]

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear, puppet(*arguments))
            assert (await ear.ask(channel, do="show"))["argv"] == arguments

    run(story())


def test_the_environment_is_the_gateways_without_its_secrets() -> None:
    """What configuration files name, and what is Moongate's own, stays with the gateway; `env` adds and wins."""
    command = puppet(env=(("BOTH", "inner"), ("MORE", "a=b\nc"), ("EMPTY", "")), withheld=frozenset({"API_KEY"}))

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear, command, ENVIRON)
            env = (await ear.ask(channel, do="show"))["env"]
            assert env.pop("MOONGATE_PROCESS").endswith("-1")
            env.pop("LC_CTYPE", None)  # the interpreter's own doing
            expected = {"PATH": ENVIRON["PATH"], "COLOUR": "blue", "BOTH": "inner", "MORE": "a=b\nc", "EMPTY": ""}
            assert env == expected

    run(story())


def test_a_clear_environment_has_only_what_was_written() -> None:
    """The program is found on the gateway's PATH all the same."""
    name = Path(sys.executable).name
    command = puppet(env=(("ONLY", "this"), ("API_KEY", "given")), clear_env=True, withheld=frozenset({"API_KEY"}))
    command = Command("puppet", (name, *command.argv[1:]), command.env, clear_env=True, withheld=command.withheld)
    environ = {**ENVIRON, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear, command, environ)
            env = (await ear.ask(channel, do="show"))["env"]
            assert set(env) - {"LC_CTYPE", "MOONGATE_PROCESS"} == {"ONLY", "API_KEY"}

    run(story())


def test_a_large_environment_arrives_whole() -> None:
    """Larger than a socket takes at once."""
    command = puppet(env=tuple((f"LARGE_{number}", "x" * 100_000) for number in range(10)))

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear, command)
            env = (await ear.ask(channel, do="show"))["env"]
            assert [len(env[f"LARGE_{number}"]) for number in range(10)] == [100_000] * 10

    run(story())


def test_a_child_starts_clean(tmp_path: Path) -> None:
    """Its own session and group, its directory, three descriptors, no signal ignored or blocked."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear, puppet(cwd=str(tmp_path)))
            shown = await ear.ask(channel, do="show")
            assert shown["cwd"] == str(tmp_path)
            assert shown["fds"] == [0, 1, 2]
            assert shown["pid"] == shown["group"] == shown["session"] == channel.process.pid
            ours = {signal.SIGPIPE, signal.SIGXFSZ}  # the puppet's own interpreter ignores these
            assert set(shown["ignored"]) <= ours
            assert shown["blocked"] == []

    run(story())


def bad_commands(folder: Path) -> list[tuple[Command, str]]:
    """Commands that cannot start, and what is said."""
    for name, text, mode in (
        ("plain", "#!/bin/sh\n", 0o600),
        ("lost", "#!/no/such/interpreter\n", 0o700),
        ("data", "\x01\x02", 0o700),
    ):
        (folder / name).write_text(text, "ascii")
        (folder / name).chmod(mode)
    return [
        (Command("x", ("docuker", "run")), "'docuker' was not found on PATH"),
        (Command("x", ("docuker",), env=(("PATH", ""),)), "'docuker' was not found on PATH"),
        (Command("x", ("./docuker",)), "'./docuker' does not exist"),
        (Command("x", (f"{folder}/plain",)), f"'{folder}/plain' is not executable"),
        (Command("x", ("plain",), env=(("PATH", str(folder)),)), "'plain' is not executable"),
        (Command("x", (str(folder),)), f"'{folder}' is not executable"),
        (Command("x", (f"{folder}/lost",)), f"'{folder}/lost' needs an interpreter or loader that does not exist"),
        (Command("x", (f"{folder}/data",)), f"'{folder}/data' is not a program"),
        (Command("x", ("cat",), cwd="/no/such/place"), "its working directory '/no/such/place' does not exist"),
        (Command("x", ("cat",), cwd=f"{folder}/plain"), f"its working directory '{folder}/plain' is not a directory"),
        (Command("x", ("cat", "x" * 3 * MIB)), "its arguments and environment are too long"),
        (Command("x", ("cat", "a\0b")), "a NUL byte"),
        (Command("x", ("cat",), env=(("A=B", "hush"),)), "environment variable 'A=B' cannot be set"),
        (Command("x", ()), "there is no command to run"),
    ]


def test_a_command_that_cannot_start_says_why(tmp_path: Path) -> None:
    """In plain words, at once, and nothing is left."""

    async def story() -> None:
        async with hosting() as processes:
            for command, words in bad_commands(tmp_path):
                with pytest.raises(UpstreamError) as caught:
                    await processes.spawn(command, ENVIRON)
                assert caught.value.failure is FailureClass.PROCESS_START
                assert words in caught.value.detail
                assert "hush" not in caught.value.detail
            assert processes.running == 0
            await until(lambda: children_of(processes.watcher_pid or 0) == [])

    run(story())


def test_path_is_searched_like_a_shell_does(tmp_path: Path) -> None:
    """In the child's own PATH, in order, past folders that are not there and files that cannot be run."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, mode in ((first, 0o600), (second, 0o700)):
        folder.mkdir()
        words = f'{{"jsonrpc":"2.0","method":"{folder.name}"}}'
        (folder / "tool").write_text(f"#!/bin/sh\necho '{words}'\nexec cat\n", "ascii")
        (folder / "tool").chmod(mode)

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            path = f"/no/such:{first}:{second}:/usr/bin:/bin"
            await open_puppet(processes, ear, Command("tool", ("tool",), env=(("PATH", path),)))
            assert await ear.next() == b'{"jsonrpc":"2.0","method":"second"}'

    run(story())


def test_limits_hold() -> None:
    """Open files, memory and processor time, as the child itself sees them; never more than the gateway may."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            command = puppet(limits=ProcessLimits(memory=256 * MIB, open_files=50, cpu_seconds=100))
            channel = await open_puppet(processes, ear, command)
            limits = (await ear.ask(channel, do="show"))["limits"]
            assert limits == {"memory": 256 * MIB, "open_files": 50, "cpu": 100}
            assert (await ear.ask(channel, do="open_many"))["opened"] == 47
            tell(channel, ear, do="big", size=300 * MIB)
            assert "MemoryError" in (await ear.end()).detail
            generous = Ear()
            channel = await open_puppet(processes, generous, puppet(limits=ProcessLimits(open_files=most * 2)))
            assert (await generous.ask(channel, do="show"))["limits"]["open_files"] == most

    run(story())


def test_processor_time_is_limited() -> None:
    """A child that spins is ended."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear, puppet(limits=ProcessLimits(cpu_seconds=1)))
            await ear.ask(channel, do="echo")
            tell(channel, ear, do="burn")
            assert "was ended by SIGXCPU" in (await ear.end()).detail

    run(story())


def test_there_is_a_cap() -> None:
    """What is over it is refused with the reason; room that becomes free can be used."""

    async def story() -> None:
        async with hosting(max_processes=2) as processes:
            channels = [await open_puppet(processes, Ear()) for _ in range(2)]
            with pytest.raises(UpstreamError, match="'puppet' was not started: 2 processes are running"):
                await open_puppet(processes, Ear())
            channels[0].close()
            await channels[0].process.gone
            ear = Ear()
            channel = await open_puppet(processes, ear)
            await ear.ask(channel, do="echo")
            assert (processes.starts, processes.exits, processes.running) == (3, 1, 2)

    run(story())


@pytest.mark.parametrize("how", [*KINDS, "phoenix"])
@pytest.mark.parametrize("ending", ["close", "death"])
def test_grandchildren_end_with_the_server(how: str, ending: str) -> None:
    """In its group, in a session of their own, without a parent, without a trace, stubborn, reborn."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            grandchildren = [(await ear.ask(channel, do="start", how=how))["pid"] for _ in range(3)]
            assert alive(*grandchildren) == grandchildren
            if ending == "close":
                channel.close()
            else:
                tell(channel, ear, do="leave", signal=signal.SIGKILL)
            await channel.process.gone
            assert alive(channel.process.pid, *grandchildren) == []
            assert children_of(processes.watcher_pid or 0) == []

    run(story())


def test_the_end_of_one_tree_leaves_the_others_alone() -> None:
    """Also their orphans that left their session."""

    async def story() -> None:
        async with hosting() as processes:
            ears = [Ear(), Ear()]
            channels = [await open_puppet(processes, ear) for ear in ears]
            trees = [
                [(await ear.ask(channel, do="start", how=how))["pid"] for how in KINDS]
                for ear, channel in zip(ears, channels, strict=True)
            ]
            channels[0].close()
            await channels[0].process.gone
            assert alive(*trees[1]) == trees[1]
            told = trees[0][:3] + trees[0][4:]
            assert alive(*told) == []
            await ears[1].ask(channels[1], do="echo")
            channels[1].close()
            await channels[1].process.gone
            assert alive(*trees[0], *trees[1]) == []

    run(story())


def test_one_that_ignores_everything_is_killed() -> None:
    """Closed stdin and SIGTERM have their time, then it is over."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            await ear.ask(channel, do="stubborn")
            began = time.monotonic()
            channel.close()
            status = await channel.process.exited
            assert str(status) == "was ended by SIGKILL"
            assert 3.5 < time.monotonic() - began < 5.5

    run(story())


def test_sigterm_comes_before_sigkill() -> None:
    """One that ignores its stdin may end in its own way."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            tell(channel, ear, do="wait")
            channel.close()
            assert (await channel.process.exited).code == -signal.SIGTERM

    run(story())


def test_stopping_ends_everything_in_time() -> None:
    """Every tree, whatever it thinks of it; later starts are refused."""

    async def story() -> None:
        async with hosting() as processes:
            pids, ear = [], Ear()
            for how in KINDS:
                channel = await open_puppet(processes, ear)
                pids += [channel.process.pid, (await ear.ask(channel, do="start", how=how))["pid"]]
            stubborn = await open_puppet(processes, ear)
            await ear.ask(stubborn, do="stubborn")
            watcher = processes.watcher_pid
            assert watcher is not None
            began = time.monotonic()
            await processes.close()
            assert time.monotonic() - began < 4
            assert alive(*pids, stubborn.process.pid, watcher) == []
            with pytest.raises(UpstreamError, match="being stopped"):
                await processes.spawn(puppet(), ENVIRON)

    run(story())


def test_a_gateway_that_is_killed_takes_its_trees_along() -> None:
    """`kill -9` of the gateway: every server, grandchild and the watcher are gone within seconds."""

    async def story() -> None:
        argv = [sys.executable, "-m", "tests.upstreams.children.gateway"]
        gateway = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, cwd=ROOT)
        assert gateway.stdout is not None
        shown = json.loads(await gateway.stdout.readline())
        pids = [*shown["pids"], shown["watcher"]]
        assert alive(*pids) == pids
        gateway.kill()
        await gateway.wait()
        await until(lambda: alive(*pids) == [], 5)

    run(story())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_watcher_does_not_listen_to_signals(number: signal.Signals) -> None:
    """A signal to everything (Ctrl-C, a service manager) leaves the order of ending to the gateway."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            assert processes.watcher_pid is not None
            assert os.getsid(processes.watcher_pid) == processes.watcher_pid
            os.kill(processes.watcher_pid, number)
            await ear.ask(channel, do="echo")
            await open_puppet(processes, Ear())

    run(story())


def test_a_killed_watcher_ends_its_trees_and_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """Channels hear of it at once, nothing is left over, the operator is told, and the next start works."""

    async def story() -> None:
        async with hosting() as processes:
            ears = [Ear(), Ear()]
            channels = [await open_puppet(processes, ear) for ear in ears]
            pids = [channel.process.pid for channel in channels]
            kinds = ("same", "session", "double", "stubborn")
            pids += [(await ears[0].ask(channels[0], do="start", how=how))["pid"] for how in kinds]
            assert processes.watcher_pid is not None
            os.kill(processes.watcher_pid, signal.SIGKILL)
            for ear in ears:
                assert "ended" in (await ear.end()).detail
            ear = Ear()
            channel = await open_puppet(processes, ear)
            await ear.ask(channel, do="echo")
            await until(lambda: alive(*pids) == [], 3)
            await ear.ask(channel, do="echo")
            assert processes.running == 1

    run(story())
    assert "the watcher process has ended; 2 hosted servers end with it" in caplog.messages


def test_a_start_that_the_watcher_does_not_survive_fails_at_once() -> None:
    """Nobody waits for an answer that cannot come."""

    async def story() -> None:
        async with hosting() as processes:
            await open_puppet(processes, Ear())
            assert processes.watcher_pid is not None
            os.kill(processes.watcher_pid, signal.SIGSTOP)
            starting = asyncio.gather(*(processes.spawn(puppet(), ENVIRON) for _ in range(3)), return_exceptions=True)
            await asyncio.sleep(0)
            os.kill(processes.watcher_pid, signal.SIGKILL)
            errors = await starting
            assert [str(error) for error in errors] == ["the watcher process has ended"] * 3
            assert processes.running == 0

    run(story())


def test_a_start_that_nobody_waits_for_any_more_is_undone() -> None:
    """A client that goes away while its server starts leaves nothing."""

    async def story() -> None:
        async with hosting() as processes:
            await open_puppet(processes, Ear())
            starting = asyncio.gather(*(processes.spawn(puppet(), ENVIRON) for _ in range(5)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert processes.running == 6
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await until(lambda: processes.running == 1)
            assert processes.watcher_pid is not None
            await until(lambda: len(children_of(processes.watcher_pid or 0)) == 1)

    run(story())


def test_a_start_has_a_limit() -> None:
    """Also when the watcher itself does not get to it; what starts too late is undone."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            await ear.ask(channel, do="echo")
            assert processes.watcher_pid is not None
            os.kill(processes.watcher_pid, signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(UpstreamError, match=r"could not be started within 0\.3 s"):
                await processes.spawn(puppet(start_seconds=0.3), ENVIRON)
            assert time.monotonic() - began < 1
            os.kill(processes.watcher_pid, signal.SIGCONT)
            await until(lambda: processes.running == 1)
            await ear.ask(channel, do="echo")

    run(story())


def test_processes_that_end_leave_no_zombies() -> None:
    """Neither the programs nor the orphans that came to the watcher."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            keeper = await open_puppet(processes, ear)
            await ear.ask(keeper, do="echo")
            shell = "for i in 1 2 3 4 5; do (sh -c 'exit 3' &) ; done; exit 0"
            spawned = [await processes.spawn(Command("x", ("sh", "-c", shell)), ENVIRON) for _ in range(10)]
            for process in spawned:
                assert (await process.exited).code == 0
                await process.gone
                for fd in (process.stdin, process.stdout, process.stderr):
                    os.close(fd)
            assert processes.watcher_pid is not None
            assert children_of(processes.watcher_pid) == [keeper.process.pid]

    run(story())


def test_five_hundred_trees_end_together() -> None:
    """The watcher keeps up."""

    async def story() -> None:
        async with hosting(max_processes=500) as processes:
            spawned = [await processes.spawn(Command("x", ("sleep", "1000")), ENVIRON) for _ in range(500)]
            assert processes.running == 500
            for process in spawned:
                process.end()
            await asyncio.gather(*(process.gone for process in spawned))
            for process in spawned:
                for fd in (process.stdin, process.stdout, process.stderr):
                    os.close(fd)

    run(story())


def test_nothing_is_started_before_it_is_needed() -> None:
    """Without hosted servers there is no watcher."""

    async def story() -> None:
        before = set(children_of(os.getpid()))
        async with hosting() as processes:
            assert processes.watcher_pid is None
            assert set(children_of(os.getpid())) <= before

    run(story())


def test_exit_words() -> None:
    """Codes, signals, signals without a name, and nobody knows."""
    words = {3: "ended with exit code 3", -9: "was ended by SIGKILL", -62: "was ended by signal 62"}
    assert {code: str(ExitStatus(code)) for code in words} == words
    assert str(ExitStatus(None)) == "ended together with its watcher"
