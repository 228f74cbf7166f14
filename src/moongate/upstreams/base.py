"""The narrow interface to a server: send one request, get a reply that is read piece by piece."""

from __future__ import annotations

from typing import Protocol

from moongate.wire.messages import ResponseHead


class Reply(Protocol):
    """What comes back. Ends with exactly one `release` or `cancel`, whichever way it goes.

    `complete`: the whole body has arrived; what was not taken yet is given by `take` at once.
    """

    @property
    def complete(self) -> bool: ...

    async def head(self) -> ResponseHead:
        """The final response's head within the first-byte limit. Raises UpstreamError."""
        ...

    async def read(self, seconds: float) -> bytes:
        """The next piece, b"" at the end, within `seconds`. Raises UpstreamError."""
        ...

    def take(self) -> bytes:
        """What has arrived and was not read yet."""
        ...

    def remaining(self) -> float:
        """Seconds left of the first-byte limit."""
        ...

    def release(self) -> None:
        """Done with it; the way to the server may be used again if the body was read to its end."""
        ...

    def cancel(self) -> None:
        """Stop: the server sees the connection close; whoever waits gets UpstreamError (upstream_reset)."""
        ...


class Upstream(Protocol):
    """One server, shared by all requests to it."""

    def send_now(self, method: str, lines: bytes, body: bytes | None) -> Reply | None:
        """Like `send`, if a connection is ready; None if one must be made first. Spares a coroutine."""
        ...

    async def send(self, method: str, lines: bytes, body: bytes | None, path: str | None = None) -> Reply:
        """Send a request with further header `lines` (complete with line ends). `body` None: without a body.

        `path` replaces the target's own, for a redirect. Raises UpstreamError if it cannot be sent.
        """
        ...

    def close(self) -> None:
        """No new requests; connections close when they are idle."""
        ...
