"""Request and response heads: parsed by llhttp (through httptools), then held to what llhttp lets pass.

llhttp is strict about tokens, control characters, folding, bare CR and LF, and two lengths (RFC 9112 sections 2 to 6). It
accepts two spaces in the request line, absolute-form targets, HTTP/2.0, a missing or second Host, `Transfer-Encoding` on
HTTP/1.0 and codings before `chunked`; those are refused here. It is fed exactly one head, so it never sees a body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus

import httptools

from moongate.errors import MoongateError

MAX_LENGTH_DIGITS = 18

# RFC 9112 section 3: one space each, origin-form (RFC 3986 characters only) or asterisk-form; 1.0 and 1.1 only.
_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) (\*|/[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*(?:\?[A-Za-z0-9\-._~%!$&'()*+,;=:@/?|\[\]{}\"^`]*)?) HTTP/1\.([01])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%0[0-9A-Fa-f]|%1[0-9A-Fa-f]|%7[Ff]")
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")

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


class RequestHead(Head):
    """`target` is origin-form or `*`; `path` and `query` (None: no question mark) are its halves, not decoded."""

    __slots__ = ("chunked", "keep_alive", "length", "method", "path", "query", "target")

    def __init__(self) -> None:
        super().__init__()
        self.method = ""
        self.target = b""
        self.path = ""
        self.query: str | None = None
        self.length = 0
        self.chunked = False
        self.keep_alive = True


class ResponseHead(Head):
    """`length` None: the body is chunked, or ends with the connection when `chunked` is False too."""

    __slots__ = ("chunked", "keep_alive", "length", "status")

    def __init__(self) -> None:
        super().__init__()
        self.status = 0
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = True


def _keep_alive(head: Head) -> bool:
    value = head.fields.get(b"connection")
    if value is None:
        return head.minor == 1
    options = head.connection_options()
    return b"close" not in options and (head.minor == 1 or b"keep-alive" in options)


def _count_fields(raw: bytes, limit: int) -> None:
    count = raw.count(b"\r\n") - 2
    if count > limit:
        msg = f"{count} header fields, {limit} are allowed"
        raise MalformedMessage(msg, 431)


def parse_request(raw: bytes, max_fields: int) -> RequestHead:
    """One request head, from its first byte to its empty line inclusive. Raises MalformedMessage (400, 417, 431)."""
    line = _REQUEST_LINE.match(raw)
    if line is None:
        msg = "the request line is not METHOD, one space, an origin-form target, one space, HTTP/1.1"
        raise MalformedMessage(msg)
    head = RequestHead()
    method, target, minor = line.groups()
    if b"%" in target and _BAD_ESCAPE.search(target):
        msg = "the request target has a bad or control-character escape"
        raise MalformedMessage(msg)
    _count_fields(raw, max_fields)
    try:
        httptools.HttpRequestParser(head).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # RFC 9110 section 7.8: a server may ignore Upgrade; Java's HTTP client offers h2c with every first request.
    except httptools.HttpParserError as error:
        msg = f"malformed head: {error}"
        raise MalformedMessage(msg) from None
    head.method = method.decode()
    head.target = target
    path, mark, query = target.decode().partition("?")
    head.path = path
    head.query = query if mark else None
    head.minor = 1 if minor == b"1" else 0
    _frame_request(head)
    return head


def _frame_request(head: RequestHead) -> None:
    """RFC 9112 sections 3.2 (Host) and 6 (message body): anything that two recipients could read differently is 400."""
    fields = head.fields
    host = fields.get(b"host")
    if host is None:
        if head.minor == 1:
            msg = "HTTP/1.1 without Host"
            raise MalformedMessage(msg)
    elif _HOST.fullmatch(host) is None:
        msg = "Host is not a host name or address with an optional port"
        raise MalformedMessage(msg)
    if head.more:
        for name in (b"host", b"content-length", b"transfer-encoding"):
            if head.repeated(name):
                msg = f"more than one {name.decode()}"
                raise MalformedMessage(msg)
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if coding.lower() != b"chunked" or head.minor == 0 or length is not None:
            msg = "Transfer-Encoding must be exactly chunked, on HTTP/1.1, without Content-Length"
            raise MalformedMessage(msg)
        head.chunked = True
    elif length is not None:
        head.length = _length(length)
    expect = fields.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        msg = "an expectation other than 100-continue"
        raise MalformedMessage(msg, 417)
    head.keep_alive = _keep_alive(head)


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
        msg = "Content-Length is not a plain number"
        raise MalformedMessage(msg)
    return int(value)


def parse_response(raw: bytes, max_fields: int) -> ResponseHead:
    """One response head, final or interim. Raises MalformedMessage; never trusts two framings at once."""
    line = _STATUS_LINE.match(raw)
    if line is None:
        msg = "the status line is not HTTP/1.1"
        raise MalformedMessage(msg)
    head = ResponseHead()
    _count_fields(raw, max_fields)
    try:
        httptools.HttpResponseParser(head).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # 101 is refused by the caller like every answer that was not asked for
    except httptools.HttpParserError as error:
        msg = f"malformed response head: {error}"
        raise MalformedMessage(msg) from None
    head.minor = 1 if line[1] == b"1" else 0
    head.status = int(line[2])
    coding = head.fields.get(b"transfer-encoding")
    length = head.fields.get(b"content-length")
    if coding is not None:
        if coding.lower() != b"chunked" or head.minor == 0 or length is not None or head.repeated(b"transfer-encoding"):
            msg = "Transfer-Encoding of the response is not exactly chunked"
            raise MalformedMessage(msg)
        head.chunked = True
    elif length is not None:
        head.length = _length(length)
    if head.status < HTTPStatus.OK or head.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        head.length, head.chunked = 0, False
    head.keep_alive = _keep_alive(head) and (head.chunked or head.length is not None)
    return head


def status_line(status: int) -> bytes:
    """`HTTP/1.1 404 Not Found` with its line end; an unregistered status has an empty reason (RFC 9112 section 4)."""
    return b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b""))


def find_head_end(buffer: bytes | bytearray, limit: int) -> int:
    """Index behind the empty line that ends a head; 0: not there yet. Raises MalformedMessage (400 bare LF, 431)."""
    end = buffer.find(b"\r\n\r\n", 0, limit)
    if end >= 0:
        return end + 4
    if len(buffer) >= limit:
        msg = f"a head of more than {limit} bytes"
        raise MalformedMessage(msg, 431)
    if buffer.count(b"\n") != buffer.count(b"\r\n"):
        msg = "a line that ends with a bare LF"
        raise MalformedMessage(msg)
    return 0
