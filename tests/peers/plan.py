"""What a client says to a server, as data that every client script can carry out.

A step is a JSON object: `name` (unique, the key of its observation), `op`, the operands of the op, and `watch`: for
each notification or server request that is part of the observation, how many of it the client awaits after the answer.
Everything else that arrives is not recorded, because its moment is not fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Step = dict[str, Any]

PROGRESS = "notifications/progress"
LOG = "notifications/message"
BIG = 102_400
UNICODE = 'Ünïcödé 月 🌕 Луна \u2028 \\ " \u0007 é'
CALLS_AT_ONCE = 16


def call(name: str, tool: str, watch: dict[str, int] | None = None, **arguments: object) -> Step:
    """A step that calls a tool."""
    return {"name": name, "op": "call", "tool": tool, "args": arguments, "watch": watch or {}}


def _basics() -> Iterator[Step]:
    yield {"name": "tools", "op": "tools"}
    yield call("echo", "echo", text="hello")
    yield call("unicode", "echo", text=UNICODE)
    yield call("structured", "moon")
    yield call("big", "big", size=BIG)
    yield call("tool error", "fail")
    yield call("unknown tool", "no_such_tool")
    yield {"name": "many", "op": "many", "tool": "echo", "args": [{"text": f"call {n}"} for n in range(CALLS_AT_ONCE)]}
    yield {"name": "resources", "op": "resources"}
    yield {"name": "templates", "op": "templates"}
    yield {"name": "read", "op": "read", "uri": "moon://facts"}
    yield {"name": "read template", "op": "read", "uri": "moon://crater/Tycho"}
    yield {"name": "unknown resource", "op": "read", "uri": "moon://nowhere"}
    yield {"name": "prompts", "op": "prompts"}
    yield {"name": "prompt", "op": "prompt", "prompt": "haiku", "args": {"phase": "full"}}
    yield {"name": "unknown prompt", "op": "prompt", "prompt": "no_such_prompt", "args": {}}
    yield {"name": "completion", "op": "complete", "prompt": "haiku", "argument": "phase", "value": "f"}


def _streams(key: str) -> Iterator[Step]:
    """What needs an answer that can carry more than the answer."""
    yield call("progress", "count", {PROGRESS: 3}, steps=3)
    yield call("log", "talk", {LOG: 2})
    yield call("sampling", "ask_model", {"sampling/createMessage": 1}, prompt="Describe the moon")
    yield call("elicitation", "ask_user", {"elicitation/create": 1})
    yield call("roots", "ask_roots", {"roots/list": 1})
    yield {"name": "cancel", "op": "cancel", "tool": "wait", "args": {"key": key}}
    yield call("was cancelled", "was_cancelled", key=key)
    yield call("resumed", "interrupted", {PROGRESS: 2})


def _changes() -> Iterator[Step]:
    """What the server says outside of any call."""
    yield {"name": "announced", "op": "changed", "tool": "announce"}
    yield {"name": "tools after", "op": "tools"}
    yield {"name": "withdrawn", "op": "changed", "tool": "withdraw"}
    yield {"name": "updated", "op": "updated", "uri": "moon://facts", "tool": "touch", "args": {"uri": "moon://facts"}}


def _session() -> Iterator[Step]:
    """How a session ends; a client of the stateless era has none."""
    yield {"name": "lost", "op": "lost", "tool": "echo", "args": {"text": "again"}}
    yield {"name": "unknown session", "op": "unknown"}


@dataclass(frozen=True)
class Kind:
    """What two can say to each other. `modern`: in the stateless revision. `streams`: an answer can carry more than the
    answer. `requests`: the server sees HTTP requests. `sessions`: the client has a session by its id.
    """

    modern: bool = False
    streams: bool = True
    requests: bool = True
    sessions: bool = True


def own_server(key: str, kind: Kind) -> list[Step]:
    """The conversation with one of our servers; `key` is unused by any other conversation with the same server."""
    steps = [{"name": "ping", "op": "ping"}, {"name": "level", "op": "level"}] if not kind.modern else []
    steps += _basics()
    if kind.requests:
        steps.append(call("seen", "seen"))
    if kind.streams:
        steps += _streams(key)
    steps += _changes()
    if kind.sessions and not kind.modern:
        steps += _session()
    return steps


def everything() -> list[Step]:
    """The conversation with the server-everything from npm."""
    text = "demo://resource/dynamic/text/1"
    many = [{"message": f"call {n}"} for n in range(CALLS_AT_ONCE)]
    return [
        # It asks for the roots, and says on the GET stream that it got them, a moment after the handshake.
        {"name": "roots", "op": "await", "watch": {"roots/list": 1, LOG: 1}},
        {"name": "ping", "op": "ping"},
        {"name": "tools", "op": "tools"},
        call("echo", "echo", message="hello"),
        call("unicode", "echo", message=UNICODE),
        call("big", "echo", message="0123456789abcde\n" * (BIG // 16)),
        call("structured", "get-structured-content", location="Chicago"),
        call("image", "get-tiny-image"),
        call("links", "get-resource-links", count=3),
        call("unknown tool", "no-such-tool"),
        call("bad arguments", "get-sum", a="one", b=2),
        call("progress", "trigger-long-running-operation", {PROGRESS: 3}, duration=0.3, steps=3),
        call("sampling", "trigger-sampling-request", {"sampling/createMessage": 1}, prompt="moon", maxTokens=50),
        call("elicitation", "trigger-elicitation-request", {"elicitation/create": 1}),
        call("roots list", "get-roots-list"),
        {"name": "many", "op": "many", "tool": "echo", "args": many},
        {"name": "resources", "op": "resources"},
        {"name": "templates", "op": "templates"},
        {"name": "unknown resource", "op": "read", "uri": "demo://nowhere"},
        {"name": "prompts", "op": "prompts"},
        {"name": "prompt", "op": "prompt", "prompt": "args-prompt", "args": {"city": "Köln"}},
        {
            "name": "completion",
            "op": "complete",
            "prompt": "completable-prompt",
            "argument": "department",
            "value": "S",
        },
        {"name": "updated", "op": "updated", "uri": text, "tool": "toggle-subscriber-updates", "args": {}},
    ]
