"""Response heads that are alike: the answers of one origin differ in their length, in one field that may have another
value in each, and in hardly anything else for a second.

A head is cut into literal pieces around these two values; another one with the same pieces is recognised by comparing
bytes, at a fraction of what parsing costs. What is recognised is what parsing would have given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from moongate.wire.messages import (
    MAX_LENGTH_DIGITS,
    ResponseHead,
    find_head_end,
    parse_response,
)

MAX_HEAD: Final = 64 * 1024
MAX_FIELDS: Final = 200
# A second passes and the Date differs; what else differs is a status, or another route of the server.
REMEMBERED: Final = 8
REMEMBERED_BYTES: Final = 2048
MAX_VALUE: Final = 256
MAX_SEEN: Final = 4096
# After so many heads in a row that were like none before, only every so manyth is remembered: their origin writes
# something into each that comes only once.
STRANGERS: Final = 32

LENGTH: Final = b"content-length"
_VISIBLE: Final = re.compile(rb"[\x21-\x7e]+")


@lru_cache
def _values(own_name: bytes) -> re.Pattern[bytes]:
    """Finds the values that may be others: names and values as they stand, without what could be read in two ways."""
    names = b"|".join(re.escape(name) for name in (LENGTH, own_name) if name)
    return re.compile(rb"\r\n(%b):[ ]?([\x21-\x7e]+)(?=\r\n)" % names, re.IGNORECASE)


class _Form:
    """One remembered head: its literal pieces, and the names of the values that stand behind each (the last: none)."""

    __slots__ = ("digits", "head", "names", "own", "own_name", "pieces", "seen")

    def __init__(self, raw: bytes, head: ResponseHead, own_name: bytes) -> None:
        self.head = head
        self.own_name = own_name
        self.names: list[bytes] = []
        self.pieces: list[bytes] = []
        self.own = head.fields.get(own_name, b"")
        self.digits = head.fields.get(LENGTH, b"")
        self.seen: set[bytes] = set()
        start = 0
        for found in _values(own_name).finditer(raw):
            name = found[1].lower()
            if name == own_name or head.status not in (204, 304):  # whose length is not that of a body
                self.names.append(name)
                self.pieces.append(raw[start : found.start(2)])
                start = found.end(2)
        self.names.append(b"")
        self.pieces.append(raw[start:])

    def read(self, buffer: bytes) -> tuple[ResponseHead, int] | None:
        """The head at the beginning of `buffer`, and where it ends; None if it is no such head."""
        position = 0
        length, own = -1, self.own
        for index in range(len(self.pieces)):
            piece, name = self.pieces[index], self.names[index]
            start, position = position, position + len(piece)
            if buffer[start:position] != piece:  # costs less than asking `startswith`
                return None
            if not name:
                break
            end = buffer.find(b"\r", position)
            value = buffer[position:end] if 0 < end < position + MAX_VALUE else b""
            if name == self.own_name:
                if value not in self.seen and not self._is_value(value):
                    return None
                own = value
            elif value != self.digits:
                if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
                    return None
                length = int(value)
            position = end
        head = self.head
        if own != self.own:
            fields = head.fields.copy()
            fields[self.own_name] = own
            head = head.with_length(length if length >= 0 else head.length)
            head.fields = fields
        elif length >= 0:
            head = head.with_length(length)
        return head, position

    def _is_value(self, value: bytes) -> bool:
        if _VISIBLE.fullmatch(value) is None:
            return False
        if len(self.seen) < MAX_SEEN:
            self.seen.add(value)
        return True


class ResponseHeads:
    """Parses the response heads of one origin, and remembers the last few. `parse` is what it spares.

    `own_name`: the lower-case name of the field whose value may be another one in each answer.
    """

    def __init__(self, own_name: bytes = b"", parse: Callable[[bytes, int], ResponseHead] = parse_response) -> None:
        self.remembered: list[_Form] = []
        self._own_name = own_name
        self._parse = parse
        self._strangers = 0

    def read(self, buffer: bytes) -> tuple[ResponseHead, int] | None:
        """The head at the beginning of `buffer`, and where it ends; None if more is needed. Raises MalformedMessage."""
        forms = self.remembered
        for form in forms:
            found = form.read(buffer)
            if found is not None:
                self._strangers = 0
                if form is not forms[0]:
                    forms.remove(form)
                    forms.insert(0, form)
                return found
        end = find_head_end(buffer, MAX_HEAD)
        if not end:
            return None
        raw = buffer[:end]
        head = self._parse(raw, MAX_FIELDS)
        self._strangers += 1
        strange = self._strangers > STRANGERS and self._strangers % STRANGERS
        if head.status >= 200 and len(raw) <= REMEMBERED_BYTES and not head.more and not strange:
            forms.insert(0, _Form(raw, head, self._own_name))
            del forms[REMEMBERED:]
        return head, end
