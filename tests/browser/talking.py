"""What pages say, and how it looks when it went well."""

from __future__ import annotations

from tests.browser.chrome import Talk

BEFORE_THE_END = "connect session tools echo seen progress notified resumed"
EVERYTHING = f"{BEFORE_THE_END} end close"
OVER_SSE = "connect tools echo progress notified close"
BLOCKED = "blocked by CORS policy"
UNREACHABLE = "TypeError: Failed to fetch"


def check_everything(talk: Talk) -> None:
    """A whole conversation over streamable HTTP: answers, the GET stream, a resumed stream, the end of the session."""
    check_before_the_end(talk)
    assert "result" in talk.done["end"], talk
    assert [made.status for made in talk.of("DELETE")] == [200]
    assert not [complaint for complaint in talk.complaints if BLOCKED in complaint]


def check_before_the_end(talk: Talk) -> None:
    """The same, without DELETE."""
    outcome = talk.done
    assert outcome["connect"] == {"result": "peer-ts"}, talk
    assert outcome["session"] == {"result": "string"}, "the page cannot read Mcp-Session-Id"
    check_answers(talk)
    assert outcome["resumed"] == {"result": "resumed"}
    assert [made.status for made in talk.of("GET to resume")] == [200]
    readable = {name for made in talk.of("POST") for name in made.headers}
    assert "mcp-session-id" in readable


def check_over_sse(talk: Talk) -> None:
    """A conversation over HTTP+SSE."""
    assert talk.done["connect"] == {"result": "peer-ts"}, talk
    check_answers(talk)
    assert not [complaint for complaint in talk.complaints if BLOCKED in complaint]


def check_answers(talk: Talk) -> None:
    """What is the same on both transports."""
    assert "interrupted" in talk.done["tools"]["result"]
    assert talk.done["echo"] == {"result": "hello Луна"}
    assert talk.done["progress"] == {"result": ["3 steps", ["step 1", "step 2", "step 3"]]}
    assert talk.done["notified"] == {"result": 2}


def check_blocked(talk: Talk) -> None:
    """Chromium let nothing out but a preflight, and said so."""
    assert "error" in talk.done["connect"], talk
    assert {made.error for made in talk.exchanges} == {UNREACHABLE}
    assert [complaint for complaint in talk.complaints if BLOCKED in complaint]
