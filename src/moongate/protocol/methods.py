"""The table of MCP methods: which member of `params` names what the call touches, and whether a header mirrors it.

For access rules: what kind of thing it touches, what kinds it lists, and whether it is part of every conversation.

Sources: schema of 2025-11-25 and 2026-07-28; `Mcp-Name` is demanded of tools/call, prompts/get and resources/read
(2026-07-28, transports) and of the task methods (SEP-2663).
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Method(NamedTuple):
    """`target`: the member of `params` that names the tool, prompt, resource or task. `mirrored`: `Mcp-Name` repeats
    it. `kind`: tool, prompt or resource. `common`: by itself it calls and reads nothing, and no rule need allow it.
    """

    name: str
    target: str | None = None
    mirrored: bool = False
    kind: str = ""
    common: bool = False


_TABLE = (
    Method("initialize", common=True),
    Method("ping", common=True),
    Method("server/discover", common=True),
    Method("tools/list", common=True),
    Method("tools/call", "name", mirrored=True, kind="tool"),
    Method("prompts/list", common=True),
    Method("prompts/get", "name", mirrored=True, kind="prompt"),
    Method("resources/list", common=True),
    Method("resources/templates/list", common=True),
    Method("resources/read", "uri", mirrored=True, kind="resource"),
    Method("resources/subscribe", "uri", kind="resource"),
    Method("resources/unsubscribe", "uri", kind="resource"),
    Method("subscriptions/listen", common=True),
    Method("completion/complete"),
    Method("logging/setLevel", common=True),
    Method("tasks/get", "taskId", mirrored=True, common=True),
    Method("tasks/update", "taskId", mirrored=True, common=True),
    Method("tasks/cancel", "taskId", mirrored=True, common=True),
    Method("tasks/result", "taskId", common=True),
    Method("tasks/list"),
    Method("notifications/initialized", common=True),
    Method("notifications/cancelled", common=True),
    Method("notifications/progress", common=True),
    Method("notifications/roots/list_changed", common=True),
)

METHODS: Final = {method.name: method for method in _TABLE}
NOTIFICATIONS = "notifications/"


def method_named(name: str) -> Method:
    """The row of a method; one that nobody here knows has no target and is passed through."""
    return METHODS.get(name) or Method(name)
