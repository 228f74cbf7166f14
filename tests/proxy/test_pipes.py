"""Standard input and output: lines of any length, back-pressure, and the end of whoever is on the other side."""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moongate.errors import ClientClosed
from moongate.proxy import pipes
from moongate.proxy.pipes import Input, Line, Lines, Output
from tests.proxy.talk import run, until
from tests.wire.shapes import cuts

LIMIT = 2.0


@given(st.data(), st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b" ", b"x" * 20]), max_size=40).map(b"".join))
def test_lines_are_the_same_however_they_are_cut(data: st.DataObject, text: bytes) -> None:
    """Empty ones are left out; one that is too long leaves only its trace; the next one is whole again."""
    lines = Lines(limit=10)
    found = [line for piece in data.draw(cuts(text)) for line in lines.feed(piece)] + lines.rest()
    expected = [
        Line(b"", too_long=True) if len(part) > 10 else Line(part.strip(b" \t\r")) for part in text.split(b"\n")
    ]
    assert found == [line for line in expected if line.data or line.too_long]


def test_a_long_line_takes_time_in_proportion() -> None:
    """64 MB in pieces of 4 KB."""
    lines = Lines()
    began = time.monotonic()
    for _ in range(16_000):
        assert lines.feed(b"x" * 4096) == []
    assert len(lines.feed(b"\n")[0].data) == 16_000 * 4096
    assert time.monotonic() - began < 5


@asynccontextmanager
async def reading() -> AsyncIterator[tuple[Input, int]]:
    """An input, and the descriptor that its other side writes to."""
    source, sink = os.pipe()
    loop = asyncio.get_running_loop()
    entrance = Input(source, loop)
    entrance.start()
    try:
        yield entrance, sink
    finally:
        entrance.stop()
        os.close(source)


def test_beyond_a_bound_nothing_is_read_until_lines_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer waits in its pipe, and goes on afterwards."""
    monkeypatch.setattr(pipes, "MAX_PENDING", 4 * pipes.LINE_COST)

    async def story() -> None:
        async with reading() as (entrance, sink), asyncio.timeout(LIMIT * 4):
            os.set_blocking(sink, False)
            body = b"x" * 1023 + b"\n"
            written = 0
            with suppress(BlockingIOError):
                while written < 10_000_000:
                    written += os.write(sink, body)
                    await asyncio.sleep(0)
            assert 1024 < written < 4_000_000
            for number in range(written // 1024):
                line = await entrance.line()
                assert line is not None
                assert len(line.data) == 1023, number
                entrance.done(line)
            os.write(sink, b"again\n")
            assert await entrance.line() == Line(b"again")
            os.close(sink)
            assert await entrance.line() is None

    run(story())


def test_the_end_of_the_other_side_is_seen_although_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose client was killed must not linger behind calls that hang; what was said is still read."""
    monkeypatch.setattr(pipes, "MAX_PENDING", 0)

    async def story() -> None:
        async with reading() as (entrance, sink), asyncio.timeout(LIMIT):
            os.write(sink, b"one\n")
            one = await entrance.line()
            assert one == Line(b"one")
            os.write(sink, b"two\nthree")
            os.close(sink)
            await entrance.hung_up.wait()
            entrance.done(Line(b"one"))
            for expected in (b"two", b"three"):
                line = await entrance.line()
                assert line == Line(expected)
                entrance.done(Line(expected))
            assert await entrance.line() is None

    run(story())


def test_what_cannot_be_read_is_at_its_end() -> None:
    """A descriptor that was never there."""

    async def story() -> None:
        source, sink = os.pipe()
        os.close(sink)
        entrance = Input(source, asyncio.get_running_loop())
        os.close(source)
        entrance.start()
        async with asyncio.timeout(LIMIT):
            assert await entrance.line() is None
        entrance.stop()

    run(story())


def test_writing_waits_for_the_reader_and_ends_with_it() -> None:
    """A line that does not fit waits; when the reader goes, everybody who waits is told."""

    async def story() -> None:
        source, sink = os.pipe()
        broken = asyncio.Event()
        output = Output(sink, asyncio.get_running_loop(), broken.set)
        output.start()
        async with asyncio.timeout(LIMIT):
            await output.write(b"one")
            assert os.read(source, 100) == b"one\n"
            async with asyncio.TaskGroup() as group:
                writing = [group.create_task(_refused(output, b"x" * 1_000_000)) for _ in range(3)]
                await until(lambda: len(select.select([source], [], [], 0)[0]) == 1)
                assert os.read(source, 1000) == b"x" * 1000
                assert not any(task.done() for task in writing)
                os.close(source)
            await broken.wait()
            with pytest.raises(ClientClosed):
                await output.write(b"two")
        output.stop()
        os.close(sink)

    run(story())


async def _refused(output: Output, line: bytes) -> None:
    with pytest.raises(ClientClosed):
        await output.write(line)
