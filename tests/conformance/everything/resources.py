"""Resources, a resource template, and the sessions that want to hear of changes."""

from __future__ import annotations

import json
import re

import mcp_types as types
from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPError

from tests.conformance.everything.material import PNG

WATCHED = "test://watched-resource"

RESOURCES = [
    types.Resource(
        uri="test://static-text", name="static-text", description="A text that never changes", mime_type="text/plain"
    ),
    types.Resource(
        uri="test://static-binary", name="static-binary", description="One red pixel", mime_type="image/png"
    ),
    types.Resource(uri=WATCHED, name="watched-resource", description="A text that changes", mime_type="text/plain"),
]

TEMPLATES = [
    types.ResourceTemplate(
        uri_template="test://template/{id}/data",
        name="template",
        description="Data for each id",
        mime_type="application/json",
    )
]

_TEMPLATE = re.compile(r"test://template/([^/]+)/data")


def unknown(uri: str) -> MCPError:
    """What a request for a resource that does not exist is answered with."""
    return MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})


class Watchers:
    """How often the watched resource has changed, and which sessions subscribed to what (up to 2025-11-25).

    A session is known by `key`: its session id, or the empty string where the connection is the session.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._sessions: dict[tuple[str, str], ServerSession] = {}

    def add(self, key: str, uri: str, session: ServerSession) -> None:
        """Subscribe; an unknown resource is refused."""
        if not any(resource.uri == uri for resource in RESOURCES):
            raise unknown(uri)
        self._sessions[key, uri] = session

    def remove(self, key: str, uri: str) -> None:
        """Unsubscribe; it does not matter whether there was a subscription."""
        self._sessions.pop((key, uri), None)

    async def changed(self) -> None:
        """Change the watched resource and tell its subscribers."""
        self.changes += 1
        for (_, uri), session in list(self._sessions.items()):
            if uri == WATCHED:
                await session.send_resource_updated(uri)


def read(uri: str, changes: int) -> types.ReadResourceResult:
    """The contents of one resource; `changes` is how often the watched one has changed."""
    match uri:
        case "test://static-text":
            return _text(uri, "text/plain", "This is the content of the static text resource.")
        case "test://static-binary":
            contents = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
            return types.ReadResourceResult(contents=[contents])
        case _ if uri == WATCHED:
            return _text(uri, "text/plain", f"Changed {changes} times.")
    found = _TEMPLATE.fullmatch(uri)
    if found is None:
        raise unknown(uri)
    data = {"id": found[1], "templateTest": True, "data": f"Data for ID: {found[1]}"}
    return _text(uri, "application/json", json.dumps(data))


def _text(uri: str, mime_type: str, content: str) -> types.ReadResourceResult:
    contents = types.TextResourceContents(uri=uri, mime_type=mime_type, text=content)
    return types.ReadResourceResult(contents=[contents])
