"""Request and response heads: parsed by llhttp (through httptools), then held to what llhttp lets pass.

llhttp is strict about tokens, control characters, folding, bare CR and LF, and two lengths (RFC 9112 sections 2 to 6).
It accepts two spaces in the request line, absolute-form targets, HTTP/2.0, a missing or second Host,
`Transfer-Encoding` on HTTP/1.0 and codings before `chunked`; those are refused here. It is fed exactly one head, so it
never sees a body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import _lru_cache_wrapper, lru_cache
from http import HTTPStatus
from typing import Final, TypeVar

import httptools

from moongate.errors import MoongateError

MAX_LENGTH_DIGITS: Final = 18
REMEMBERED_BYTES: Final = 256
REMEMBERED_HEAD: Final = 2048

T = TypeVar("T")

# RFC 9112 section 3: one space each, origin-form (RFC 3986 characters only) or asterisk-form; 1.0 and 1.1 only.
_REQUEST_LINE = re.compile(
    rb"([A-Z]{1,20}) "
    rb"(\*|/[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*(?:\?[A-Za-z0-9\-._~%!$&'()*+,;=:@/?|\[\]{}\"^`]*)?)"
    rb" HTTP/1\.([01])"
)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_LENGTH_LINE = re.compile(rb"\r\n[Cc][Oo][Nn][Tt][Ee][Nn][Tt]-[Ll][Ee][Nn][Gg][Tt][Hh]: ?([0-9]{1,18})(?=\r\n)")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%0[0-9A-Fa-f]|%1[0-9A-Fa-f]|%7[Ff]")
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")

_DECIMALS: Final = [b"%d" % number for number in range(2048)]
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class MalformedMessage(MoongateError):
    """A head or a body that is not HTTP/1.1 as RFC 9112 wants it. `status` is the answer a server gives."""

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


class Head:
    """Header fields: `fields` maps the lower-case name to the first value; `more` holds repeated ones in order."""

    __slots__ = ("fields", "minor", "more")

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.more: list[tuple[bytes, bytes]] = []
        self.minor = 1

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All fields; repeated ones after all first ones."""
        yield from self.fields.items()
        yield from self.more

    def repeated(self, name: bytes) -> bool:
        """Whether a field of this lower-case name came more than once."""
        return any(other == name for other, _ in self.more)

    def connection_options(self) -> frozenset[bytes]:
        """The lower-case options of `Connection` (RFC 9110 section 7.6.1), all its field lines joined."""
        values = [value for name, value in self.items() if name == b"connection"]
        return frozenset(option.strip(b" \t") for option in b",".join(values).lower().split(b",")) - {b""}

    # httptools calls this for each field line while it parses.
    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in self.fields:
            self.more.append((name, value.rstrip(b" \t")))
        else:
            self.fields[name] = value.rstrip(b" \t")


