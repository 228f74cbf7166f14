"""Header names and values as operators may set them (RFC 9110 section 5), and the names that are the gateway's own."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from moongate.control.nodes import shown
from moongate.control.schema.values import refusal

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*\Z")

_HOP_BY_HOP = dict.fromkeys(
    (
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
    ),
    "belongs to one connection and is made by the gateway",
)
_MESSAGE = {"content-length": "follows from the body", "content-encoding": "follows from the body"}
_SESSION = {"mcp-session-id": "belongs to the MCP session"}
_REQUEST = {
    **_HOP_BY_HOP,
    **_MESSAGE,
    **_SESSION,
    "host": "is always the backend's own; it follows from the address",
    "accept-encoding": "is made by the gateway, which reads what it passes on",
    "mcp-protocol-version": "belongs to the MCP message",
    "mcp-method": "belongs to the MCP message",
    "mcp-name": "belongs to the MCP message",
    "last-event-id": "belongs to the MCP session",
}
_STOPPED = dict.fromkeys(
    ("authorization", "api-key", "x-api-key", "cookie", "cookie2", "origin", "referer"),
    "stops at the gateway, so that no backend gets it",
)
_RESPONSE = {**_HOP_BY_HOP, **_MESSAGE, **_SESSION, "x-request-id": "is made by the gateway for every answer"}


def _name(value: str) -> str:
    if not TOKEN.match(value):
        # Not shown: someone may have written a whole header line where a name belongs.
        raise refusal("this is not a header name: it may hold letters, digits and !#$%&'*+-.^_`|~, and nothing else")
    return value


def _value(value: str) -> str:
    if not _VALUE.match(value):
        raise refusal("a header value cannot hold line breaks or other control characters")
    if value != value.strip(" \t"):
        raise refusal("a header value cannot begin or end with spaces; remove them")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise refusal("a header value holds a character that is not text")
    return value


def _request_name(value: str) -> str:
    return _not_owned(value, _REQUEST, "mcp-param-", "belongs to the MCP message")


def _passed_name(value: str) -> str:
    return _not_owned(value, _REQUEST | _STOPPED, "sec-", "is made by the browser for the gateway")


def _response_name(value: str) -> str:
    return _not_owned(value, _RESPONSE, "access-control-", "comes from the cors policy")


def _not_owned(value: str, owned: dict[str, str], prefix: str, reason: str) -> str:
    name = _name(value).lower()
    why = owned.get(name) or (reason if name.startswith(prefix) else None)
    if why:
        raise refusal(f"this header cannot be set or removed here: it {why}; remove the entry")
    return value


def _once(headers: dict[str, str]) -> dict[str, str]:
    first: dict[str, str] = {}
    for name in headers:
        if name.lower() in first:
            text = f"this is the header {shown(first[name.lower()])} again, for case does not count; keep one of them"
            raise refusal(text, key=name)
        first[name.lower()] = name
    return headers


_NAME_SCHEMA = WithJsonSchema({"type": "string", "x-kind": "header name"})

FieldName = Annotated[str, AfterValidator(_name), _NAME_SCHEMA]
FieldValue = Annotated[str, AfterValidator(_value)]
RequestName = Annotated[str, AfterValidator(_request_name), _NAME_SCHEMA]
PassedName = Annotated[str, AfterValidator(_passed_name), _NAME_SCHEMA]
ResponseName = Annotated[str, AfterValidator(_response_name), _NAME_SCHEMA]
RequestHeaders = Annotated[dict[RequestName, FieldValue], AfterValidator(_once)]
ResponseHeaders = Annotated[dict[ResponseName, FieldValue], AfterValidator(_once)]
