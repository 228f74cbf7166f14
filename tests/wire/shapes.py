"""Hypothesis strategies: bytes, and all the ways to cut them."""

from __future__ import annotations

from hypothesis import strategies as st

TOKENS = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789!#$%&'*+-.^_`|~", min_size=1, max_size=12)
VALUES = st.lists(st.sampled_from([*range(0x20, 0x7F), 0x09, 0x80, 0xC3, 0xFF]), max_size=20).map(
    lambda codes: bytes(codes).strip(b" \t")
)
BLANKS = st.sampled_from([b"", b" ", b"\t", b"  \t"])


def cuts(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Every way to cut `data`, single bytes and empty pieces included."""
    positions = st.lists(st.integers(0, len(data)), max_size=12).map(sorted)
    few = positions.map(lambda at: [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)])
    return st.one_of(few, st.just([data[at : at + 1] for at in range(len(data))]), st.just([data]))


FIELDS = st.lists(st.tuples(TOKENS.map(str.encode), VALUES), max_size=8).map(
    lambda fields: [
        (name, value)
        for name, value in fields
        if name.lower() not in (b"host", b"expect", b"content-length", b"transfer-encoding", b"connection", b"upgrade")
    ]
)
PAYLOADS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


@st.composite
def chunked(draw: st.DrawFn, payloads: list[bytes]) -> bytes:
    """A chunked body of these payloads, in any spelling that RFC 9112 section 7.1 allows."""
    out = b""
    for payload in [*payloads, b""]:
        size = draw(st.sampled_from([b"%x", b"%X", b"00%x"])) % len(payload)
        extension = draw(st.sampled_from([b"", b";a", b";a=b", b' ; a="b c"', b"\t;x"]))
        out += size + extension + b"\r\n" + (payload + b"\r\n" if payload else b"")
    for _ in range(draw(st.integers(0, 2))):
        out += draw(TOKENS).encode() + b":" + draw(BLANKS) + draw(VALUES) + b"\r\n"
    return out + b"\r\n"
