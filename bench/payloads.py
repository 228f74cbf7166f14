"""Requests and answers, byte for byte. Every call has id 1, so that a fixed answer is the right answer."""

from __future__ import annotations

REVISION = "2025-06-18"
TOKEN = "bench-token"  # noqa: S105 - a token of the benchmark's own gateway, worth nothing elsewhere

JSON = "application/json"
EVENT_STREAM = "text/event-stream"

INITIALIZE = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
    b'"clientInfo":{"name":"moongate-bench","version":"1"}}}'
)
INITIALIZED = (
    b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},'
    b'"serverInfo":{"name":"bench-stub","version":"1"}}}'
)
ANNOUNCED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
CALL = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_forecast",'
    b'"arguments":{"city":"Reykjavik","days":3}}}'
)
NUMBER = b"1000000"
NUMBERED_CALL = CALL.replace(b'"id":1', b'"id":' + NUMBER)
"""A call whose id is replaced by other numbers of as many digits."""
FIRST_EVENT = (
    b'id: 1\nevent: message\ndata: {"jsonrpc":"2.0","method":"notifications/message",'
    b'"params":{"level":"info","data":"working on it"}}\n\n'
)
LATER_EVENT = FIRST_EVENT.replace(b"id: 1", b"id: 2")

_HEAD = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"'
_TAIL = b'"}],"isError":false}}'
_WORDS = b"Light rain at first, later sunny spells and a moderate wind from the north west. "


def tool_result(size: int) -> bytes:
    """Give a `tools/call` result of exactly `size` bytes."""
    room = size - len(_HEAD) - len(_TAIL)
    if room < 0:
        raise ValueError(f"a tool result needs at least {len(_HEAD) + len(_TAIL)} bytes, not {size}")
    return _HEAD + (_WORDS * (room // len(_WORDS) + 1))[:room] + _TAIL


SMALL = tool_result(240)
LARGE = tool_result(100 * 1024)
HUGE = tool_result(10 * 1024 * 1024)
SMALL_EVENT = b"event: message\ndata: " + SMALL + b"\n\n"


def request(method: str, host: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Give one whole HTTP/1.1 request; a body gets its `Content-Length`."""
    fields = {"Host": host, **headers}
    if body:
        fields |= {"Content-Type": JSON, "Content-Length": str(len(body))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body
