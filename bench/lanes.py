"""A lane is a way to the server under load: direct, through nginx, through Moongate. All lanes are called alike."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from bench import payloads
from bench.processes import HOST

_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Door:
    """What one session calls: a path on the lane's port, with a token."""

    path: str
    token: str = payloads.TOKEN


@dataclass(frozen=True, slots=True)
class Lane:
    """`prefix` + location is the path, unless `doors` name other ones. `pid` is the process between (None: none)."""

    name: str
    port: int
    prefix: str = "/"
    pid: int | None = None
    doors: tuple[Door, ...] = ()

    def door(self, location: str, number: int) -> Door:
        """Give what session `number` calls."""
        return self.doors[number % len(self.doors)] if self.doors else Door(self.prefix + location)

    @property
    def authority(self) -> str:
        """The value of `Host`."""
        return f"{HOST}:{self.port}"


@dataclass(frozen=True, slots=True)
class Session:
    """A session as the client knows it: its door and the id that came back through the lane."""

    lane: Lane
    door: Door
    id: str

    @property
    def headers(self) -> dict[str, str]:
        """The fields of each request in this session, without those of a body."""
        return {**_headers(self.door), "MCP-Protocol-Version": payloads.REVISION, "Mcp-Session-Id": self.id}

    def request(self, method: str = "POST", body: bytes = payloads.CALL) -> bytes:
        """Give one whole request as bytes."""
        return payloads.request(method, self.lane.authority, self.door.path, self.headers, body)


@dataclass(frozen=True, slots=True)
class _Question:
    """One POST and the body that must answer it."""

    path: str
    body: bytes
    headers: dict[str, str]
    expected: bytes


class WrongAnswerError(Exception):
    """A lane answered something else than the stub says; figures of that lane mean nothing."""


def _headers(door: Door) -> dict[str, str]:
    accept = f"{payloads.JSON}, {payloads.EVENT_STREAM}"
    return {"Authorization": f"Bearer {door.token}", "Accept": accept}


def open_sessions(lane: Lane, location: str, count: int) -> list[Session]:
    """Initialise `count` sessions over one connection."""
    connection = http.client.HTTPConnection(HOST, lane.port, timeout=_PATIENCE_SECONDS)
    sessions = []
    for number in range(count):
        door = lane.door(location, number)
        headers = {**_headers(door), "Content-Type": payloads.JSON}
        answered = _ask(connection, lane, _Question(door.path, payloads.INITIALIZE, headers, payloads.INITIALIZED))
        sessions.append(Session(lane, door, answered))
    connection.close()
    return sessions


def verify(session: Session, expected: bytes) -> None:
    """Make one call and compare the answer byte for byte."""
    connection = http.client.HTTPConnection(HOST, session.lane.port, timeout=_PATIENCE_SECONDS)
    headers = {**session.headers, "Content-Type": payloads.JSON}
    _ask(connection, session.lane, _Question(session.door.path, payloads.CALL, headers, expected))
    connection.close()


def _ask(connection: http.client.HTTPConnection, lane: Lane, question: _Question) -> str:
    """Ask, compare the answer, and give the session id that came with it."""
    where = f"{lane.name}: POST {question.path}"
    try:
        connection.request("POST", question.path, question.body, question.headers)
        response = connection.getresponse()
        got = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise WrongAnswerError(f"{where} failed: {error!r}") from error
    wanted = question.expected
    if response.status != http.HTTPStatus.OK or got != wanted:
        same = next((at for at, pair in enumerate(zip(got, wanted, strict=False)) if pair[0] != pair[1]), "the end")
        expected = f"expected 200 and {len(wanted)}, they differ from byte {same}"
        raise WrongAnswerError(f"{where} gave {response.status} and {len(got)} bytes, {expected}: {got[:200]!r}")
    session = response.headers.get("Mcp-Session-Id")
    if session is None:
        raise WrongAnswerError(f"{where} gave no Mcp-Session-Id")
    return session
