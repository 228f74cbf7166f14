"""Servers over stdio: what goes in, what comes out, and how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import MIB, Command
from moongate.upstreams import stdio
from moongate.upstreams.stdio import LastLines, StdioChannel
from tests.proxy.talk import log_lines, run, until
from tests.upstreams.hosted import Ear, alive, hide, hosting, open_descriptors, open_puppet, opener, puppet, tell

CAT = Command("cat", ("cat",), start_seconds=10.0)


def test_a_message_goes_in_and_an_answer_comes_out() -> None:
    """The bytes arrive as they are, each on a line of its own, and answers in order."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await opener(processes, CAT).open(ear)
            messages = [
                b'{"jsonrpc": "2.0", "id": %d, "text": "caf\xc3\xa9 \\u2028"}' % number for number in range(1000)
            ]
            for message in messages:
                channel.write(message, ear.unexpected.append)
            assert [await ear.next() for _ in messages] == messages
            channel.close()
            assert ear.unexpected == []
            assert ear.errors == []

    run(story())


def test_a_line_break_in_a_message_does_not_make_two_of_it() -> None:
    """White space between tokens is all that it can be."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await opener(processes, CAT).open(ear)
            channel.write(b'{"jsonrpc":"2.0","a":\r\n1,\n"b":\r2}', ear.unexpected.append)
            assert json.loads(await ear.next()) == {"jsonrpc": "2.0", "a": 1, "b": 2}

    run(story())


def test_what_can_be_no_message_is_noise(caplog: pytest.LogCaptureFixture) -> None:
    """Banners, log lines and printed objects are counted, kept and logged without secrets; messages pass."""
    caplog.set_level(logging.INFO, "moongate")
    noise = ["Server running", "[INFO] ready, hush", "{ a: 1 }", "\x1b[31mred\x1b[0m", "[]", "null", '"text"', "{"]
    messages = [
        '{"jsonrpc":"2.0","first":1}',
        '{"result":{},"jsonrpc":"2.0","id":2}',
        '[{"jsonrpc":"2.0","id":3,"result":{}}]',
        '{\t"method":"fourth","jsonrpc":"2.0"}',
        '{"method":"fifth","json\\u0072pc":"2.0","id":"x"}',
    ]
    lines = [messages[0], *noise, "", " \t", f"  {messages[1]}\r", *messages[2:4], f"\xef\xbb\xbf{messages[4]}"]

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            tell(channel, ear, do="write", text="\n".join(lines) + "\n")
            assert [(await ear.next()).decode() for _ in messages] == messages
            assert channel.noise == len(noise)
            assert channel.noise_lines[:2] == ["Server running", "[INFO] ready, [secret]"]
            assert channel.noise_lines[3] == "red"

    run(story())
    told = [record.getMessage() for record in caplog.records if "no message" in record.getMessage()]
    assert len(told) == 1, "one line for many"
    assert "Server running" in told[0]


def test_a_line_in_tiny_pieces_costs_no_more_than_its_bytes() -> None:
    """A server that writes two bytes at a time, each of which is a read of its own."""

    async def story() -> None:
        async with hosting() as processes:
            channel = await opener(processes, CAT).open(Ear())
            tracemalloc.start()
            try:
                for _ in range(100_000):
                    channel._feed(bytes(bytearray(b"xy")))
                assert tracemalloc.get_traced_memory()[1] < 4 * 200_000
            finally:
                tracemalloc.stop()
            channel._feed(b"\n")
            assert channel.noise == 1
            channel.close()

    run(story())


def test_noise_without_end_costs_no_memory() -> None:
    """Only the last lines are kept."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            tell(channel, ear, do="write", text="noise\n" * 200_000 + '{"jsonrpc":"2.0","end":1}\n')
            assert await ear.next() == b'{"jsonrpc":"2.0","end":1}'
            assert channel.noise == 200_000
            assert channel.noise_lines == ["noise"] * stdio.KEPT_LINES

    run(story())


