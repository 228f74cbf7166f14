"""Who may send when: requests together, notifications alone and in order.

Over HTTP each message has a request of its own, and what is sent later may arrive earlier. A turn alone begins when all
earlier turns are over, and the later ones wait for its end; turns that are shared wait only for earlier ones alone.
"""

from __future__ import annotations

import asyncio


class Turn:
    """One place in the order: `begin`, then one `end` (more do no harm)."""

    __slots__ = ("_before", "_over", "_turns", "alone")

    def __init__(self, turns: Turns, before: tuple[asyncio.Future[None], ...], *, alone: bool) -> None:
        self.alone = alone
        self._turns = turns
        self._before = before
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def begin(self) -> None:
        """Wait until it is this one's turn."""
        waiting = [future for future in self._before if not future.done()]
        self._before = ()
        if waiting:
            await asyncio.wait(waiting)

    async def ended(self) -> None:
        """Wait until it is over."""
        if not self._over.done():
            await asyncio.wait((self._over,))

    def end(self) -> None:
        """The next may go."""
        if not self._over.done():
            self._over.set_result(None)
            self._turns.over(self._over)

    @property
    def over(self) -> asyncio.Future[None]:
        """Done when it is over."""
        return self._over


class Turns:
    """Hands out turns in the order in which they are asked for."""

    def __init__(self) -> None:
        self._alone: tuple[asyncio.Future[None], ...] = ()
        self._shared: set[asyncio.Future[None]] = set()

    def share(self) -> Turn:
        """A turn beside others: after the last one alone."""
        turn = Turn(self, self._alone, alone=False)
        self._shared.add(turn.over)
        return turn

    def alone(self) -> Turn:
        """A turn after all earlier ones, before all later ones."""
        turn = Turn(self, (*self._shared, *self._alone), alone=True)
        self._alone, self._shared = (turn.over,), set()
        return turn

    def over(self, future: asyncio.Future[None]) -> None:
        """A turn has ended."""
        self._shared.discard(future)
        if self._alone == (future,):
            self._alone = ()
