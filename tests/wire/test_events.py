"""Event streams are cut at event boundaries and nowhere else, and not a byte is lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moongate.wire.events import Splitter, encode_event, parse_event
from tests.wire.shapes import cuts

STREAMS = st.lists(
    st.sampled_from(
        [b"data: x", b"id: 1", b": c", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b"y" * 30, b"\xc3", b""]
    ),
    max_size=30,
).map(b"".join)


def _relayed(pieces: list[bytes], hold: int = 1 << 20) -> tuple[list[bytes], bytes]:
    """What a relay sends on, event by event, and what is left."""
    splitter, out = Splitter(hold), []
    for piece in pieces:
        out += splitter.feed(piece)
        out.append(splitter.overflow())
        assert splitter.held <= hold + 3
    return [block for block in out if block], splitter.rest()


@given(st.data(), STREAMS, st.integers(1, 40))
@settings(max_examples=500)
def test_not_a_byte_is_lost_or_moved(data: st.DataObject, stream: bytes, hold: int) -> None:
    """Events, parts of endless ones, and the rest joined are the stream."""
    blocks, rest = _relayed(data.draw(cuts(stream)), hold)
    assert b"".join(blocks) + rest == stream


def _plain(stream: bytes) -> list[bytes]:
    """An independent reading: line ends made LF, cut at empty lines, empty events left out."""
    text = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return [block for block in text.split(b"\n\n") if block.strip(b"\n")]


@given(st.data(), STREAMS)
@settings(max_examples=500)
@example(None, b"data: x\r\n\r\ndata: y\r\n\r\n")
def test_events_are_the_same_however_the_stream_is_cut(data: st.DataObject | None, stream: bytes) -> None:
    """A reader of the pieces finds the events that a reader of the whole finds."""
    pieces = [stream] if data is None else data.draw(cuts(stream))
    blocks, rest = _relayed(pieces)

    def events(parts: list[bytes]) -> list[object]:
        parsed = [parse_event(part) for part in parts]
        return [event for event in parsed if event.fields]

    assert events(blocks) == events(_relayed([stream])[0])
    assert len(events(blocks)) <= len(_plain(stream))
    assert b"".join(blocks) + rest == stream


@given(st.data(), st.lists(st.sampled_from([b"\n", b"\r", b"\r\n"]), min_size=2, max_size=2), st.integers(0, 60))
def test_an_event_is_given_out_as_soon_as_its_empty_line_is_there(
    data: st.DataObject, ends: list[bytes], more: int
) -> None:
    """Whatever its line ends are; CR alone counts once it is known that no LF follows, at the latest."""
    event = b"data: " + b"x" * more + b"".join(ends)
    if ends == [b"\r", b"\n"]:  # that is one line end
        return
    blocks, rest = _relayed([*data.draw(cuts(event)), b"data"])
    late = event.removesuffix(b"\n") if ends[1] == b"\r\n" else event  # the LF may come when the event has left
    assert b"".join(blocks) in (event, late)
    assert b"".join(blocks) + rest == event + b"data"


def _apart(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


BOUNDARIES = [
    (b"data: 1\n\ndata: 2\n\n", 2),
    (b"data: 1\r\n\r\ndata: 2\r\n\r\n", 2),
    (b"data: 1\r\rdata: 2\r\r", 2),
    (b"data: 1\n\r\ndata: 2\r\n\n", 2),
    (b"data: 1\r\ndata: 2\r\n\r\n", 1),
    (b"data: 1\rdata: 2\r\r", 1),
    (b"data: 1\r\n", 0),
    (b"data: 1\n", 0),
    (b"\n\n\n\n", 0),
    (b": c\n\ndata: 1\n\n", 1),
]


@pytest.mark.parametrize(("stream", "count"), BOUNDARIES)
def test_boundaries(stream: bytes, count: int) -> None:
    """Two line ends in a row, of any kind, and a CR LF is one of them; whole and byte by byte."""
    for pieces in ([stream], _apart(stream)):
        blocks, _ = _relayed(pieces)
        assert sum(parse_event(block).data is not None for block in blocks) == count


def test_a_comment_between_two_blocks_disturbs_no_event() -> None:
    """Wherever a block ends, a comment may be inserted: readers find the same events."""
    for stream, count in BOUNDARIES:
        for pieces in ([stream], _apart(stream)):
            blocks, rest = _relayed(pieces)
            mixed = b": keep-alive\n\n".join([*blocks, rest])
            data = re.findall(rb"data: (\d)", mixed)
            assert data == re.findall(rb"data: (\d)", stream)
            found = [parse_event(block) for block in Splitter().feed(mixed)]
            assert sum(event.data is not None for event in found) == count


def test_an_endless_event_is_passed_on_in_parts() -> None:
    """At most the limit is held, and its end is still found."""
    splitter = Splitter(1000)
    sent = b""
    for _ in range(100):
        assert splitter.feed(b"a" * 100) == []
        sent += splitter.overflow()
        assert splitter.held <= 1003
    assert len(sent) > 8000
    (end,) = splitter.feed(b"\n\nnext")
    assert (sent + end) == b"a" * 10_000 + b"\n\n"
    assert splitter.rest() == b"next"


EVENTS = [
    (b"data: a\n\n", b"a", b"", None, True),
    (b"data:a\n\n", b"a", b"", None, True),
    (b"data:  a\n\n", b" a", b"", None, True),
    (b"data\n\n", b"", b"", None, True),
    (b"data: a\ndata: b\n\n", b"a\nb", b"", None, True),
    (b"data: a\r\ndata: b\r\n\r\n", b"a\nb", b"", None, True),
    (b"event: x\ndata: a\n\n", b"a", b"x", None, True),
    (b"id: 7\n\n", None, b"", b"7", True),
    (b"id: 7\nid\n\n", None, b"", b"", True),
    (b"id: a\0b\n\n", None, b"", None, True),
    (b"retry: 5\n\n", None, b"", None, True),
    (b": comment\n\n", None, b"", None, False),
    (b"\n", None, b"", None, False),
    (b"Data: a\n\n", None, b"", None, True),
    (b" data: a\n\n", None, b"", None, True),
    (b"data : a\n\n", None, b"", None, True),
    (b"data: a:b\n\n", b"a:b", b"", None, True),
    (b"data: a\x0bb\x85\n\n", b"a\x0bb\x85", b"", None, True),
    ("data: a\u2028b\n\n".encode(), "a\u2028b".encode(), b"", None, True),
    (b"\xef\xbb\xbfdata: a\n\n", b"a", b"", None, True),
]


@pytest.mark.parametrize(("block", "data", "name", "event_id", "fields"), EVENTS)
def test_one_event(block: bytes, data: bytes | None, name: bytes, event_id: bytes | None, fields: bool) -> None:
    """Fields as the WHATWG standard reads them."""
    assert tuple(parse_event(block)) == (data, name, event_id, fields)


@given(st.binary(max_size=60).map(lambda data: data.replace(b"\r", b"")))
def test_what_is_encoded_is_read_again(data: bytes) -> None:
    """Line feeds included."""
    (block,) = Splitter().feed(encode_event(data))
    assert parse_event(block).data == data
