"""How often somebody may guess wrong: few times for one account or source, more for all together."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from moongate.control.platform.failures import TooMany

WINDOW = 300.0
EACH, ALL = 10, 1000
_REMEMBERED = 10_000


class Guesses:
    """Counts failures in memory, within a window of five minutes; a success forgets those of its keys."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, *keys: str) -> None:
        """Raises TooMany when one of the keys, or all guesses together, failed too often."""
        for key, limit in (*((key, EACH) for key in keys), ("", ALL)):
            recent = self._recent(key)
            if len(recent) >= limit:
                raise TooMany(max(1.0, recent[0] + WINDOW - self._clock()))

    def failed(self, *keys: str) -> None:
        """One wrong guess."""
        for key in (*keys, ""):
            self._failed[key] = [*self._recent(key), self._clock()][-ALL:]
            self._failed.move_to_end(key)
        while len(self._failed) > _REMEMBERED:
            self._failed.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        """A right one."""
        for key in keys:
            self._failed.pop(key, None)
        if self._failed.get(""):
            self._failed[""].pop()

    def _recent(self, key: str) -> list[float]:
        since = self._clock() - WINDOW
        return [at for at in self._failed.get(key, ()) if at > since]
