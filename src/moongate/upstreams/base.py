"""The narrow interface to a server: send one request, get a reply that is read piece by piece.

Every upstream looks like a streamable HTTP server, whatever it speaks: a POST is answered by JSON or by an event
stream, a GET by the stream of everything else. Servers that only exchange messages (stdio, HTTP+SSE) are a `Channel`;
`bridge` makes an upstream of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from moongate.errors import UpstreamError
from moongate.protocol.jsonrpc import Envelope
from moongate.wire.client import Listener
from moongate.wire.messages import ResponseHead


class Request(Protocol):
    """One request, as far as an upstream has to know it.

    `method` is POST, GET or DELETE. `lines` are header lines, complete with line ends. `body` None: without a body.
    `message` is what the body says (None: no body, or an array; then `batch` has its elements). `principal` is the
    caller's `Principal.key`; `session` the upstream's own session id; `revision` what was negotiated, or what the
    version header says ("" where nothing does). `modern`: of the stateless era. `events`: the client takes an event
    stream. `last_event_id`: it resumes one.
    """

    @property
    def method(self) -> str: ...
    @property
    def lines(self) -> bytes: ...
    @property
    def body(self) -> bytes | None: ...
    @property
    def message(self) -> Envelope | None: ...
    @property
    def batch(self) -> tuple[Envelope, ...]: ...
    @property
    def principal(self) -> str: ...
    @property
    def session(self) -> bytes | None: ...
    @property
    def revision(self) -> str: ...
    @property
    def modern(self) -> bool: ...
    @property
    def events(self) -> bool: ...
    @property
    def last_event_id(self) -> bytes | None: ...


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

    def listen(self, listener: Listener) -> bool:
        """Have `listener` told, once, as soon as more has arrived or nothing more can. False: it will not be."""
        ...

    def arrived(self) -> ResponseHead | None:
        """The head of a reply that is complete; None while something is missing, and of redirects."""
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

    def send_now(self, request: Request) -> Reply | None:
        """Like `send`, if the way is ready; None if it must be made first. Spares a coroutine."""
        ...

    async def send(self, request: Request, path: str | None = None) -> Reply:
        """Send a request. `path` replaces the target's own, for a redirect. Raises UpstreamError if it cannot be
        sent.
        """
        ...

    def renew(self) -> None:
        """It goes on under another configuration, whose headers for clients may differ."""
        ...

    def close(self) -> None:
        """No new requests; connections close when they are idle, processes are ended."""
        ...


class Receiver(Protocol):
    """Who hears what comes out of a channel. Neither method may raise or block."""

    def received(self, message: bytes) -> None:
        """One JSON-RPC message as the server wrote it: a JSON value on one line, without line end. Not judged yet."""
        ...

    def closed(self, error: UpstreamError) -> None:
        """The channel is at its end, once: nothing comes any more, nothing can be written."""
        ...


class Channel(Protocol):
    """A two-way stream of JSON-RPC messages with one server: a child's pipes, or an HTTP+SSE connection."""

    def write(self, message: bytes, failed: Callable[[UpstreamError], None]) -> None:
        """Send one message (a JSON value without line breaks). `failed` is called if this message alone could not be
        delivered; the end of the whole channel is the receiver's to hear.
        """
        ...

    def pause(self) -> None:
        """Stop reading: nobody takes what comes."""
        ...

    def resume(self) -> None:
        """Go on reading."""
        ...

    def close(self) -> None:
        """End it: the connection closes, the process tree ends (in the background). The receiver hears nothing."""
        ...


class Opener(Protocol):
    """Makes channels to one server."""

    async def open(self, receiver: Receiver) -> Channel:
        """A new channel. Raises UpstreamError (process_start and the network's classes)."""
        ...
