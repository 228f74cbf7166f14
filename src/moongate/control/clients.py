"""What an operator gives to the users of an instance: the configuration of their MCP client, ready to copy.

Pure. Where each client's format is described, and what was checked when, stands in `docs/cli.md`. A token is written
out only at the moment it is made; at all other times its place is held by the variable TOKEN_VARIABLE, in the spelling
of that client.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TOKEN_VARIABLE = "MOONGATE_TOKEN"  # noqa: S105 - the name of one
# What all of these clients take; a dot, which instances may have, is refused by some.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")
_TOML_PLAIN = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Door:
    """An instance as its clients see it. `token`: only at the moment it was made."""

    name: str
    streamable_http: str
    sse: str
    token_needed: bool = False
    token: str | None = field(default=None, repr=False)

    @property
    def local_name(self) -> str:
        """Its name inside the client."""
        return _NOT_IN_NAMES.sub("-", self.name).strip("-") or "moongate"

    def authorization(self, variable: str) -> str | None:
        """The value of the header; `variable` is how this client writes a variable. None: no token is needed."""
        if self.token is not None:
            return f"Bearer {self.token}"
        return f"Bearer {variable}" if self.token_needed else None


@dataclass(frozen=True, slots=True)
class Snippet:
    """One client's configuration: `text` in `language` (shell, json, toml) goes to `place`."""

    client: str
    title: str
    place: str
    language: str
    text: str = field(repr=False)
    notes: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "client": self.client,
            "title": self.title,
            "place": self.place,
            "language": self.language,
            "text": self.text,
            "notes": list(self.notes),
        }


def snippet(client: str, door: Door) -> Snippet:
    """One client's configuration. Raises KeyError for a client that is not in CLIENTS."""
    return _MAKERS[client](door)


def snippets(door: Door) -> tuple[Snippet, ...]:
    """All of them."""
    return tuple(maker(door) for maker in _MAKERS.values())


def _claude_code(door: Door) -> Snippet:
    words = ["claude", "mcp", "add", "--transport", "http", door.local_name, door.streamable_http]
    text = shlex.join(words)
    authorization = door.authorization(f"${TOKEN_VARIABLE}")
    if authorization is not None:
        # In double quotes the shell puts the variable in.
        quoted = (
            f'"Authorization: {authorization}"'
            if door.token is None
            else shlex.quote(f"Authorization: {authorization}")
        )
        text += f" \\\n  --header {quoted}"
    notes = ["Add --scope user for all your projects; without it the server is for you in this project."]
    return Snippet("claude-code", "Claude Code", "a shell", "shell", text, (*notes, *_set_variable(door)))


def _claude_desktop(door: Door) -> Snippet:
    arguments = ["connect", door.streamable_http]
    entry: dict[str, Any] = {"command": "moongate", "args": arguments}
    if door.token is not None or door.token_needed:
        arguments += ["--header", f"Authorization: Bearer ${{{TOKEN_VARIABLE}}}"]
        entry["env"] = {TOKEN_VARIABLE: door.token or "PUT-THE-TOKEN-HERE"}
    notes = (
        "It can only start programs, so moongate must be installed on the user's machine.",
        "If moongate is not found, write its full path. Restart Claude Desktop after saving.",
        "macOS: ~/Library/Application Support/Claude. Windows: %APPDATA%\\Claude. Linux: ~/.config/Claude.",
    )
    text = _servers("mcpServers", door, entry)
    return Snippet("claude-desktop", "Claude Desktop", "claude_desktop_config.json", "json", text, notes)


def _cursor(door: Door) -> Snippet:
    entry = _remote(door, f"${{env:{TOKEN_VARIABLE}}}")
    notes = ("For one project, write .cursor/mcp.json in its folder instead.", *_set_variable(door, "Cursor"))
    return Snippet("cursor", "Cursor", "~/.cursor/mcp.json", "json", _servers("mcpServers", door, entry), notes)


def _vscode(door: Door) -> Snippet:
    """The token is always asked for: VS Code keeps what is typed in its own safe, and the file may be shared."""
    entry: dict[str, Any] = {"type": "http", "url": door.streamable_http}
    document: dict[str, Any] = {"servers": {door.local_name: entry}}
    notes: tuple[str, ...] = ("For all workspaces, run the command MCP: Open User Configuration and write it there.",)
    if door.token is not None or door.token_needed:
        key = f"{door.local_name}-token"
        entry["headers"] = {"Authorization": f"Bearer ${{input:{key}}}"}
        document["inputs"] = [
            {"type": "promptString", "id": key, "description": f"Token for {door.name}", "password": True}
        ]
        notes += ("VS Code asks for the token when the server starts for the first time, and remembers it.",)
    return Snippet("vscode", "VS Code", ".vscode/mcp.json", "json", _json(document), notes)


def _codex(door: Door) -> Snippet:
    lines = [f"[mcp_servers.{door.local_name}]", f"url = {_toml(door.streamable_http)}"]
    if door.token is not None:
        lines.append(f'http_headers = {{ "Authorization" = {_toml(f"Bearer {door.token}")} }}')
    elif door.token_needed:
        lines.append(f'bearer_token_env_var = "{TOKEN_VARIABLE}"')
    return Snippet(
        "codex", "Codex", "~/.codex/config.toml", "toml", "\n".join(lines) + "\n", _set_variable(door, "Codex")
    )


def _plain(door: Door) -> Snippet:
    entry = {"type": "streamable-http", **_remote(door, f"${{{TOKEN_VARIABLE}}}")}
    notes = [
        f'A client that speaks HTTP+SSE only: {door.sse} and "type": "sse".',
        "A client that can only start programs: as for Claude Desktop.",
    ]
    if door.token is None and door.token_needed:
        notes.append(f"A client that does not replace ${{{TOKEN_VARIABLE}}} needs the token itself in its place.")
    return Snippet(
        "mcpServers",
        "Other clients",
        "the client's mcp.json",
        "json",
        _servers("mcpServers", door, entry),
        tuple(notes),
    )


def _remote(door: Door, variable: str) -> dict[str, Any]:
    authorization = door.authorization(variable)
    headers = {} if authorization is None else {"headers": {"Authorization": authorization}}
    return {"url": door.streamable_http, **headers}


def _servers(key: str, door: Door, entry: dict[str, Any]) -> str:
    return _json({key: {door.local_name: entry}})


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _toml(text: str) -> str:
    """A basic string (TOML 1.0); JSON's escapes are among its."""
    return json.dumps(text, ensure_ascii=not _TOML_PLAIN.fullmatch(text))


def _set_variable(door: Door, program: str = "") -> tuple[str, ...]:
    if door.token is not None or not door.token_needed:
        return ()
    where = f" where {program} is started" if program else " first"
    return (f"Set the environment variable {TOKEN_VARIABLE} to the token{where}.",)


_MAKERS: dict[str, Callable[[Door], Snippet]] = {
    "claude-code": _claude_code,
    "claude-desktop": _claude_desktop,
    "cursor": _cursor,
    "vscode": _vscode,
    "codex": _codex,
    "mcpServers": _plain,
}
CLIENTS = tuple(_MAKERS)
