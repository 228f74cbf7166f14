"""New records as they come, of all journals of a store."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Self

from moongate.audit.filters import Filter
from moongate.audit.query import between
from moongate.audit.storing import read_positions
from moongate.audit.tables import PLACE_BITS
from moongate.store.engine import Store

EVERY_SECONDS = 0.25
MOST = 1000
_AT_ONCE = 5000
# Of more that nobody has looked at for long, the older ones count as dropped, whether they fit or not.
_MOST_READ = 200_000


class Tail:
    """Iterates over records that are stored after `start` (or after the first was asked for), in their order.

    Of more than `most` that fit since the last look the older ones are left out; `dropped` counts them. Raises
    ValueError, StoreAway.
    """

    def __init__(self, store: Store, wanted: Filter, *, every: float = EVERY_SECONDS, most: int = MOST) -> None:
        self.dropped = 0
        self._store = store
        self._wanted = wanted
        self._every = every
        self._most = most
        self._places: dict[int, int] | None = None
        self._waiting: deque[dict[str, Any]] = deque()

    async def start(self) -> None:
        """What is stored from now on is new."""
        self._places = await self._ends()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        if self._places is None:
            await self.start()
        while not self._waiting:
            self._waiting.extend(await self._fresh())
            if not self._waiting:
                await asyncio.sleep(self._every)
        return self._waiting.popleft()

    async def _ends(self) -> dict[int, int]:
        async with self._store.read() as connection:
            return {position.number: position.records for position in await read_positions(self._store, connection)}

    async def _fresh(self) -> deque[dict[str, Any]]:
        before, ends = self._places or {}, await self._ends()
        found: deque[dict[str, Any]] = deque(maxlen=self._most)
        for number, end in ends.items():
            begin = before.get(number, 0)
            if end - begin > _MOST_READ:
                self.dropped += end - begin - _MOST_READ
                begin = end - _MOST_READ
            base = number << PLACE_BITS
            for place in range(begin, end, _AT_ONCE):
                last = min(end, place + _AT_ONCE)
                fitting = await between(self._store, self._wanted, base + place + 1, base + last)
                self.dropped += max(0, len(found) + len(fitting) - self._most)
                found += fitting
        self._places = ends
        return found
