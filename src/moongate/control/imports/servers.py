"""`mcpServers` (Claude Desktop, Claude Code, Cursor and most others) and `servers` (VS Code)."""

from __future__ import annotations

from typing import Any

from moongate.control.imports.found import Imported
from moongate.control.imports.references import ours
from moongate.control.nodes import Loc, Mapping, find, plain, shown

# Keys of ours that a client's file or one of our own may hold; they go along as they are.
_KEPT = frozenset(
    {
        "url",
        "command",
        "args",
        "env",
        "cwd",
        "headers",
        "sseReadTimeout",
        "isolation",
        "clearEnv",
        "startTime",
        "idleTime",
    }
    | {"maxProcesses", "processLimits", "tls", "auth", "access", "cors", "csrf", "keepAlive", "forwardHeaders"}
    | {"requestHeaderModifier", "responseHeaderModifier", "localRateLimit", "requestTimeout", "backendRequestTimeout"}
)
_ADDRESSES = {"serverUrl": None, "serverURL": None, "httpUrl": "streamable-http"}
_TYPES = {
    "http": "streamable-http",
    "streamable": "streamable-http",
    "streamablehttp": "streamable-http",
    "streamable-http": "streamable-http",
    "sse": "sse",
    "stdio": None,
    "local": None,
}
# What concerns the client alone.
_SILENT = frozenset({"name", "description", "icon", "gallery", "version", "disabled", "enabled", "type", "transport"})
_LOST = {
    "envFile": "is not read; set the variables under env",
    "headersHelper": "makes headers with a program; write the header, with ${NAME} for its secret",
    "oauth": "signs in on behalf of a user, which the gateway does not do; give it a credential in headers",
    "auth": "is the client's own way to sign in",
    "alwaysAllow": "is the client's; to allow or deny tools for all callers write access rules",
    "autoApprove": "is the client's; to allow or deny tools for all callers write access rules",
    "disabledTools": "is the client's; to deny tools for all callers write access rules",
    "tools": "is the client's; to allow tools for all callers write access rules",
    "sandboxEnabled": "is the editor's; for limits of the process see processLimits",
    "sandbox": "is the editor's; for limits of the process see processLimits",
    "dev": "is the editor's",
}
_AUTH = ("required", "off")
# A number below is most likely of seconds, which some clients count in.
SMALLEST_TIMEOUT = 1000


def read_servers(root: Mapping, loc: Loc, imported: Imported) -> None:
    """The entries of the block at `loc`."""
    block = find(root, loc).node
    if not isinstance(block, Mapping):
        imported.lose(str(find(root, loc).place), "", f"{loc[-1]} is not a block of servers")
        return
    for name, entry in block.entries.items():
        where = str(entry.place)
        written = plain(entry.node)
        if isinstance(written, dict):
            read_entry(name, written, where, imported)
        else:
            imported.lose(where, name, "is not a block of keys; it is left out")


def read_entry(name: str, written: dict[str, Any], where: str, imported: Imported) -> None:
    """One server of a client's file."""
    shown_name = shown(name, quote=False)

    def say(text: str) -> None:
        imported.note(where, shown_name, text)

    def lose(text: str) -> None:
        imported.lose(where, shown_name, text)

    config: dict[str, Any] = {}
    kind = _kind(written, lose)
    for key, value in written.items():
        if key in _ADDRESSES:
            config["url"] = value
            kind = kind or _ADDRESSES[key]
            say(f"{key} is url here")
        elif key == "timeout":
            _timeout(value, config, lose)
        elif key in _KEPT and not (key == "auth" and value not in _AUTH):
            config[key] = value
        elif key not in _SILENT:
            reason = _LOST.get(key, "means nothing here")
            lose(f"{shown(key, quote=False)} {reason}; it is left out")
    if config.get("url") is not None and config.get("command") in (None, ""):
        config.pop("command", None)
    if kind is not None and "command" not in config:
        config["type"] = kind
    enabled = written.get("disabled") is not True and written.get("enabled") is not False
    imported.add(name, ours(config, say, lose), where, enabled=enabled)


def _kind(written: dict[str, Any], lose: Any) -> str | None:
    value = written.get("type", written.get("transport"))
    if value is None:
        return None
    known = str(value).lower().replace("_", "-")
    if known not in _TYPES:
        lose(f"the type {shown(str(value))} is not known; streamable HTTP is tried first, then HTTP+SSE")
        return None
    return _TYPES[known]


def _timeout(value: Any, config: dict[str, Any], lose: Any) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= SMALLEST_TIMEOUT:
        config["timeout"] = value
    else:
        lose(f"timeout {shown(str(value), quote=False)} may be meant in seconds; it is left out, write milliseconds")
