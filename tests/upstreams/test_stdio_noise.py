"""Servers that log JSON to their stdout: what is a message and what is noise, told apart by what it says."""

from __future__ import annotations

import pytest

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import Command
from tests.proxy.talk import run
from tests.upstreams.hosted import Ear, hosting, open_puppet, opener, tell


@pytest.mark.parametrize(
    "line",
    [
        '{"level":"info","msg":"request 7"}',
        '{"level":30,"msg":"heard","request":{"jsonrpc":"2.0","id":1,"method":"ping"}}',
        '{"msg":"heard {\\"jsonrpc\\":\\"2.0\\"}","version":{"jsonrpc":"2.0"}}',
        '[{"level":"info"},{"level":"info"}]',
        '{"id":1,"result":{}}',
        '{"id":1,"result":"\xe9","jsonrpc":"1.0"}',
    ],
)
def test_a_log_in_json_is_noise(line: str) -> None:
    """Structured logs on stdout are objects too, perhaps with a message in them: they are none."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            tell(channel, ear, do="write", text=f"{line}\n" * 1000)
            tell(channel, ear, do="echo", end=True)
            assert b"end" in await ear.next()
            assert channel.noise == 1000
            assert ear.messages == []

    run(story())


def test_a_log_in_json_is_not_the_first_word_of_a_server() -> None:
    """A program that logs and dies could not start, and is not started again and again."""

    async def story() -> None:
        async with hosting() as processes:
            code = 'echo \'{"level":"info","msg":"starting"}\'; exit 1'
            opening = opener(processes, Command("bad", ("sh", "-c", code)))
            for _ in range(3):
                ear = Ear()
                await opening.open(ear)
                error = await ear.end()
                assert error.failure is FailureClass.PROCESS_START
                assert "before it said anything" in error.detail
            with pytest.raises(UpstreamError, match="can be started again in"):
                await opening.open(Ear())

    run(story())


@pytest.mark.parametrize(
    "tail", [',"jsonrpc":"2.0"}', ', "jsonrpc": "2.0", "id": "abc"}', ',"jsonrpc":"2.0","more":1}']
)
def test_a_big_message_may_say_last_what_it_is(tail: str) -> None:
    """Some SDKs write `jsonrpc` behind the result, however long that is."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            big = '{"id":1,"result":"' + "x" * 5_000_000 + '"' + tail
            tell(channel, ear, do="write", text=big + "\n")
            assert await ear.next() == big.encode()
            assert channel.noise == 0

    run(story())
