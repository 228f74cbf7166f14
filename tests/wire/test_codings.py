"""Compressed bodies are undone piece by piece: the same however they are cut, bounded, never silently short."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moongate.wire.codings import IDENTITY, PIECE, Inflate, coding_of
from moongate.wire.messages import MalformedMessage
from tests.wire.shapes import cuts


def _plain(pieces: list[bytes]) -> bytes:
    coding = Inflate()
    out = b""
    for piece in pieces:
        for plain in coding.decode(piece):
            assert 0 < len(plain) <= PIECE
            out += plain
    return out


@given(st.data(), st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_gzip_members_are_read_one_after_another(data: st.DataObject, members: list[bytes]) -> None:
    """RFC 1952: a file may have several; cut anywhere."""
    raw = b"".join(map(gzip.compress, members))
    assert _plain(data.draw(cuts(raw))) == b"".join(members)


@given(st.data(), st.binary(max_size=300))
def test_deflate_is_zlib(data: st.DataObject, plain: bytes) -> None:
    """As RFC 9110 section 8.4.1.2 has it."""
    assert _plain(data.draw(cuts(zlib.compress(plain)))) == plain


@pytest.mark.parametrize("extra", [-259, -258, -257, -1, 0, 1, 257, 258, 259])
def test_nothing_is_lost_where_a_piece_is_full(extra: int) -> None:
    """Lengths around the limit of one piece, where the decoder has more to give than it may."""
    plain = b"a" * (2 * PIECE + extra)
    packed = gzip.compress(plain)
    assert _plain([packed]) == plain
    assert _plain([packed[at : at + 1] for at in range(len(packed))]) == plain
    assert _plain([packed[:-8], packed[-8:]]) == plain


def test_a_bomb_comes_in_bounded_pieces() -> None:
    """Whoever takes it may stop at any of them."""
    bomb = gzip.compress(bytes(50_000_000))
    pieces = Inflate().decode(bomb)
    assert [len(next(pieces)) for _ in range(5)] == [PIECE] * 5


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=40))
def test_what_is_not_compressed_is_refused(data: bytes) -> None:
    """Whatever it is instead: an exception that is declared, or nothing at all."""
    try:
        _plain([data])
    except MalformedMessage:
        return
    assert len(data) < 20 or zlib.decompressobj(47).decompress(data) is not None


def test_garbage_behind_a_member_is_refused() -> None:
    """It is neither padding nor another member."""
    with pytest.raises(MalformedMessage):
        _plain([gzip.compress(b"a") + b"garbage"])


NAMES = [(b"identity", True), (b"", True), (b" \t", True), (b"gzip", False), (b"X-GZIP", False), (b"Deflate", False)]


@pytest.mark.parametrize(("name", "same"), NAMES)
def test_known_codings(name: bytes, same: bool) -> None:
    """Names in any case."""
    assert (coding_of({b"content-encoding": name}) is IDENTITY) is same
    assert coding_of({}) is IDENTITY


@pytest.mark.parametrize("name", [b"br", b"zstd", b"gzip, gzip", b"gzip;q=1", b"compress"])
def test_unknown_codings_are_refused(name: bytes) -> None:
    """Also two at once."""
    with pytest.raises(MalformedMessage):
        coding_of({b"content-encoding": name})