def test_a_character_split_between_two_writes_is_whole() -> None:
    """Bytes are joined, not texts."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            text = '{"jsonrpc":"2.0","text":"\N{EURO SIGN}"}\n'.encode()
            for number in range(len(text)):
                tell(channel, ear, do="write", text=text[number : number + 1].decode("latin-1"))
            assert await ear.next() == text[:-1]

    run(story())


def test_a_line_of_50_megabytes_passes_in_reasonable_time() -> None:
    """Both ways; a cost that grows with the square of the length would take minutes."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            size = 50_000_000
            began = time.monotonic()
            tell(channel, ear, do="big", size=size)
            assert len(await ear.next()) == size + len('{"jsonrpc": "2.0", "big": ""}')
            tell(channel, ear, do="size", text="y" * size)
            assert json.loads(await ear.next()) == {"jsonrpc": "2.0", "size": size}
            assert time.monotonic() - began < 10

    run(story())


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_over_the_limit_ends_the_channel(end: str) -> None:
    """Whether it is complete or still growing; the process ends with it."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear, puppet(line_bytes=100_000))
            tell(channel, ear, do="write", text='{"jsonrpc":"' + "x" * 99_000 + '"}\n')
            assert len(await ear.next()) == 99_014
            tell(channel, ear, do="write", text='{"a":"' + "x" * 100_000 + end)
            error = await ear.end()
            assert error.failure is FailureClass.UPSTREAM_PROTOCOL
            assert "more than 100000 bytes" in error.detail
            await channel.process.gone

    run(story())


def test_half_a_line_at_the_end_is_no_message() -> None:
    """What came whole before it is delivered, the rest is noise, and the end is told."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            tell(channel, ear, do="leave", last='{"jsonrpc":"2.0","whole":1}\n{"jsonrpc":"2.0","id":1,"resu', code=0)
            error = await ear.end()
            assert ear.messages == [b'{"jsonrpc":"2.0","whole":1}']
            assert error.failure is FailureClass.PROCESS_EXIT
            assert channel.noise == 1

    run(story())


def test_everything_written_before_the_end_is_delivered_first() -> None:
    """A full pipe at the moment of death loses nothing, even while nobody reads."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            channel.pause()
            tell(channel, ear, do="leave", last='{"jsonrpc":"2.0","n":1}\n' * 2700, code=0)
            await ear.end()
            assert len(ear.messages) == 2700

    run(story())


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"code": 0}, "'puppet' ended with exit code 0"),
        ({"code": 3}, "'puppet' ended with exit code 3"),
        ({"signal": signal.SIGKILL}, "'puppet' was ended by SIGKILL"),
        ({"signal": signal.SIGSEGV}, "'puppet' was ended by SIGSEGV"),
    ],
)
def test_the_end_says_how_and_quotes_stderr(how: dict[str, int], words: str) -> None:
    """Exit code or signal, and the last lines without secrets or escape sequences, at once."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            await ear.ask(channel, do="complain", lines=30, text="line # hush \x1b[1mbold\x1b[0m\n")
            began = time.monotonic()
            tell(channel, ear, do="leave", **how)
            error = await ear.end()
            assert time.monotonic() - began < 3
            assert error.failure is FailureClass.PROCESS_EXIT
            assert error.detail.startswith(words + "; its last lines on stderr: line 10 [secret] bold | line 11")
            assert error.detail.endswith("line 29 [secret] bold")

    run(story())


def test_an_end_before_the_first_word_is_a_failed_start() -> None:
    """A program that only complains could not start."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            await open_puppet(processes, ear, Command("bad", ("sh", "-c", "echo no key given >&2; exit 1")))
            error = await ear.end()
            assert error.failure is FailureClass.PROCESS_START
            assert (
                error.detail
                == "'bad' ended with exit code 1 before it said anything; its last lines on stderr: no key given"
            )

    run(story())


def test_a_grandchild_that_holds_the_pipes_does_not_delay_the_end() -> None:
    """The server's own death counts; what it left behind is ended."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            grandchild = (await ear.ask(channel, do="start", how="stubborn"))["pid"]
            began = time.monotonic()
            tell(channel, ear, do="leave", code=1)
            await ear.end()
            assert time.monotonic() - began < 1.5
            await channel.process.gone
            assert alive(grandchild) == []

    run(story())


