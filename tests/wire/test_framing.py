"""Framing does not depend on how the bytes arrive: any cut of any valid stream gives the same as the whole."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moongate.wire.bodies import Body, ChunkedBody, SizedBody, UntilClose
from moongate.wire.messages import MalformedMessage, find_head_end, parse_request, parse_response
from tests.wire.shapes import BLANKS, FIELDS, PAYLOADS, chunked, cuts

LIMIT = 64 * 1024


def _end_of(pieces: list[bytes]) -> int:
    """Where the head ends when the pieces arrive one after another."""
    buffer = b""
    for piece in pieces:
        buffer += piece
        if end := find_head_end(buffer, LIMIT):
            return end
    return 0


def _fed(body: Body, pieces: list[bytes]) -> tuple[bytes, bool, bytes]:
    """Payload, whether it ended, and what came behind it."""
    payload = b""
    for at, piece in enumerate(pieces):
        payload += body.feed(piece)
        if body.done:
            return payload, True, body.rest + b"".join(pieces[at + 1 :])
    return payload, False, b""


@given(st.data(), FIELDS, st.sampled_from([b"1.0", b"1.1"]), st.binary(max_size=50))
def test_a_request_head_is_the_same_however_it_is_cut(
    data: st.DataObject, fields: list[tuple[bytes, bytes]], version: bytes, behind: bytes
) -> None:
    """Its end is found at the same place, and all its fields are there, in order, blanks around values gone."""
    lines = b"".join(b"%b:%b%b%b\r\n" % (name, data.draw(BLANKS), value, data.draw(BLANKS)) for name, value in fields)
    raw = b"POST /a/b?c=%%20 HTTP/%b\r\nHost: x:1\r\n" % version + lines + b"\r\n"

    assert _end_of(data.draw(cuts(raw + behind))) == len(raw)

    head = parse_request(raw, 100)
    assert sorted(head.items()) == sorted([(b"host", b"x:1"), *((name.lower(), value) for name, value in fields)])
    for name in {name.lower() for name, _ in fields}:
        expected = [value for other, value in fields if other.lower() == name]
        assert [value for other, value in head.items() if other == name] == expected
    assert (head.method, head.target, head.path, head.query) == ("POST", b"/a/b?c=%20", "/a/b", "c=%20")
    assert head.keep_alive is (version == b"1.1")


@given(st.data(), FIELDS, st.integers(200, 599), st.binary(max_size=50))
def test_a_response_head_is_the_same_however_it_is_cut(
    data: st.DataObject, fields: list[tuple[bytes, bytes]], status: int, behind: bytes
) -> None:
    """The same for the other direction."""
    lines = b"".join(b"%b: %b\r\n" % item for item in fields)
    raw = b"HTTP/1.1 %d Some Reason\r\nContent-Length: 7\r\n" % status + lines + b"\r\n"
    assert _end_of(data.draw(cuts(raw + behind))) == len(raw)
    head = parse_response(raw, 100)
    assert head.status == status
    assert head.length == (0 if status in (204, 304) else 7)
    assert sorted(head.items()) == sorted(
        [(b"content-length", b"7"), *((name.lower(), value) for name, value in fields)]
    )


@given(st.data(), PAYLOADS, st.binary(max_size=60))
def test_a_chunked_body_is_the_same_however_it_is_cut(
    data: st.DataObject, payloads: list[bytes], behind: bytes
) -> None:
    """Its payload is what was put in, and what follows it is handed back to the last byte."""
    raw = data.draw(chunked(payloads))
    assert _fed(ChunkedBody(), data.draw(cuts(raw + behind))) == (b"".join(payloads), True, behind)


@given(st.data(), PAYLOADS)
def test_a_chunked_body_is_never_over_before_its_end(data: st.DataObject, payloads: list[bytes]) -> None:
    """Every proper beginning of one is unfinished, and gives a beginning of the payload."""
    raw = data.draw(chunked(payloads))
    cut = data.draw(st.integers(0, len(raw) - 1))
    payload, done, _ = _fed(ChunkedBody(), data.draw(cuts(raw[:cut])))
    assert not done
    assert b"".join(payloads).startswith(payload)


NEARLY_CHUNKED = st.lists(
    st.sampled_from(
        [
            b"0",
            b"1",
            b"5",
            b"a",
            b"\r\n",
            b"\r",
            b"\n",
            b"\r\n\r\n",
            b";",
            b" ",
            b"\t",
            b":",
            b"x",
            b"0x",
            b"0\r\n\r\n",
            b"-",
        ]
    ),
    max_size=16,
).map(b"".join)


@given(st.data(), NEARLY_CHUNKED)
@settings(max_examples=300)
def test_a_malformed_chunked_body_is_refused_however_it_is_cut(data: st.DataObject, raw: bytes) -> None:
    """One byte at a time, all at once, anything between: the same verdict, and the same payload if there is one."""

    def verdict(pieces: list[bytes]) -> object:
        try:
            return _fed(ChunkedBody(), pieces)
        except MalformedMessage as error:
            return error.status

    assert verdict(data.draw(cuts(raw))) == verdict([raw])


_STRICT = re.compile(
    rb"(?:0*([1-9a-fA-F][0-9a-fA-F]*)(?:[ \t]*;[\t\x20-\x7e]*)?\r\n)|(0+)(?:[ \t]*;[\t\x20-\x7e]*)?\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
)


def _oracle(raw: bytes) -> tuple[bytes, bytes] | None:
    """An independent reading: (payload, rest) of a complete chunked body, None for everything else."""
    payload, at = b"", 0
    while (match := _STRICT.match(raw, at)) is not None:
        at = match.end()
        if match[2]:
            return payload, raw[at:]
        size = int(match[1], 16)
        if raw[at + size : at + size + 2] != b"\r\n":
            return None
        payload += raw[at : at + size]
        at += size + 2
    return None


@given(NEARLY_CHUNKED)
@settings(max_examples=500)
@example(b"1\r\na\r\n0\r\n\r\n")
@example(b"0\r\n: x\r\n\r\n")
def test_chunked_bodies_are_read_as_the_grammar_reads_them(raw: bytes) -> None:
    """Accepted as complete exactly when the grammar finds a whole body."""
    try:
        payload, done, rest = _fed(ChunkedBody(), [raw])
    except MalformedMessage:
        assert _oracle(raw) is None
    else:
        assert ((payload, rest) if done else None) == _oracle(raw)


@given(st.data(), st.binary(max_size=100), st.binary(max_size=60))
def test_a_sized_body_ends_exactly(data: st.DataObject, payload: bytes, behind: bytes) -> None:
    """Not a byte more, not a byte less."""
    body = SizedBody(len(payload))
    if not payload:
        assert body.done
        return
    assert _fed(body, data.draw(cuts(payload + behind))) == (payload, True, behind)


@given(st.data(), st.binary(max_size=100))
def test_a_body_until_the_end_of_its_connection_is_never_done(data: st.DataObject, payload: bytes) -> None:
    """All of it is payload."""
    assert _fed(UntilClose(), data.draw(cuts(payload))) == (payload, False, b"")


FRAMES = [
    (b"", 0, False),
    (b"content-length: 0\r\n", 0, False),
    (b"content-length: 7\r\n", 7, False),
    (b"content-length: 999999999999999999\r\n", 999999999999999999, False),
    (b"Transfer-Encoding: CHUNKED\r\n", 0, True),
]


@pytest.mark.parametrize(("lines", "length", "is_chunked"), FRAMES)
def test_what_a_request_says_of_its_body(lines: bytes, length: int, is_chunked: bool) -> None:
    """Length and coding."""
    head = parse_request(b"POST / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n", 100)
    assert (head.length, head.chunked) == (length, is_chunked)


RESPONSES = [
    (b"HTTP/1.1 200 OK\r\n\r\n", None, False, False),
    (b"HTTP/1.0 200 OK\r\n\r\n", None, False, False),
    (b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\n", 5, False, True),
    (b"HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\n", 5, False, True),
    (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", 5, False, False),
    (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n", 5, False, True),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: x, Close\r\n\r\n", 5, False, False),
    (b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nconnection: close\r\ncontent-length: 5\r\n\r\n", 5, False, False),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", None, True, True),
    (b"HTTP/1.1 204 X\r\ncontent-length: 5\r\n\r\n", 0, False, True),
    (b"HTTP/1.1 304 X\r\ntransfer-encoding: chunked\r\n\r\n", 0, False, True),
    (b"HTTP/1.1 103 X\r\n\r\n", 0, False, True),
]


@pytest.mark.parametrize(("raw", "length", "is_chunked", "keep"), RESPONSES)
def test_what_a_response_says_of_its_body(raw: bytes, length: int | None, is_chunked: bool, keep: bool) -> None:
    """Length, coding, and whether another may follow on the connection."""
    head = parse_response(raw, 100)
    assert (head.length, head.chunked, head.keep_alive) == (length, is_chunked, keep)


KEPT = [
    (b"1.1", [], True),
    (b"1.1", [b"close"], False),
    (b"1.1", [b"keep-alive", b"close"], False),
    (b"1.1", [b"close", b"keep-alive"], False),
    (b"1.1", [b"x,CLOSE"], False),
    (b"1.1", [b"closed"], True),
    (b"1.0", [], False),
    (b"1.0", [b"keep-alive"], True),
    (b"1.0", [b"Keep-Alive"], True),
    (b"1.0", [b"x", b"keep-alive"], True),
    (b"1.0", [b"keep-alive", b"close"], False),
    (b"1.0", [b"x"], False),
]


@pytest.mark.parametrize(("version", "options", "keep"), KEPT)
def test_when_a_connection_is_kept(version: bytes, options: list[bytes], keep: bool) -> None:
    """`close` wins, wherever it stands."""
    lines = b"".join(b"Connection: %b\r\n" % option for option in options)
    assert parse_request(b"GET / HTTP/%b\r\nHost: x\r\n%b\r\n" % (version, lines), 100).keep_alive is keep


def test_a_head_without_end_is_refused_at_its_limit() -> None:
    """431 as soon as the limit is reached, 400 as soon as a bare LF is seen."""
    assert find_head_end(b"a" * 99, 100) == 0
    for data, status in ((b"a" * 100, 431), (b"a\nb", 400), (b"a\r\nb\n\r\n", 400), (b"\n", 400)):
        with pytest.raises(MalformedMessage) as caught:
            find_head_end(data, 100)
        assert caught.value.status == status


def test_what_strangers_send_is_not_remembered() -> None:
    """Thousands of different long heads leave next to nothing behind, whatever is cached of short ones."""
    tracemalloc.start()
    try:
        parse_request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 100)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2000):
            target = b"/%d" % number + b"a" * 30_000
            parse_request(b"GET %b HTTP/1.1\r\nHost: h%d\r\n\r\n" % (target, number), 100)
            parse_response(b"HTTP/1.1 200 %d%b\r\n\r\n" % (number, b"a" * 30_000), 100)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 4_000_000, f"{grown} bytes are kept"
