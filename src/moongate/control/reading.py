"""What the readers of YAML and JSON share: their limits, and how they refuse."""

from __future__ import annotations

from moongate.control.nodes import Place, cut_key
from moongate.errors import Complaint

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 1_000_000


class Unreadable(Exception):
    """The text cannot be understood from here on."""

    def __init__(self, place: Place, reason: str) -> None:
        super().__init__(reason)
        self.place = place
        self.reason = reason


def twice(key: str, second: Place, first: Place) -> Complaint:
    """The complaint about a key that stands twice in one block."""
    return Complaint(str(second), f"the key {cut_key(key)!r} was already given at {first}; keep one of them")
