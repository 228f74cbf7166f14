"""Response heads that are recognised say what parsing says, and nothing else is recognised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moongate.wire import alike
from moongate.wire.alike import MAX_FIELDS, REMEMBERED, ResponseHeads
from moongate.wire.messages import MalformedMessage, ResponseHead, parse_response

Facts = tuple[int, int, dict[bytes, bytes], int | None, bool, bool]

SESSIONS = st.sampled_from([b"a", b"7f3c-11", b"x" * 200, b"~!*'()", b"k=v;w"])
LENGTHS = st.sampled_from([b"0", b"1", b"240", b"007", b"99999", b"1" * 18])
OTHERS = st.lists(
    st.sampled_from(
        [
            (b"Content-Type", b"application/json"),
            (b"Date", b"Sat, 21 Nov 2026 20:00:00 GMT"),
            (b"X-Mcp-Session-Id", b"not-this"),
            (b"X", b"content-length: 5"),
            (b"Connection", b"close"),
            (b"Cache-Control", b""),
        ]
    ),
    max_size=4,
    unique_by=lambda field: field[0],
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A head as servers write it, with the two fields anywhere, in any case, with or without a blank."""
    fields = draw(OTHERS)
    if draw(st.booleans()):
        fields.append((draw(st.sampled_from([b"Content-Length", b"content-length", b"CONTENT-LENGTH"])), draw(LENGTHS)))
    if draw(st.booleans()):
        fields.append((draw(st.sampled_from([b"Mcp-Session-Id", b"mcp-session-id"])), draw(SESSIONS)))
    colon = draw(st.sampled_from([b": ", b":"]))
    status = draw(st.sampled_from([b"200 OK", b"202 Accepted", b"204 No Content", b"404 Not Found"]))
    lines = [b"%b%b%b\r\n" % (name, colon, value) for name, value in draw(st.permutations(fields))]
    return b"HTTP/1.1 %b\r\n%b\r\n" % (status, b"".join(lines))


def facts(head: ResponseHead) -> Facts:
    """All that readers of a head look at. (The length among the fields is nobody's business but `length`'s.)"""
    fields = {name: value for name, value in head.fields.items() if name != b"content-length"}
    return head.status, head.minor, fields, head.length, head.chunked, head.keep_alive


def parsed(raw: bytes) -> tuple[Facts, int] | str | None:
    """What parsing says of what stands at the beginning."""
    end = raw.find(b"\r\n\r\n") + 4
    if end < 4:
        return None
    try:
        return facts(parse_response(raw[:end], MAX_FIELDS)), end
    except MalformedMessage as error:
        return error.detail


def read(known: ResponseHeads, raw: bytes) -> tuple[Facts, int] | str | None:
    """What recognising says."""
    try:
        found = known.read(raw)
    except MalformedMessage as error:
        return error.detail
    return None if found is None else (facts(found[0]), found[1])


@given(st.lists(heads(), min_size=1, max_size=12), st.binary(max_size=20))
def test_it_says_what_parsing_says(written: list[bytes], body: bytes) -> None:
    """Heads in any order, alike or not, each twice, with bytes behind them."""
    known = ResponseHeads(b"mcp-session-id")
    for raw in written * 2:
        assert read(known, raw + body) == parsed(raw + body)


@given(heads(), heads(), st.data())
def test_pieces_and_slips_are_read_as_they_are(first: bytes, second: bytes, data: st.DataObject) -> None:
    """A head that is cut off anywhere is not there yet; one with another byte anywhere is what parsing says."""
    known = ResponseHeads(b"mcp-session-id")
    known.read(first)
    known.read(second)
    cut = data.draw(st.integers(0, len(second) - 1))
    assert known.read(second[:cut]) is None
    at = data.draw(st.integers(len(b"HTTP/1.1 200"), len(second) - 5))
    byte = data.draw(st.sampled_from([b"\0", b" ", b"\r", b"\n", b"\x80", b",", b"9", b"a", b"-", b":"]))
    changed = second[:at] + byte + second[at + 1 :]
    bare = changed.replace(b"\r\n", b"")
    if b"\n" not in bare and b"\r" not in bare:  # where a bare line end leads is `find_head_end`'s to say
        assert read(known, changed) == parsed(changed)


@pytest.mark.parametrize("value", [b"", b" a", b"a b", b"a\x7f", b"\xe9", b"a\tb", b"x" * 5000])
def test_a_session_that_is_no_token_is_parsed(value: bytes) -> None:
    """What `Mcp-Session-Id` may not be is left to the parser, and so is what is too long to be remembered."""
    known = ResponseHeads(b"mcp-session-id")
    raw = b"HTTP/1.1 200 OK\r\nmcp-session-id: %b\r\ncontent-length: 2\r\n\r\n"
    known.read(raw % b"good")
    assert read(known, raw % value) == parsed(raw % value)


def test_parsing_is_spared() -> None:
    """Only what is really new is parsed: another length or session is not, a second later everything once."""
    count = 0

    def counted(raw: bytes, limit: int) -> ResponseHead:
        nonlocal count
        count += 1
        return parse_response(raw, limit)

    known = ResponseHeads(b"mcp-session-id", counted)
    raw = b"HTTP/1.1 200 OK\r\ndate: second %d\r\nmcp-session-id: %b\r\ncontent-length: %d\r\n\r\n"
    for second in range(3):
        for number in range(50):
            found = known.read(raw % (second, b"s%d" % (number % 7), number))
            assert found is not None
            assert (found[0].length, found[0].fields[b"mcp-session-id"]) == (number, b"s%d" % (number % 7))
    assert count == 3


def test_an_origin_whose_heads_are_all_different_costs_little() -> None:
    """Only so many are remembered, and after a while hardly any."""
    known = ResponseHeads(b"mcp-session-id")
    for number in range(500):
        known.read(b"HTTP/1.1 200 OK\r\nx-id: %d\r\ncontent-length: 2\r\n\r\n" % number)
    assert len(known.remembered) <= REMEMBERED
    assert len({id(form) for form in known.remembered}) == len(known.remembered)
    usual = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    for _ in range(alike.STRANGERS + 1):
        known.read(usual)
    assert any(form.head.fields == {b"content-length": b"2"} for form in known.remembered)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_what_has_no_body_has_no_length(status: bytes) -> None:
    """Whatever its Content-Length says, and whatever it said before (RFC 9112 section 6.3, rule 1)."""
    known = ResponseHeads(b"mcp-session-id")
    for length in (b"0", b"5", b"0", b"7"):
        raw = b"HTTP/1.1 %b\r\ncontent-length: %b\r\n\r\n" % (status, length)
        found = known.read(raw)
        assert found is not None
        assert found[0].length == 0
