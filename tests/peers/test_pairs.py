"""Official clients and servers find the same through the gateway as directly, and it is what it should be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.peers import observing, plan
from tests.peers.pairs import BASIC, CLIENTS, LEGACY, MODERN, SERVERS, TOKEN, WAYS, Pair, backend_token, is_modern

pytestmark = pytest.mark.peers

ALL = [(client, server) for server in SERVERS for client in CLIENTS]
OWN = [(client, server) for client, server in ALL if server != "everything"]
STREAMING = [(client, server) for client, server in OWN if server != "sdk2-json"]
LEGACY_STREAMING = [names for names in STREAMING if not is_modern(*names)]
LEGACY_OWN = [names for names in OWN if not is_modern(*names)]
EVERYTHING = [(client, server) for client, server in ALL if server == "everything"]
TOOLS = {
    *("echo", "moon", "big", "fail", "count", "talk", "announce", "withdraw", "touch", "ask_model", "ask_user"),
    *("ask_roots", "wait", "was_cancelled", "interrupted", "seen"),
}
# All header names that a backend may see: those of the connection, the configured one, and what the gateway forwards.
AT_BACKEND = {
    *("host", "connection", "content-length", "accept-encoding", "authorization"),
    *("accept", "accept-language", "content-type", "user-agent", "last-event-id", "mcp-session-id"),
    *("mcp-protocol-version", "mcp-method", "mcp-name", "traceparent", "tracestate"),
}
BIG_TEXT = "0123456789abcde\n" * (plan.BIG // 16)


def over(names: Iterable[tuple[str, str]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test for each of these pairs."""
    chosen = [pytest.param(pair, id=f"{pair[0]}-to-{pair[1]}") for pair in names]
    return pytest.mark.parametrize("pair", chosen, indirect=True)


def comparable(document: dict[str, Any]) -> dict[str, Any]:
    """A document without what must differ: ids, and the headers that the server saw."""
    steps = {name: observation for name, observation in document["steps"].items() if name != "seen"}
    return {**document, "steps": steps, "http": document["http"]["exchanges"]}


def error_codes(pair: Pair, step: str) -> list[Any]:
    """The codes of the errors that a step ended with, over all ways."""
    return [pair.steps(way)[step]["error"]["code"] for way in WAYS]


@over(ALL)
@pytest.mark.requirement("PM-02", "PM-24", "PM-29")
@pytest.mark.parametrize("way", WAYS[1:])
def test_the_gateway_changes_nothing_that_a_client_observes(pair: Pair, way: str) -> None:
    """Results, errors, notifications, questions, statuses and media types are those of the direct connection."""
    direct, through = (comparable(pair.documents[name]) for name in ("direct", way))
    assert len(direct["steps"]) > 15
    assert through == direct


@over(ALL)
@pytest.mark.requirement("PM-02")
def test_they_agree_on_a_revision(pair: Pair) -> None:
    """Each pair connects in the newest revision that both know, and the server's description arrives."""
    for way in WAYS:
        connected = pair.documents[way]["connected"]
        assert connected["version"] == (MODERN if pair.modern else LEGACY)
        assert "tools" in connected["capabilities"]
        if pair.server != "everything":
            assert connected["server"]["name"] == f"peer-{pair.server.removesuffix('-json')}"
            assert connected["instructions"] == "Says what it is told. 月"


@over(OWN)
@pytest.mark.requirement("PM-02", "PM-30")
def test_tools(pair: Pair) -> None:
    """Tools are listed and called; text of every kind, structure and 100 KB arrive as they were."""
    for result in pair.results("tools"):
        assert {tool["name"] for tool in result["tools"]} == TOOLS
    assert pair.texts("echo") == ["hello"] * 3
    assert pair.texts("unicode") == [plan.UNICODE] * 3
    moon = {"name": "月 Луна 🌕", "mass": 7.35e22, "craters": ["Tycho", "Copérnico"]}
    assert [result["structuredContent"] for result in pair.results("structured")] == [moon] * 3
    assert pair.texts("big") == [observing.shrink(BIG_TEXT)] * 3
    assert hashlib.sha256(BIG_TEXT.encode()).hexdigest() == pair.texts("big")[0]["sha256"]


@over(OWN)
def test_errors(pair: Pair) -> None:
    """Errors of tools and of the protocol arrive as what they are."""
    for step in ("tool error", "unknown tool"):
        assert [result["isError"] for result in pair.results(step)] == [True] * 3
    assert all("no moon tonight" in text for text in pair.texts("tool error"))
    for step in ("unknown resource", "unknown prompt"):
        codes = error_codes(pair, step)
        assert isinstance(codes[0], int)
        assert codes == codes[:1] * 3


