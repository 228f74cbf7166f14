"""(host, path, method, headers, query) to route; pure.

Precedence: hostname exact, then longest wildcard, then none. Path exact, then longest prefix, then regex in the order
of the file. Among equals: a method match, then more header matches, then more query matches, then the order of the
file. A request costs a few dictionary look-ups, however many routes there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Generic, TypeVar
from urllib.parse import parse_qsl

from moongate.model.snapshot import Match, PathKind, ValueMatch

T = TypeVar("T")


class Door(Enum):
    """Which transport an address speaks."""

    STREAM = "streamable HTTP"
    SSE = "HTTP+SSE"
    MESSAGES = "messages of HTTP+SSE"


# Below a prefix only these exist.
SUFFIXES = {
    "": Door.STREAM,
    "/": Door.STREAM,
    "/mcp": Door.STREAM,
    "/v1/stream": Door.STREAM,
    "/sse": Door.SSE,
    "/events": Door.SSE,
    "/messages": Door.MESSAGES,
}

Condition = Callable[[str, Mapping[bytes, bytes], Sequence[tuple[str, str]]], bool]


def _value_test(match: ValueMatch) -> Callable[[str], bool]:
    if match.regex:
        pattern = re.compile(match.value)
        return lambda value: pattern.fullmatch(value) is not None
    return lambda value: value == match.value


def _condition(match: Match) -> Condition | None:
    if match.method is None and not match.headers and not match.query:
        return None
    headers = [(part.name.lower().encode(), _value_test(part)) for part in match.headers]
    query = [(part.name, _value_test(part)) for part in match.query]

    def holds(method: str, fields: Mapping[bytes, bytes], pairs: Sequence[tuple[str, str]]) -> bool:
        if match.method is not None and method != match.method:
            return False
        for name, test in headers:
            value = fields.get(name)
            if value is None or not test(value.decode("latin-1")):
                return False
        return all(any(key == name and test(value) for key, value in pairs) for name, test in query)

    return holds


class Router(Generic[T]):
    """The routes of one listener. `T` is whatever a match leads to."""

    def __init__(self, entries: Iterable[tuple[Match, T]]) -> None:
        ordered = sorted(
            entries,
            key=lambda entry: (entry[0].method is None, -len(entry[0].headers), -len(entry[0].query)),
        )
        self._exact: dict[str, list[tuple[Condition | None, T]]] = {}
        self._prefix: dict[str, list[tuple[Condition | None, T]]] = {}
        self._deepest = 0
        self._regex: list[tuple[re.Pattern[str], Condition | None, T]] = []
        for match, route in ordered:
            condition = _condition(match)
            if match.path.kind is PathKind.REGEX:
                self._regex.append((re.compile(match.path.value), condition, route))
            else:
                table = self._exact if match.path.kind is PathKind.EXACT else self._prefix
                table.setdefault(match.path.value, []).append((condition, route))
                self._deepest = max(self._deepest, match.path.value.count("/") + 2)

    def find(self, method: str, path: str, query: str | None, fields: Mapping[bytes, bytes]) -> tuple[T, Door] | None:
        """The route of a request and the door it came to, or None."""
        pairs = parse_qsl(query, keep_blank_values=True) if query else ()
        for condition, route in self._exact.get(path, ()):
            if condition is None or condition(method, fields, pairs):
                return route, Door.STREAM
        # A suffix has at most two segments: a deeper path is below no prefix, and is not walked up.
        prefix = path if path.count("/") <= self._deepest else ""
        while True:
            for condition, route in self._prefix.get(prefix, ()):
                if condition is None or condition(method, fields, pairs):
                    door = SUFFIXES.get(path[len(prefix) :])
                    return None if door is None else (route, door)
            if not prefix:
                break
            prefix = prefix[: prefix.rfind("/")]
        for pattern, condition, route in self._regex:
            if pattern.fullmatch(path) and (condition is None or condition(method, fields, pairs)):
                return route, Door.STREAM
        return None


class Hosts(Generic[T]):
    """The listeners of one port by hostname."""

    def __init__(self, entries: Iterable[tuple[str | None, T]]) -> None:
        self._names: dict[str, T] = {}
        self._suffixes: dict[str, T] = {}
        self.fallback: T | None = None
        for hostname, listener in entries:
            if hostname is None:
                self.fallback = listener
            elif hostname.startswith("*."):
                self._suffixes[hostname[1:]] = listener
            else:
                self._names[hostname] = listener

    def find(self, host: str) -> T | None:
        """The listener for a lower-case host name without port."""
        if not self._names and not self._suffixes:
            return self.fallback
        found = self._names.get(host)
        suffix = host
        while found is None and (dot := suffix.find(".", 1)) >= 0:
            suffix = suffix[dot:]
            found = self._suffixes.get(suffix)
        return self.fallback if found is None else found
