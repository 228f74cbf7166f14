"""What clients may do and no SDK client does, with the servers of the peer tests through the gateway."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from tests.peers.pairs import PREFIX, Park
from tests.peers.raw import Session, client, events

pytestmark = pytest.mark.peers

STREAMING_SERVERS = ["sdk1", "sdk2", "ts"]
TEN_MEGABYTES = 10 * 1024 * 1024


def address(park: Park, instance: str, suffix: str = "") -> str:
    """An instance's address at the gateway."""
    return f"{park.gateway}{PREFIX}/{instance}{suffix}"


@pytest.mark.requirement("PM-28", "PM-29")
@pytest.mark.parametrize("resume_first", [True, False], ids=["resume-then-end", "end-then-resume"])
@pytest.mark.parametrize("server", STREAMING_SERVERS)
def test_a_dropped_stream_is_resumed(park: Park, server: str, *, resume_first: bool) -> None:
    """A client hangs up after the first event: the call goes on, and its result comes to the one who resumes."""
    key = f"{server} {resume_first}"
    with client() as http:
        session = Session(http, address(park, server))
        with session.call("was_cancelled", 1, key=key) as response:
            event_id = next(events(response))[0]
        assert event_id
        if resume_first:
            with session.resume(event_id) as resumed:
                end_wait(session, key)
                check_answer(resumed)
        else:
            end_wait(session, key)
            with session.resume(event_id) as resumed:
                check_answer(resumed)


def end_wait(session: Session, key: str) -> None:
    """Call `wait`, see that it has begun, cancel it: this is what `was_cancelled` waits for."""
    with session.call("wait", 2, key=key) as response:
        begun = next(message for _, message in events(response) if message)
        assert begun["params"]["message"] == "waiting"
        with session.post("notifications/cancelled", None, {"requestId": 2}) as accepted:
            assert accepted.status_code == 202


def check_answer(resumed: httpx.Response) -> None:
    """The resumed stream brings the answer to the first call."""
    assert resumed.status_code == 200
    answer = next(message for _, message in events(resumed) if message)
    assert answer["id"] == 1
    assert answer["result"]["content"][0]["text"] == "cancelled"


@pytest.mark.requirement("PM-28", "PM-30")
@pytest.mark.parametrize("server", STREAMING_SERVERS)
def test_ten_megabytes(park: Park, server: str) -> None:
    """An answer of 10 MB on an event stream arrives complete."""
    expected = "0123456789abcde\n" * (TEN_MEGABYTES // 16)
    with client() as http:
        text = Session(http, address(park, server)).answer("big", 1, size=TEN_MEGABYTES)["content"][0]["text"]
    assert len(text) == TEN_MEGABYTES
    assert hashlib.sha256(text.encode()).digest() == hashlib.sha256(expected.encode()).digest()


@pytest.mark.requirement("PM-24", "PM-25", "PM-29")
def test_one_session_at_all_addresses_of_an_instance(park: Park) -> None:
    """The bare address, `/mcp` and `/v1/stream` are the same door."""
    with client() as http:
        session = Session(http, address(park, "sdk2"))
        for number, suffix in enumerate(("", "/mcp", "/v1/stream"), start=1):
            session.url = address(park, "sdk2", suffix)
            assert session.answer("echo", number, text=suffix)["content"][0]["text"] == suffix


@pytest.mark.requirement("PM-29")
def test_a_session_belongs_to_its_instance_and_its_client(park: Park) -> None:
    """A session id is 404 at another instance, for another caller, and when it was tampered with."""
    with client() as http:
        session = Session(http, address(park, "sdk2"))
        own = session.headers["Mcp-Session-Id"]
        middle = len(own) // 2
        forged = own[:middle] + ("A" if own[middle] != "A" else "B") + own[middle + 1 :]
        for url, session_id in (
            (address(park, "ts"), own),
            (address(park, "sdk2-open"), own),
            (session.url, forged),
            (session.url, ""),
        ):
            session.headers["Mcp-Session-Id"] = session_id
            with httpx.Client(trust_env=False, headers=http.headers) as other:
                message = {"jsonrpc": "2.0", "id": 7, "method": "tools/list"}
                response = other.post(url, headers=session.headers, json=message)
            assert response.status_code in ({404} if session_id else {400, 404}), (url, session_id, response.text)
            assert "result" not in response.json()


@pytest.mark.requirement("PM-35")
@pytest.mark.parametrize("credential", [None, "Bearer alice-tokem", "Basic YWxpY2U6", "Digest alice-token"])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_without_a_valid_token_nothing_is_reached(park: Park, method: str, credential: str | None) -> None:
    """Where a token is required, a missing or a wrong one is 401 with a challenge, whatever the method."""
    headers = {"Accept": "application/json, text/event-stream"}
    if credential is not None:
        headers["Authorization"] = credential
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"} if method == "POST" else None
    response = httpx.request(method, address(park, "sdk2"), headers=headers, json=body, trust_env=False)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.headers["x-request-id"]
