"""How often somebody may guess wrong: few times at one account from one source, more for the one or the other, so that
nobody locks out others, and a bounded number for all together.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from moongate.control.platform.failures import TooMany

WINDOW = 300.0
EACH, OF_SOURCE, OF_NAME, ALL = 10, 50, 300, 1000
_REMEMBERED = 10_000


class Key(NamedTuple):
    """What is counted, and how often it may fail."""

    text: str
    most: int = EACH


class Guesses:
    """Counts failures in memory, within a window of five minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, *keys: Key) -> None:
        """Raises TooMany when one of the keys, or all guesses together, failed too often."""
        for text, most in (*keys, Key("", ALL)):
            recent = self._recent(text)
            if len(recent) >= most:
                raise TooMany(max(1.0, recent[0] + WINDOW - self._clock()))

    def failed(self, *keys: Key) -> None:
        """One wrong guess."""
        for text, most in (*keys, Key("", ALL)):
            self._failed[text] = [*self._recent(text), self._clock()][-most:]
            self._failed.move_to_end(text)
        while len(self._failed) > _REMEMBERED:
            self._failed.popitem(last=False)

    def succeeded(self, *keys: Key) -> None:
        """It was a right one: not counted, and the narrowest key forgets what went before."""
        for text, most in (*keys, Key("", ALL)):
            if most == EACH:
                self._failed.pop(text, None)
            elif self._failed.get(text):
                self._failed[text].pop()

    def _recent(self, key: str) -> list[float]:
        since = self._clock() - WINDOW
        return [at for at in self._failed.get(key, ()) if at > since]