@pytest.mark.parametrize("fd", [0, 1])
def test_a_child_that_closes_a_pipe_but_lives_on_is_ended(fd: int) -> None:
    """It can not be spoken to any more."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            await ear.ask(channel, do="echo")
            tell(channel, ear, do="shut", fd=fd)
            while not ear.errors:
                tell(channel, ear, do="echo")
                await asyncio.sleep(0.01)
            assert "closed its stdin or stdout without ending" in (await ear.end()).detail
            await channel.process.gone

    run(story())


def test_a_flood_on_stderr_blocks_nobody() -> None:
    """40 MB of it go by; the last lines stay."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            await ear.ask(channel, do="complain", lines=400_000, text="x" * 99 + "\n")
            await ear.ask(channel, do="complain", text="the last one\n")
            await until(lambda: channel.stderr.texts[-1:] == ["the last one"])
            assert len(channel.stderr.texts) == stdio.KEPT_LINES

    run(story())


def test_stderr_is_logged_line_by_line_for_who_asks(caplog: pytest.LogCaptureFixture) -> None:
    """At debug, every line, also of one that came in pieces, without secrets."""
    caplog.set_level(logging.DEBUG, "moongate")

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            await ear.ask(channel, do="complain", text="one hu")
            await ear.ask(channel, do="complain", text="sh\ntwo\n")
            await until(lambda: "puppet: two" in caplog.messages)

    run(story())
    assert "puppet: one [secret]" in caplog.messages
    assert "hush" not in caplog.text


def test_a_child_that_does_not_read_costs_bounded_memory() -> None:
    """What waits for it is bounded; further messages fail, each by itself, and the channel lives."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            tell(channel, ear, do="wait")
            failed: list[UpstreamError] = []
            for _ in range(70):
                channel.write(b'{"a":"%s"}' % (b"x" * MIB), failed.append)
            await until(lambda: len(failed) == 6, 5)
            assert {error.failure for error in failed} == {FailureClass.UPSTREAM_TIMEOUT}
            assert "does not read its stdin" in failed[0].detail
            assert ear.errors == []
            channel.close()

    run(story())


def test_pausing_stops_reading_and_resuming_goes_on() -> None:
    """While it is paused the child fills its pipe and waits; nothing is lost."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            channel = await open_puppet(processes, ear)
            await ear.ask(channel, do="echo")
            channel.pause()
            channel.pause()
            tell(channel, ear, do="write", text='{"jsonrpc":"2.0","n":1}\n' * 50_000)
            await asyncio.sleep(0.1)
            assert ear.messages == []
            channel.resume()
            await until(lambda: len(ear.messages) == 50_000)

    run(story())


def test_closing_ends_the_process_and_says_nothing_more() -> None:
    """What the child writes while it ends is read and dropped, so that it can end in its own way."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Ear()
            line = '{"jsonrpc":"2.0","n":1}'
            code = f"import sys\nsys.stdin.read()\nfor _ in range(100000): print('{line}')\nsys.exit(7)"
            channel = await opener(processes, Command("last", (sys.executable, "-c", code))).open(ear)
            channel.close()
            channel.close()
            assert (await channel.process.exited).code == 7
            assert (ear.messages, ear.errors) == ([], [])

    run(story())


def test_messages_of_the_last_turn_leave_before_stdin_closes(tmp_path: Path) -> None:
    """A notification followed by a close arrives."""

    async def story() -> None:
        async with hosting() as processes:
            ear, target = Ear(), tmp_path / "got"
            channel = await opener(processes, Command("keep", ("sh", "-c", f"cat > {target}"))).open(ear)
            channel.write(b'{"last":1}', ear.unexpected.append)
            channel.close()
            await channel.process.gone
            assert target.read_bytes() == b'{"last":1}\n'

    run(story())


class Closer(Ear):
    """Closes its channel with the first message."""

    channel: StdioChannel

    def received(self, message: bytes) -> None:
        """A message."""
        super().received(message)
        self.channel.close()


def test_a_receiver_that_closes_in_the_middle_hears_no_more() -> None:
    """Not even the rest of the same piece."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Closer()
            ear.channel = channel = await open_puppet(processes, ear)
            lines = "".join(f'{{"jsonrpc":"2.0","n":{number}}}\n' for number in (1, 2, 3))
            tell(channel, ear, do="write", text=lines)
            await channel.process.gone
            assert ear.messages == [b'{"jsonrpc":"2.0","n":1}']

    run(story())


