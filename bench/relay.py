"""What events cost on their way: on streamable HTTP, and through the HTTP+SSE door in front of an HTTP+SSE server.

The processor time of the gateway is what counts: it does not depend on how fast this load generator is.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import payloads
from bench.lanes import WrongAnswerError, open_sessions
from bench.load import Spread
from bench.processes import cpu_seconds, pause
from bench.streams import connect, kick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.lanes import Door, Lane
    from bench.plan import Plan

STREAMS = 32
STREAMABLE, SSE = "streamable-http", "sse"
SSE_DOOR = "/mcp/sse/sse"
_READ = 65_536
_PATIENCE_SECONDS = 30.0
_EVENT_END = b"\n\n"
_ANSWERED = payloads.SMALL[-16:]
_ADDRESS = re.compile(rb"data: (\S+)")


@dataclass(slots=True)
class Relay:
    """Microseconds of the gateway's processor time, by transport: for an event on an open stream, and for a call."""

    events: dict[str, list[float]] = field(default_factory=dict)
    calls: dict[str, list[float]] = field(default_factory=dict)

    def spread(self, figures: dict[str, list[float]], transport: str) -> Spread | None:
        """Sum up the rounds of one transport."""
        return Spread.of(figures[transport]) if figures.get(transport) else None

    def ratio(self, figures: dict[str, list[float]]) -> Spread | None:
        """Divide HTTP+SSE by streamable HTTP, round by round."""
        pairs = zip(figures.get(SSE, []), figures.get(STREAMABLE, []), strict=True)
        ratios = [one / other for one, other in pairs]
        return Spread.of(ratios) if ratios else None


class Reader:
    """Open connections of which each will get some number of marks: reads until all have."""

    def __init__(self, connections: list[socket.socket], mark: bytes) -> None:
        """Watch these from now on; close the reader before them."""
        self._mark = mark
        self._selector = selectors.DefaultSelector()
        for connection in connections:
            self._selector.register(connection, selectors.EVENT_READ, bytearray())
        self._count = len(connections)

    def wait(self) -> None:
        """Return when every connection has got one more mark. Raises WrongAnswerError after a while."""
        waiting, deadline = self._count, time.monotonic() + _PATIENCE_SECONDS
        while waiting:
            for key, _ in self._selector.select(timeout=1.0):
                data = key.fileobj.recv(_READ)  # type: ignore[union-attr]
                seen: bytearray = key.data
                seen += data
                if found := seen.count(self._mark):
                    waiting -= found
                    del seen[: seen.rindex(self._mark) + len(self._mark)]
                if not data:
                    raise WrongAnswerError(f"a connection was closed on which {self._mark!r} was awaited: {seen!r}")
            if time.monotonic() > deadline:
                raise WrongAnswerError(f"{waiting} of {self._count} connections still wait for {self._mark!r}")

    def close(self) -> None:
        """Stop watching."""
        self._selector.close()


def measure(lane: Lane, stub_port: int, chosen: Plan) -> Relay:
    """Measure both transports in turn."""
    found = Relay()
    for number in range(chosen.relay_rounds):
        transports = (STREAMABLE, SSE) if number % 2 else (SSE, STREAMABLE)
        for transport in transports:
            cost = _events(lane, transport, stub_port, chosen.relayed_events)
            found.events.setdefault(transport, []).append(cost)
        for transport in transports:
            found.calls.setdefault(transport, []).append(_calls(lane, transport, stub_port, chosen.relayed_events // 4))
    return found


def _events(lane: Lane, transport: str, stub_port: int, count: int) -> float:
    kicks = count // STREAMS
    with _streams(lane, transport, stub_port) as (reader, _):

        def relay() -> None:
            for _ in range(kicks):
                kick(stub_port)
                reader.wait()

        return _cost(lane, relay, kicks * STREAMS)


def _calls(lane: Lane, transport: str, stub_port: int, count: int) -> float:
    """Make calls, one at a time on each of the connections."""
    turns = count // STREAMS
    with contextlib.ExitStack() as stack:
        if transport == SSE:
            reader, addresses = stack.enter_context(_streams(lane, transport, stub_port, _ANSWERED))
            headers = _headers(lane.door("sse", 0))
            requests = [payloads.request("POST", lane.authority, path, headers, payloads.CALL) for path in addresses]
            posts = [stack.enter_context(connect(lane)) for _ in requests]
            accepted = Reader(posts, b"HTTP/1.1 202")
        else:
            sessions = open_sessions(lane, "answer", STREAMS)
            requests = [session.request() for session in sessions]
            posts = [stack.enter_context(connect(lane)) for _ in requests]
            reader, accepted = Reader(posts, _ANSWERED), None
            stack.callback(reader.close)
        if accepted is not None:
            stack.callback(accepted.close)

        def call() -> None:
            for _ in range(turns):
                for post, request in zip(posts, requests, strict=True):
                    post.sendall(request)
                reader.wait()
                if accepted is not None:
                    accepted.wait()

        return _cost(lane, call, turns * STREAMS)


def _cost(lane: Lane, work: Callable[[], None], count: int) -> float:
    if lane.pid is None:
        raise ValueError(f"{lane.name} has no process to watch")
    work_before = cpu_seconds(lane.pid)
    work()
    return (cpu_seconds(lane.pid) - work_before) / count * 1e6


@contextlib.contextmanager
def _streams(
    lane: Lane, transport: str, stub_port: int, mark: bytes = _EVENT_END
) -> Iterator[tuple[Reader, list[str]]]:
    """Open streams of a transport. Gives who reads them, and the address that each named (HTTP+SSE only)."""
    _await_streams(stub_port, 0)
    if transport == SSE:
        door = lane.door("sse", 0)
        requests = [payloads.request("GET", lane.authority, SSE_DOOR, _headers(door))] * STREAMS
    else:
        requests = [session.request("GET", b"") for session in open_sessions(lane, "streams", STREAMS)]
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(lane)) for _ in requests]
        addresses = [_first_event(*pair) for pair in zip(connections, requests, strict=True)]
        reader = Reader(connections, mark)
        stack.callback(reader.close)
        yield reader, addresses


def _first_event(connection: socket.socket, request: bytes) -> str:
    connection.sendall(request)
    got = b""
    while b"\n\n" not in got:
        data = connection.recv(_READ)
        got += data
        if not data or not b"HTTP/1.1 200".startswith(got[:12]):
            raise WrongAnswerError(f"expected an event stream, got {got[:300]!r}")
    found = _ADDRESS.search(got)
    return found[1].decode() if found else ""


def _await_streams(stub_port: int, count: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (still := kick(stub_port)) > count:
        if time.monotonic() > deadline:
            raise WrongAnswerError(f"{still} streams to the server are still open though their clients have gone")
        pause(0.01)


def _headers(door: Door) -> dict[str, str]:
    accept = f"{payloads.JSON}, {payloads.EVENT_STREAM}"
    return {"Authorization": f"Bearer {door.token}", "Accept": accept, "MCP-Protocol-Version": payloads.REVISION}
