"""Event streams: how soon the first event arrives, and what a stream costs while it is open."""

from __future__ import annotations

import contextlib
import http.client
import selectors
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.lanes import WrongAnswerError, open_sessions
from bench.load import Spread
from bench.processes import HOST, memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.lanes import Lane, Session

LOCATION = "streams"
_PATIENCE_SECONDS = 60.0
_READ = 65_536


@dataclass(frozen=True, slots=True)
class FirstEvent:
    """Microseconds to the first event of a GET stream (new connection included) and of a streamed POST (kept alive)."""

    get: Spread
    post: Spread


@dataclass(frozen=True, slots=True)
class StreamCost:
    """Bytes per open stream (resident, proportional), and how many streams still got an event when all were open."""

    opened: int
    delivered: int
    rss: float
    pss: float


def first_events(lanes: Sequence[Lane], count: int) -> dict[str, FirstEvent]:
    """Measure lanes in turn, so many times."""
    gets: dict[str, list[float]] = {lane.name: [] for lane in lanes}
    posts: dict[str, list[float]] = {lane.name: [] for lane in lanes}
    with contextlib.ExitStack() as stack:
        sessions = [open_sessions(lane, LOCATION, 1)[0] for lane in lanes]
        kept = [stack.enter_context(connect(session.lane)) for session in sessions]
        for _ in range(count + 1):
            for session, connection in zip(sessions, kept, strict=True):
                gets[session.lane.name].append(_first_of_get(session))
                posts[session.lane.name].append(_first_of_post(session, connection))
    # the first one of each opened connections behind the lane
    return {lane.name: FirstEvent(Spread.of(gets[lane.name][1:]), Spread.of(posts[lane.name][1:])) for lane in lanes}


def cost(lane: Lane, count: int, stub_port: int) -> StreamCost:
    """Open `count` streams, each in its own session, see an event on all, send another one, and weigh the process."""
    if lane.pid is None:
        raise ValueError(f"{lane.name} has no process to weigh")
    sessions = open_sessions(lane, LOCATION, count)
    before = memory(lane.pid)
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for session in sessions:
            connection = stack.enter_context(connect(session.lane))
            connection.sendall(session.request("GET", b""))
            selector.register(connection, selectors.EVENT_READ, bytearray())
        opened = _wait_for_events(selector, events=1)
        kick(stub_port)
        delivered = _wait_for_events(selector, events=2)
        after = memory(lane.pid)
    rss, pss = ((late - early) / count for late, early in zip(after, before, strict=True))
    return StreamCost(opened, delivered, rss, pss)


def connect(lane: Lane) -> socket.socket:
    """Open a connection to a lane; small requests leave at once."""
    connection = socket.create_connection((HOST, lane.port), timeout=_PATIENCE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _first_of_get(session: Session) -> float:
    began = time.perf_counter()
    with connect(session.lane) as connection:
        connection.sendall(session.request("GET", b""))
        _read_until(connection, b"\n\n")
        return (time.perf_counter() - began) * 1e6


def _first_of_post(session: Session, connection: socket.socket) -> float:
    began = time.perf_counter()
    connection.sendall(session.request())
    got = _read_until(connection, b"\n\n")
    took = (time.perf_counter() - began) * 1e6
    while not got.endswith(b"\r\n0\r\n\r\n"):
        got += _read_some(connection, got)
    return took


def _read_until(connection: socket.socket, end: bytes) -> bytes:
    got = b""
    while end not in got:
        got += _read_some(connection, got)
    if not got.startswith(b"HTTP/1.1 200 "):
        raise WrongAnswerError(f"expected an event stream, got {got[:200]!r}")
    return got


def _read_some(connection: socket.socket, so_far: bytes) -> bytes:
    data = connection.recv(_READ)
    if not data:
        raise WrongAnswerError(f"the connection was closed before the event was whole, after {so_far[-200:]!r}")
    return data


def _wait_for_events(selector: selectors.BaseSelector, events: int) -> int:
    """Read until every stream has had so many events; tell how many of them have."""
    waiting = {key.fd for key in selector.get_map().values() if key.data.count(b"data:") < events}
    done = len(selector.get_map()) - len(waiting)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while waiting and time.monotonic() < deadline:
        for key, _ in selector.select(timeout=1.0):
            data = key.fileobj.recv(_READ)  # type: ignore[union-attr]
            key.data.extend(data)
            if key.fd in waiting and (not data or key.data.count(b"data:") >= events):
                waiting.discard(key.fd)
                done += bool(data)
            if not data:
                selector.unregister(key.fileobj)
    return done


def kick(stub_port: int) -> int:
    """Have one event sent on every open stream; tell how many there are."""
    connection = http.client.HTTPConnection(HOST, stub_port, timeout=_PATIENCE_SECONDS)
    connection.request("POST", "/kick")
    count = int(connection.getresponse().read())
    connection.close()
    return count
