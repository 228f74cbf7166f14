"""One ticking clock for all limits in time.

A timer for each request costs more than everything else done for it; here each connection carries one number, its
`deadline`, and a tick twenty times a second looks at all of them. Limits are therefore met within 0.05 s.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

log = logging.getLogger(__name__)

NEVER: Final = float("inf")
TICK = 0.05


class Watched(Protocol):
    """Something with a limit. `deadline` is loop time in seconds, NEVER for none; `expire` is called once past it."""

    deadline: float

    def expire(self) -> None: ...


class Deadlines:
    """The clock. It ticks only while something is watched."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, item: Watched) -> None:
        """Look at `item` from now on."""
        self._watched.add(item)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._tick)

    def forget(self, item: Watched) -> None:
        """Stop looking at it."""
        self._watched.discard(item)

    def _tick(self) -> None:
        now = self._loop.time()
        for item in tuple(self._watched):
            if item.deadline <= now:
                item.deadline = NEVER
                try:
                    item.expire()
                except Exception:
                    log.exception("a limit in time could not be enforced")
        self._timer = self._loop.call_later(TICK, self._tick) if self._watched else None
