"""The one table of headers: what a client's request takes along to the backend, and what an answer takes back.

Requests: only what is listed goes on, because a credential under an unknown name must not reach a backend. Answers: all
passes but what belongs to the connection, to browsers' trust in the gateway's origin, or would name the backend.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from moongate.model.snapshot import Command, Target
from moongate.policies.headers import HeaderModifier
from moongate.wire.messages import Head, RequestHead

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream"

# Request headers that go on to the backend, beside Mcp-Param-* and what `forwardHeaders` names.
FORWARDED = frozenset(
    {
        b"accept",
        b"accept-language",
        b"content-type",
        b"last-event-id",
        b"mcp-protocol-version",
        b"mcp-method",
        b"mcp-name",
        b"user-agent",
        b"traceparent",
        b"tracestate",
    }
)
PARAMETERS = b"mcp-param-"

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# Answer headers that stop at the gateway. Access-Control-* stops too.
STOPPED = HOP_BY_HOP | {
    b"content-length",
    b"content-encoding",
    b"mcp-session-id",
    b"x-request-id",
    b"set-cookie",
    b"set-cookie2",
    b"location",
    b"content-location",
    b"refresh",
    b"www-authenticate",
    b"authentication-info",
    b"server",
    b"via",
    b"x-powered-by",
    b"alt-svc",
    b"link",
    b"strict-transport-security",
    b"public-key-pins",
    b"report-to",
    b"reporting-endpoints",
    b"nel",
    b"clear-site-data",
    b"service-worker-allowed",
    b"sourcemap",
}
_BROWSER = b"access-control-"

# Header lines of answers that are remembered for each route, and the longest value among them.
_REMEMBERED = 256
# A number this large after a colon is a port, not part of a time.
FIRST_TELLING_PORT = 1000
_REMEMBERED_BYTES = 128


def header_lines(fields: tuple[tuple[str, str], ...]) -> bytes:
    """Whole header lines of configured names and values (judged when they were read)."""
    return b"".join(b"%b: %b\r\n" % (name.encode("ascii"), value.encode()) for name, value in fields)


class RequestHeaders:
    """What the requests of one route carry to its target. `fixed` is the same for all of them."""

    def __init__(self, target: Target | Command, modifiers: tuple[HeaderModifier, ...], extra: tuple[str, ...]) -> None:
        added: list[tuple[str, str]] = list(target.headers) if isinstance(target, Target) else []
        stopped = {name.lower() for name, _ in added}
        for modifier in modifiers:
            gone = {name.lower() for name in modifier.remove} | {name.lower() for name, _ in modifier.set}
            stopped |= gone
            added = [(name, value) for name, value in added if name.lower() not in gone]
            added += [*modifier.set, *modifier.add]
        self.fixed = header_lines(tuple(added))
        self._passed = (FORWARDED | {name.lower().encode() for name in extra}) - {name.encode() for name in stopped}
        self._stopped = frozenset(name.encode() for name in stopped)

    def lines(self, head: RequestHead, upstream_session: bytes | None) -> bytes:
        """The header lines that one request adds to `fixed`."""
        fields = head.fields
        named: frozenset[bytes] = frozenset()
        connection = fields.get(b"connection")
        if connection is not None and (head.more or connection not in (b"keep-alive", b"close")):
            named = head.connection_options()
        passed = self._passed
        lines = [
            b"%b: %b\r\n" % item
            for item in (head.items() if head.more else fields.items())
            if (item[0] in passed or (item[0].startswith(PARAMETERS) and item[0] not in self._stopped))
            and not (named and item[0] in named)
        ]
        if upstream_session is not None:
            lines.append(b"mcp-session-id: %b\r\n" % upstream_session)
        return b"".join(lines)


class ResponseHeaders:
    """What the answers of one route carry to clients."""

    def __init__(
        self, target: Target | Command, modifiers: tuple[HeaderModifier, ...], secrets: frozenset[str]
    ) -> None:
        self._hidden = _what_is_hidden(target if isinstance(target, Target) else None, secrets)
        self._removed: frozenset[bytes] = frozenset()
        self._added = b""
        self._known: dict[tuple[bytes, bytes], bytes] = {}
        for modifier in modifiers:
            names = {*modifier.remove, *(name for name, _ in modifier.set)}
            self._removed |= {name.lower().encode() for name in names}
            self._added += header_lines(modifier.set + modifier.add)

    def lines(self, head: Head) -> bytes:
        """The header lines of a backend's answer that pass, and what the operator adds."""
        fields = head.fields
        connection = fields.get(b"connection")
        if connection is not None and (head.more or connection not in (b"keep-alive", b"close")):
            named = head.connection_options()
            return b"".join([self._line(item) for item in head.items() if item[0] not in named]) + self._added
        known = self._known
        lines = []
        for item in head.items() if head.more else fields.items():
            line = known.get(item)
            lines.append(self._line(item) if line is None else line)
        lines.append(self._added)
        return b"".join(lines)

    def _line(self, item: tuple[bytes, bytes]) -> bytes:
        """The line of one field, b"" if it stops here; remembered, because a backend sends the same few all day."""
        name, value = item
        stops = name in STOPPED or name.startswith(_BROWSER) or name in self._removed or self.tells(value)
        line = b"" if stops else b"%b: %b\r\n" % item
        if len(value) <= _REMEMBERED_BYTES:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[item] = line
        return line

    def own(self, fields: list[tuple[bytes, bytes]]) -> bytes:
        """The header lines of an answer that the gateway writes itself, changed as the operator wants."""
        kept = [b"%b: %b\r\n" % item for item in fields if item[0] not in self._removed]
        return b"".join(kept) + self._added

    def tells(self, value: bytes) -> bool:
        """Whether a text holds the backend's address or a credential that it was sent."""
        return self._hidden.search(value) is not None


@lru_cache(maxsize=4096)
def _what_is_hidden(target: Target | None, secrets: frozenset[str]) -> re.Pattern[bytes]:
    """Remembered over reloads, which otherwise hold up calls when there are many routes."""
    patterns = [re.escape(text.encode()) for text in secrets if text]
    if target is not None:
        patterns += _address_patterns(target)
    return re.compile(b"|".join(patterns) if patterns else b"(?!)", re.IGNORECASE)


def _address_patterns(target: Target) -> list[bytes]:
    patterns = [re.escape(authority.encode()) for authority in {target.authority, target.called}]
    # A name without dots is a word.
    patterns.append(rb"(?<![\w.-])" + re.escape(target.host.encode()) + rb"(?![\w-])")
    if target.port >= FIRST_TELLING_PORT:  # whatever address stands before it: the one behind a name, for example
        patterns.append(b":%d(?![0-9])" % target.port)
    return patterns


def media_type(fields: Mapping[bytes, bytes]) -> bytes:
    """The lower-case type/subtype of Content-Type, empty if there is none."""
    return _type_of(fields.get(b"content-type", b""))


@lru_cache(maxsize=256)
def _type_of(value: bytes) -> bytes:
    return value.partition(b";")[0].strip(b" \t").lower()