class Stumbler(Ear):
    """Cannot handle the second message."""

    def received(self, message: bytes) -> None:
        """A message."""
        super().received(message)
        if len(self.messages) == 2:
            message.decode("ascii")


def test_what_cannot_be_handled_ends_the_channel() -> None:
    """The fault may be our own: whoever waits is told, nothing more is heard, and the process ends."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Stumbler()
            channel = await open_puppet(processes, ear)
            lines = "".join(f'{{"jsonrpc":"2.0","n":"{text}"}}\n' for text in ("1", "\xe9", "3"))
            tell(channel, ear, do="write", text=lines)
            error = await ear.end()
            assert error.failure is FailureClass.UPSTREAM_PROTOCOL
            assert error.detail == "what 'puppet' wrote could not be handled"
            await channel.process.gone
            assert len(ear.messages) == 2

    with log_lines() as log:
        run(story())
    assert "UnicodeDecodeError" in log.getvalue()


def test_what_cannot_be_handled_of_a_dead_process_leaves_nothing() -> None:
    """Its last words are read when it has ended: the descriptors are closed all the same."""

    async def story() -> None:
        async with hosting() as processes:
            ear = Stumbler()
            channel = await open_puppet(processes, ear)
            channel.pause()
            tell(channel, ear, do="leave", last='{"jsonrpc":"2.0"}\n{"jsonrpc":"\N{PILCROW SIGN}"}\n', code=0)
            assert (await ear.end()).failure is FailureClass.UPSTREAM_PROTOCOL
            await channel.process.gone
            assert (channel.process.stdin, channel.process.stdout, channel.process.stderr) == (-1, -1, -1)

    with log_lines():
        run(story())


def test_two_hundred_openings_leave_nothing() -> None:
    """No descriptor, no task, no process, no zombie."""

    async def story() -> None:
        async with hosting() as processes:
            opening = opener(processes, CAT)
            await opening.open(Ear())
            before = open_descriptors()
            for _ in range(20):
                ears = [Ear() for _ in range(10)]
                channels = [await opening.open(ear) for ear in ears]
                for channel, ear in zip(channels, ears, strict=True):
                    channel.write(b'{"jsonrpc":"2.0","a":1}', ear.unexpected.append)
                for channel, ear in zip(channels, ears, strict=True):
                    await ear.next()
                    channel.close()
                for channel in channels:
                    await channel.process.gone
                assert alive(*(channel.process.pid for channel in channels)) == []
            assert open_descriptors() == before
            assert (processes.starts, processes.exits, processes.running) == (201, 200, 1)

    run(story())


def test_last_lines_are_bounded_however_they_come() -> None:
    """Endless lines, endless numbers of lines, and pieces of any size."""
    lines = LastLines(hide)
    lines.feed(b"x" * 10 * MIB)
    assert lines.texts == ["x" * stdio.SHOWN_CHARACTERS + "..."]
    lines.feed(b"\n" * 100_000 + b"a\r\n\x00\x9b\tb\x07\nc")
    assert lines.texts[-3:] == ["a", "\ufffd\ufffd b\ufffd", "c"]
    for number in range(100):
        lines.feed(b"%d\n" % number)
    assert lines.texts == [str(number) for number in range(80, 100)]
    assert len(str(lines)) <= stdio.SHOWN_TOTAL
