"""The table of MCP methods: which member of `params` names what the call touches, and whether a header mirrors it.

Sources: schema of 2025-11-25 and 2026-07-28; `Mcp-Name` is demanded of tools/call, prompts/get and resources/read
(2026-07-28, transports) and of the task methods (SEP-2663).
"""

from __future__ import annotations

from typing import NamedTuple


class Method(NamedTuple):
    """`target`: the member of `params` that names the tool, prompt, resource or task. `mirrored`: `Mcp-Name` repeats
    it.
    """

    name: str
    target: str | None = None
    mirrored: bool = False


_TABLE = (
    Method("initialize"),
    Method("ping"),
    Method("server/discover"),
    Method("tools/list"),
    Method("tools/call", "name", mirrored=True),
    Method("prompts/list"),
    Method("prompts/get", "name", mirrored=True),
    Method("resources/list"),
    Method("resources/templates/list"),
    Method("resources/read", "uri", mirrored=True),
    Method("resources/subscribe", "uri"),
    Method("resources/unsubscribe", "uri"),
    Method("subscriptions/listen"),
    Method("completion/complete"),
    Method("logging/setLevel"),
    Method("tasks/get", "taskId", mirrored=True),
    Method("tasks/update", "taskId", mirrored=True),
    Method("tasks/cancel", "taskId", mirrored=True),
    Method("tasks/result", "taskId"),
    Method("tasks/list"),
    Method("notifications/initialized"),
    Method("notifications/cancelled"),
    Method("notifications/progress"),
    Method("notifications/roots/list_changed"),
)

METHODS = {method.name: method for method in _TABLE}


def method_named(name: str) -> Method:
    """The row of a method; one that nobody here knows has no target and is passed through."""
    return METHODS.get(name) or Method(name)
