"""Inputs: pieces of the corpora, changed, cut, doubled and mixed by a generator with a known seed."""

from __future__ import annotations

import random

TOKENS = (
    *(
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"%",
        b"\\",
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
    ),
    *(
        b"chunked",
        b"transfer-encoding: chunked\r\n",
        b"content-length: 5\r\n",
        b"0\r\n\r\n",
        b"0x1",
        b"+1",
        b"-1",
        b"ffffffff",
    ),
    *(
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xe2\x84\xaa",
        b"\xc5\xbf",
        b"\\ud800",
        b"\\u0000",
        b"99999999999999999999",
    ),
    *(
        b'"id":1',
        b'"method":"x"',
        b'"params":{}',
        b"data: x\n\n",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"host: x\r\n",
        b"connection: close\r\n",
    ),
    *(b"expect: 100-continue\r\n", b"POST /mcp/time HTTP/1.1\r\n", b"1\r\na\r\n", b"NaN", b"null", b"[[[[[[[["),
)


def mutated(chance: random.Random, corpus: list[bytes]) -> bytes:
    """One input: an entry of the corpus after one to six changes."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.randint(1, 6)):
        _change(chance, data, corpus)
        if len(data) > 200_000:
            del data[100_000:]
    return bytes(data)


def _change(chance: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    at = chance.randint(0, len(data))
    end = min(len(data), at + chance.choice((1, 1, 2, 4, 16, 64)))
    kind = chance.randrange(8)
    if kind == 0:
        data[at:end] = b""
    elif kind == 1:
        data[at:at] = chance.choice(TOKENS)
    elif kind == 2:
        data[at:end] = chance.choice(TOKENS)
    elif kind == 3 and data:
        data[at % len(data)] ^= 1 << chance.randrange(8)
    elif kind == 4 and data:
        data[at % len(data)] = chance.randrange(256)
    elif kind == 5:
        data[at:at] = data[at:end] * chance.choice((1, 2, 50))
    elif kind == 6:
        other = chance.choice(corpus)
        start = chance.randint(0, len(other))
        data[at:end] = other[start : start + chance.choice((4, 32, 400))]
    else:
        del data[at:]


def pieces(chance: random.Random, data: bytes) -> list[bytes]:
    """`data` as it may arrive: whole, in a few packets, or byte by byte."""
    kind = chance.randrange(4)
    if kind == 0 or not data:
        return [data]
    if kind == 1 and len(data) < 2000:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(chance.randint(0, len(data)) for _ in range(chance.randint(1, 5)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