class Memo:
    """What the reader of a head wants to remember with it; shared by all heads that differ only in their length."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: object = None


class RequestHead(Head):
    """`target` is origin-form or `*`; `path` and `query` (None: no question mark) are its halves, not decoded.

    Never changed once parsed: it may stand for many requests. `like`: the same head once more, so that some of it can
    be said otherwise.
    """

    __slots__ = ("chunked", "keep_alive", "length", "memo", "method", "path", "query", "target")

    def __init__(self, like: RequestHead | None = None) -> None:
        if like is None:
            super().__init__()
            self.method = ""
            self.target = b""
            self.path = ""
            self.query: str | None = None
            self.length = 0
            self.chunked = False
            self.keep_alive = True
            self.memo = Memo()
        else:
            self.fields, self.more, self.minor, self.memo = like.fields, like.more, like.minor, like.memo
            self.method, self.target, self.path, self.query = like.method, like.target, like.path, like.query
            self.chunked, self.keep_alive, self.length = like.chunked, like.keep_alive, like.length

    def with_length(self, length: int) -> RequestHead:
        """The same head with another Content-Length. (Spelled out: `copy.copy` costs more than parsing.)"""
        head = RequestHead(self)
        head.length = length
        return head


class ResponseHead(Head):
    """`length` None: the body is chunked, or ends with the connection when `chunked` is False too.

    `like`: the same head once more, so that some of it can be said otherwise.
    """

    __slots__ = ("chunked", "keep_alive", "length", "memo", "status")

    def __init__(self, like: ResponseHead | None = None) -> None:
        if like is None:
            super().__init__()
            self.status = 0
            self.length: int | None = None
            self.chunked = False
            self.keep_alive = True
            self.memo = Memo()
        else:
            self.fields, self.more, self.minor, self.memo = like.fields, like.more, like.minor, like.memo
            self.status, self.length = like.status, like.length
            self.chunked, self.keep_alive = like.chunked, like.keep_alive

    def with_length(self, length: int | None) -> ResponseHead:
        """The same head with another Content-Length."""
        head = ResponseHead(self)
        head.length = length
        return head


class RequestHeads:
    """Parses request heads and remembers those that are worth it: clients say the same few all day.

    Two heads are the same if they differ in nothing but the digits of their Content-Length. The oldest are forgotten.
    """

    def __init__(self, max_fields: int, remembered: int) -> None:
        self._max_fields = max_fields
        self._remembered = remembered
        self._exact: dict[bytes, RequestHead] = {}
        self._known: dict[bytes, RequestHead] = {}

    def parse(self, raw: bytes) -> RequestHead:
        """As `parse_request`."""
        exact = self._exact.get(raw)
        if exact is not None:
            return exact
        length = _LENGTH_LINE.search(raw)
        known = None if length is None else self._known.get(raw[: length.start(1)] + raw[length.end(1) :])
        if known is None or length is None:
            return parse_request(raw, self._max_fields)
        return known.with_length(int(length[1]))

    def seen(self, raw: bytes) -> RequestHead | None:
        """A head that came before, byte for byte; None for anything else, whole or not."""
        return self._exact.get(raw)

    def keep(self, raw: bytes, head: RequestHead) -> None:
        """Remember what `raw` was parsed to."""
        if raw in self._exact or len(raw) > REMEMBERED_HEAD:
            return
        self._remember(self._exact, raw, head)
        length = _LENGTH_LINE.search(raw)
        if length is not None and int(length[1]) == head.length:  # not of a status without a body
            self._remember(self._known, raw[: length.start(1)] + raw[length.end(1) :], head)

    def _remember(self, known: dict[bytes, RequestHead], key: bytes, head: RequestHead) -> None:
        if len(known) >= self._remembered:
            del known[next(iter(known))]
        known[key] = head


def _keep_alive(head: Head) -> bool:
    value = head.fields.get(b"connection")
    if value is None or (value == b"keep-alive" and not head.more):
        return value is not None or head.minor == 1
    options = head.connection_options()
    return b"close" not in options and (head.minor == 1 or b"keep-alive" in options)


def _feed(parser: httptools.HttpRequestParser | httptools.HttpResponseParser, raw: bytes, limit: int) -> None:
    count = raw.count(b"\n") - 2
    if count > limit:
        raise MalformedMessage(f"{count} header fields, {limit} are allowed", 431)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        # RFC 9110 section 7.8: a server may ignore Upgrade; Java's HTTP client offers h2c with every first request. The
        # client side refuses 101 like every answer that was not asked for.
        pass
    except httptools.HttpParserError as error:
        raise MalformedMessage(f"malformed head: {error}") from None


def _first_line(parse: _lru_cache_wrapper[T], raw: bytes) -> T:
    """Parse the first line; long ones are not remembered, so that strangers cannot fill the memory with them."""
    line = raw[: raw.find(b"\r\n")]
    return parse(line) if len(line) <= REMEMBERED_BYTES else parse.__wrapped__(line)


@lru_cache(maxsize=1024)
def _request_line(line: bytes) -> tuple[str, bytes, str, str | None, int]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise MalformedMessage("the request line is not METHOD, one space, an origin-form target, one space, HTTP/1.1")
    method, target, minor = match.groups()
    if b"%" in target and _BAD_ESCAPE.search(target):
        raise MalformedMessage("the request target has a bad or control-character escape")
    path, mark, query = target.decode().partition("?")
    return method.decode(), target, path, query if mark else None, int(minor)


def parse_request(raw: bytes, max_fields: int) -> RequestHead:
    """One request head, from its first byte to its empty line inclusive. Raises MalformedMessage (400, 417, 431)."""
    head = RequestHead()
    head.method, head.target, head.path, head.query, head.minor = _first_line(_request_line, raw)
    _feed(httptools.HttpRequestParser(head), raw, max_fields)
    _frame_request(head)
    return head


def _frame_request(head: RequestHead) -> None:
    """RFC 9112 sections 3.2 (Host) and 6 (message body): anything that two recipients could read differently is 400."""
    fields = head.fields
    host = fields.get(b"host")
    if host is None:
        if head.minor == 1:
            raise MalformedMessage("HTTP/1.1 without Host")
    elif not (_is_host(host) if len(host) <= REMEMBERED_BYTES else _HOST.fullmatch(host)):
        raise MalformedMessage("Host is not a host name or address with an optional port")
    if head.more:
        for name in (b"host", b"content-length", b"transfer-encoding"):
            if head.repeated(name):
                raise MalformedMessage(f"more than one {name.decode()}")
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if coding.lower() != b"chunked" or head.minor == 0 or length is not None:
            raise MalformedMessage("Transfer-Encoding must be exactly chunked, on HTTP/1.1, without Content-Length")
        head.chunked = True
    elif length is not None:
        head.length = _length(length)
    expect = fields.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise MalformedMessage("an expectation other than 100-continue", 417)
    head.keep_alive = _keep_alive(head)


@lru_cache(maxsize=1024)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
        raise MalformedMessage("Content-Length is not a plain number")
    return int(value)


@lru_cache(maxsize=256)
def _status_line(line: bytes) -> tuple[int, int]:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise MalformedMessage("the status line is not HTTP/1.1")
    return int(match[2]), int(match[1])


def parse_response(raw: bytes, max_fields: int) -> ResponseHead:
    """One response head, final or interim. Raises MalformedMessage; never trusts two framings at once."""
    head = ResponseHead()
    head.status, head.minor = _first_line(_status_line, raw)
    _feed(httptools.HttpResponseParser(head), raw, max_fields)
    coding = head.fields.get(b"transfer-encoding")
    length = head.fields.get(b"content-length")
    if coding is not None:
        if coding.lower() != b"chunked" or head.minor == 0 or length is not None or head.repeated(b"transfer-encoding"):
            raise MalformedMessage("Transfer-Encoding of the response is not exactly chunked")
        head.chunked = True
    elif length is not None:
        head.length = _length(length)
    if head.status < 200 or head.status in (204, 304):
        head.length, head.chunked = 0, False
    head.keep_alive = _keep_alive(head) and (head.chunked or head.length is not None)
    return head


@lru_cache(maxsize=1024)
def status_line(status: int) -> bytes:
    """`HTTP/1.1 404 Not Found` with its line end; an unregistered status has an empty reason (RFC 9112 section 4)."""
    return b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b""))


def decimal(number: int) -> bytes:
    """A number as digits, mostly without making them."""
    return _DECIMALS[number] if 0 <= number < 2048 else b"%d" % number


def find_head_end(buffer: bytes | bytearray, limit: int) -> int:
    """Index behind the empty line that ends a head; 0: not there yet. Raises MalformedMessage (400 bare LF, 431)."""
    end = buffer.find(b"\r\n\r\n")
    if 0 <= end <= limit - 4:
        return end + 4
    if len(buffer) >= limit:
        raise MalformedMessage(f"a head of more than {limit} bytes", 431)
    if buffer.count(b"\n") != buffer.count(b"\r\n"):
        raise MalformedMessage("a line that ends with a bare LF")
    return 0
