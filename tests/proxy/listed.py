"""A server's list of tools, who may see which of them, and lists that cannot be cut."""

from __future__ import annotations

from typing import Any

from tests.proxy.talk import call

TOKENS = {
    "tokens": [
        {"name": "alice", "token": "alice-token", "groups": ["staff"]},
        {"name": "bob", "token": "bob-token"},
    ]
}
ALICE, BOB = {"x-api-key": "alice-token"}, {"x-api-key": "bob-token"}
STAFF = {"rules": [{"allow": True, "groups": ["staff"]}, {"allow": ["tool:get_*", "prompt:p", "resource:note://*"]}]}

TOOLS = b'{"name":"get_a","inputSchema":{"type" : "object"}}', b'{ "name":"pay","inputSchema":{}}', b'{"name":"get_b"}'
ALL = b'{"jsonrpc":"2.0","id":1,"result":{"tools": [%b , %b,\n%b ],"nextCursor":"b"}}' % TOOLS
SOME = b'{"jsonrpc":"2.0","id":1,"result":{"tools": [%b,\n%b ],"nextCursor":"b"}}' % (TOOLS[0], TOOLS[2])
LIST = call(1, "tools/list")


def names(message: dict[str, Any], member: str = "tools") -> list[str]:
    """The items of a list."""
    return [item.get("uri") or item.get("uriTemplate") or item["name"] for item in message["result"][member]]


BROKEN = [
    ALL.replace(b'"nextCursor":"b"', b'"tools":[]'),
    b'{"jsonrpc":"2.0","id":1,"result":{"tools":{"pay":{}}}}',
    b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"pay"}],"Tools":[]}}',
]
