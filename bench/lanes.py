"""A lane is a way to the server under load: direct, through nginx, through Moongate. All lanes are called alike."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass

from bench import payloads
from bench.processes import HOST

_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Door:
    """What one session calls: a path on the lane's port, with a token, and from a page of `origin` ("": no page)."""

    path: str
    token: str = payloads.TOKEN
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """`prefix` + location is the path, unless `doors` name other ones. `pid` is the process between (None: none).

    `exact`: answers must come byte for byte; otherwise what they say is compared, be it JSON or an event stream.
    `announced`: the server wants to hear `notifications/initialized` before the first call.
    """

    name: str
    port: int
    prefix: str = "/"
    pid: int | None = None
    doors: tuple[Door, ...] = ()
    exact: bool = True
    announced: bool = False

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
    page = {"Origin": door.origin} if door.origin else {}
    return {"Authorization": f"Bearer {door.token}", "Accept": accept, **page}


def open_sessions(lane: Lane, location: str, count: int) -> list[Session]:
    """Initialise `count` sessions over one connection."""
    connection = http.client.HTTPConnection(HOST, lane.port, timeout=_PATIENCE_SECONDS)
    sessions = []
    for number in range(count):
        door = lane.door(location, number)
        headers = {**_headers(door), "Content-Type": payloads.JSON}
        answered = _ask(connection, lane, _Question(door.path, payloads.INITIALIZE, headers, payloads.INITIALIZED))
        if answered is None:
            raise WrongAnswerError(f"{lane.name}: POST {door.path} gave no Mcp-Session-Id")
        sessions.append(Session(lane, door, answered))
        if lane.announced:
            _announce(connection, sessions[-1])
    connection.close()
    return sessions


def verify(session: Session, expected: bytes) -> None:
    """Make one call and compare the answer byte for byte."""
    connection = http.client.HTTPConnection(HOST, session.lane.port, timeout=_PATIENCE_SECONDS)
    headers = {**session.headers, "Content-Type": payloads.JSON}
    _ask(connection, session.lane, _Question(session.door.path, payloads.CALL, headers, expected))
    connection.close()


def _announce(connection: http.client.HTTPConnection, session: Session) -> None:
    headers = {**session.headers, "Content-Type": payloads.JSON}
    connection.request("POST", session.door.path, payloads.ANNOUNCED, headers)
    response = connection.getresponse()
    if response.read() or response.status != http.HTTPStatus.ACCEPTED:
        raise WrongAnswerError(f"{session.lane.name}: notifications/initialized gave {response.status}")


def _ask(connection: http.client.HTTPConnection, lane: Lane, question: _Question) -> str | None:
    """Ask, compare the answer, and give the session id that came with it, if any."""
    where = f"{lane.name}: POST {question.path}"
    try:
        connection.request("POST", question.path, question.body, question.headers)
        response = connection.getresponse()
        got = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise WrongAnswerError(f"{where} failed: {error!r}") from error
    wanted = question.expected
    alike = got == wanted if lane.exact else _means(got, wanted)
    if response.status != http.HTTPStatus.OK or not alike:
        same = next((at for at, pair in enumerate(zip(got, wanted, strict=False)) if pair[0] != pair[1]), "the end")
        expected = f"expected 200 and {len(wanted)}, they differ from byte {same}"
        raise WrongAnswerError(f"{where} gave {response.status} and {len(got)} bytes, {expected}: {got[:200]!r}")
    return response.headers.get("Mcp-Session-Id")


def _means(got: bytes, wanted: bytes) -> bool:
    """Tell whether an answer says what is wanted: the content of a tool's result, the revision of a handshake."""
    lines = [line.removeprefix(b"data:") for line in got.splitlines() if line.startswith((b"data:", b"{"))]
    try:
        result, expected = (json.loads(text)["result"] for text in (lines[-1], wanted))
    except (IndexError, KeyError, ValueError):
        return False
    return any(key in expected and result.get(key) == expected[key] for key in ("content", "protocolVersion"))
