"""One clock for all limits: each is met once, none is lost because of another."""

from __future__ import annotations

import asyncio

from moongate.wire.deadlines import NEVER, TICK, Deadlines
from tests.hostile.talk import run, turned


class _Limited:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1


class _Failing(_Limited):
    def expire(self) -> None:
        super().expire()
        raise RuntimeError("an expiry that fails")


def test_a_limit_is_met_once_and_promptly() -> None:
    """Within two ticks after it, and never before it."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        clock = Deadlines(loop)
        started = loop.time()
        item, never = _Limited(started + 0.1), _Limited(NEVER)
        clock.watch(item)
        clock.watch(never)
        assert await turned(lambda: item.expired, 2)
        assert 0.1 <= loop.time() - started < 0.1 + 10 * TICK
        await asyncio.sleep(3 * TICK)
        assert (item.expired, never.expired) == (1, 0)
        clock.forget(item)
        clock.forget(never)

    run(work())


def test_a_limit_that_moves_is_met_where_it_is() -> None:
    """The last value counts; what is forgotten is not met."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        clock = Deadlines(loop)
        moved, forgotten = _Limited(loop.time() + 0.05), _Limited(loop.time() + 0.05)
        clock.watch(moved)
        clock.watch(forgotten)
        moved.deadline = loop.time() + 0.3
        clock.forget(forgotten)
        await asyncio.sleep(0.15)
        assert moved.expired == 0
        assert await turned(lambda: moved.expired, 2)
        assert forgotten.expired == 0
        clock.forget(moved)

    run(work())


def test_the_clock_rests_and_starts_again() -> None:
    """It ticks only while something is watched."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        clock = Deadlines(loop)
        for _ in range(2):
            item = _Limited(loop.time())
            clock.watch(item)
            assert await turned(lambda item=item: item.expired, 2)
            clock.forget(item)
            assert await turned(lambda: clock._timer is None, 2)

    run(work())


def test_an_expiry_that_fails_stops_no_other_limit() -> None:
    """The error is reported, and the clock goes on."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        reported: list[object] = []
        loop.set_exception_handler(lambda _, context: reported.append(context))
        clock = Deadlines(loop)
        failing, other = _Failing(loop.time()), _Limited(loop.time() + 0.2)
        clock.watch(failing)
        clock.watch(other)
        assert await turned(lambda: other.expired, 2), "the clock has stopped"
        assert failing.expired == 1
        clock.forget(failing)
        clock.forget(other)

    run(work())
