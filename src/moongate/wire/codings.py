"""Content codings, undone piece by piece (RFC 9110 section 8.4). We ask for `identity`; some backends compress all the
same.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

from moongate.wire.messages import MalformedMessage

PIECE = 256 * 1024
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class Coding:
    """`decode` gives the plain bytes of what it is fed, never more than PIECE at a time. Raises MalformedMessage."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Identity: as it came."""
        if data:
            yield data

    def finish(self) -> None:
        """The body has ended. Raises MalformedMessage if the coding says that something is missing."""


class Inflate(Coding):
    """gzip and deflate."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        """See `Coding.decode`."""
        try:
            while data:
                self._begun = True
                piece = self._stream.decompress(data, PIECE)
                if piece:
                    yield piece
                if self._stream.eof:
                    data = self._stream.unused_data
                    self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)  # RFC 1952: members may follow each other
                    self._begun = False
                else:
                    data = self._stream.unconsumed_tail
        except zlib.error as error:
            raise MalformedMessage(f"a compressed body that cannot be read: {error}") from None

    def finish(self) -> None:
        """See `Coding.finish`."""
        if self._begun:
            raise MalformedMessage("a compressed body that was cut off")


IDENTITY = Coding()


def coding_of(fields: Mapping[bytes, bytes]) -> Coding:
    """The coding that `Content-Encoding` names. Raises MalformedMessage for one that was not asked for and is not
    known.
    """
    name = fields.get(b"content-encoding", b"identity").strip(b" \t").lower()
    if name in (b"identity", b""):
        return IDENTITY
    if name in (b"gzip", b"x-gzip", b"deflate"):
        return Inflate()
    raise MalformedMessage("a content coding other than gzip, deflate and identity")