@over(OWN)
def test_resources_and_prompts(pair: Pair) -> None:
    """Resources, templates, prompts and completions work."""
    for result in pair.results("resources"):
        assert [resource["uri"] for resource in result["resources"]] == ["moon://facts"]
    for result in pair.results("templates"):
        assert [entry["uriTemplate"] for entry in result["resourceTemplates"]] == ["moon://crater/{name}"]
    assert [result["contents"][0]["text"] for result in pair.results("read")] == ["384 400 km — далеко\n"] * 3
    assert [result["contents"][0]["text"] for result in pair.results("read template")] == ["crater Tycho"] * 3
    for result in pair.results("prompt"):
        assert result["messages"][0]["content"]["text"] == "A haiku about the full moon"
    for result in pair.results("completion"):
        assert result["completion"]["values"] == ["first quarter", "full"]


@over(ALL)
def test_many_calls_at_once(pair: Pair) -> None:
    """Of calls made at once, each gets its own answer."""
    prefix = "Echo: " if pair.server == "everything" else ""
    for results in pair.results("many"):
        texts = [result["content"][0]["text"] for result in results]
        assert texts == [f"{prefix}call {n}" for n in range(plan.CALLS_AT_ONCE)]


@over(STREAMING)
@pytest.mark.requirement("PM-28")
def test_notifications_during_a_call(pair: Pair) -> None:
    """Progress and log messages reach the client beside the answer, in their order."""
    steps = [{"progress": n, "total": 3, "message": f"step {n}"} for n in (1, 2, 3)]
    assert pair.events("progress", plan.PROGRESS) == [steps] * 3
    assert pair.texts("progress") == ["3 steps"] * 3
    for messages in pair.events("log", plan.LOG):
        assert [(entry["level"], entry["data"]) for entry in messages] == [
            ("info", "first word"),
            ("warning", {"second": "слово"}),
        ]


@over(STREAMING)
def test_the_server_asks_the_client(pair: Pair) -> None:
    """Sampling, elicitation and roots: the server's question reaches the client, the client's answer the server."""
    for (asked,) in pair.events("sampling", "sampling/createMessage"):
        assert asked["maxTokens"] == 50
    assert pair.texts("sampling") == [f"Describe the moon -> {observing.SAMPLED}"] * 3
    for (asked,) in pair.events("elicitation", "elicitation/create"):
        assert asked["message"] == "What is your name?"
    assert pair.texts("elicitation") == [f"Hello {observing.ELICITED['name']}"] * 3
    assert pair.events("roots", "roots/list") == [[{}]] * 3
    assert pair.texts("roots") == [", ".join(uri for uri, _ in observing.ROOTS)] * 3


@over(STREAMING)
def test_cancellation(pair: Pair) -> None:
    """A call that the client gives up is given up by the server, by notification or by closing, as its era has it."""
    for begun in pair.results("cancel"):
        assert [event["message"] for event in begun[plan.PROGRESS]] == ["waiting"]
    assert pair.texts("was cancelled") == ["cancelled"] * 3


@over(OWN)
def test_news_outside_of_calls(pair: Pair) -> None:
    """What the server says outside of any call arrives: on the GET stream, or where a modern client listens."""
    if pair.modern:
        assert pair.results("announced") == pair.results("withdrawn") == ["ToolsListChanged"] * 3
        assert pair.results("updated") == ["ResourceUpdated(uri='moon://facts')"] * 3
    else:
        changed: dict[str, list[Any]] = {"notifications/tools/list_changed": [{}]}
        assert pair.results("announced") == pair.results("withdrawn") == [changed] * 3
        assert pair.results("updated") == [{"notifications/resources/updated": [{"uri": "moon://facts"}]}] * 3
    for result in pair.results("tools after"):
        assert {tool["name"] for tool in result["tools"]} == {*TOOLS, "added"}


@over(STREAMING)
@pytest.mark.requirement("PM-29")
def test_resuming_a_stream(pair: Pair) -> None:
    """A client whose stream ends in the middle of an answer gets the rest by GET with Last-Event-ID."""
    assert pair.texts("resumed") == ["resumed"] * 3
    for events in pair.events("resumed", plan.PROGRESS):
        assert [event["message"] for event in events] == ["before", "after"]
    for way in WAYS:
        resumed = "GET to resume 200 text/event-stream" in pair.documents[way]["http"]["exchanges"]
        assert resumed is not pair.modern, "the stateless revision resumes nothing"


@over(LEGACY_OWN)
@pytest.mark.requirement("PM-29")
def test_the_end_of_a_session(pair: Pair) -> None:
    """After DELETE a session is 404, and so is one that never was; the client begins a new one and goes on."""
    for way in WAYS:
        assert pair.documents[way]["ended"] == 404
        assert any(entry.startswith("DELETE 200") for entry in pair.documents[way]["http"]["exchanges"])
    for result in pair.results("lost"):
        assert result["deleted"] == 200
        assert "error" in result["after"]
        assert result["fresh"]["content"][0]["text"] == "again"
    assert pair.results("unknown session") == [404] * 3


@over(ALL)
@pytest.mark.requirement("PM-29")
def test_session_ids_are_the_gateways_own(pair: Pair) -> None:
    """A client of a session era gets an id from the gateway that is not the backend's; the backend sees its own."""
    sessions = [pair.documents[way]["http"]["session"] for way in WAYS]
    if pair.modern:
        assert sessions == [None] * 3
        return
    assert len(set(sessions)) == 3
    assert all(session.isascii() and session.isprintable() and " " not in session for session in sessions)
    if pair.server != "everything":
        at_backend = [headers["mcp-session-id"] for headers in seen(pair)]
        assert at_backend[0] == sessions[0]
        assert set(at_backend[1:]).isdisjoint(sessions)


def seen(pair: Pair) -> list[dict[str, str]]:
    """The headers of a call as they arrived at the backend, over all ways."""
    found = [result["structuredContent"] for result in pair.results("seen")]
    return [headers.get("result", headers) for headers in found]


@over(EVERYTHING)
@pytest.mark.requirement("PM-02")
def test_server_everything(pair: Pair) -> None:
    """The reference server of the npm world: its tools, questions, resources and prompts."""
    for (message,) in pair.events("roots", plan.LOG):
        assert message["data"] == "Roots updated: 2 root(s) received from client"
    assert pair.texts("echo") == ["Echo: hello"] * 3
    assert pair.texts("unicode") == [f"Echo: {plan.UNICODE}"] * 3
    assert pair.texts("big") == [observing.shrink(f"Echo: {BIG_TEXT}")] * 3
    weather = {"temperature": 36, "conditions": "Light rain / drizzle", "humidity": 82}
    assert [result["structuredContent"] for result in pair.results("structured")] == [weather] * 3
    assert [result["content"][1]["mimeType"] for result in pair.results("image")] == ["image/png"] * 3
    for step in ("unknown tool", "bad arguments"):
        assert [result["isError"] for result in pair.results(step)] == [True] * 3
    for events in pair.events("progress", plan.PROGRESS):
        assert [event["progress"] for event in events] == [1, 2, 3]
    assert all(observing.SAMPLED in text for text in pair.texts("sampling"))
    for result in pair.results("elicitation"):
        assert observing.ELICITED["name"] in result["content"][1]["text"]
    assert all("Current MCP Roots (2 total)" in text for text in pair.texts("roots list"))
    assert error_codes(pair, "unknown resource") == [-32602] * 3
    for result in pair.results("prompt"):
        assert result["messages"][0]["content"]["text"] == "What's weather in Köln?"
    for result in pair.results("completion"):
        assert result["completion"]["values"] == ["Sales", "Support"]
    for result in pair.results("updated"):
        assert result["notifications/resources/updated"][0]["uri"] == "demo://resource/dynamic/text/1"


@over(OWN)
@pytest.mark.requirement("PM-03", "PM-13", "PM-33", "PM-40", "PM-62")
def test_the_backend_sees_the_gateway(pair: Pair) -> None:
    """The backend gets its own host name and credential from the gateway, and nothing of the client's credential."""
    direct, *through = seen(pair)
    assert "authorization" not in direct
    for headers in through:
        assert headers["host"] == pair.server_address.split("/")[2]
        assert headers["authorization"] == backend_token(pair.server)
        assert set(headers) <= AT_BACKEND
        assert not any(TOKEN in value or BASIC.split()[1] in value for value in headers.values())


@over(ALL)
@pytest.mark.requirement("PM-31", "PM-36", "PM-37", "PM-38", "PM-39")
def test_the_client_sees_nothing_of_the_backend(pair: Pair) -> None:
    """Nowhere in what a client got is the backend's address or credential; each answer carries a request id."""
    host = pair.server_address.split("/")[2]
    for way in WAYS[1:]:
        document = pair.documents[way]
        steps = {name: observation for name, observation in document["steps"].items() if name != "seen"}
        everything = json.dumps({**document, "steps": steps})
        assert host not in everything
        assert "backend-token" not in everything
        ids = document["http"]["requestIds"]
        assert len(ids) == len(set(ids)) > 10
        assert None not in ids
    assert set(pair.documents["direct"]["http"]["requestIds"]) == {None}
