"""Codex: `[mcp_servers.NAME]` in `config.toml`, in which nothing is a variable but what is named as one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from typing import Any, TypeVar

from moongate.control.imports.found import Imported
from moongate.control.imports.references import literal
from moongate.control.nodes import shown
from moongate.errors import Complaint, ConfigError

Kind = TypeVar("Kind", list[Any], dict[str, Any])
TABLE = "mcp_servers"
MAX_SECONDS = 86_400
_LINE = re.compile(r"\(at line (\d+)")
_LOST = {
    "enabled_tools": "allows tools on the client's side; write access rules (allow) to do so for all callers",
    "disabled_tools": "denies tools on the client's side; write access rules (deny) to do so for all callers",
    "scopes": "is of a sign-in on behalf of a user, which the gateway does not do",
    "oauth_resource": "is of a sign-in on behalf of a user, which the gateway does not do",
    "bearer_token": "is not of Codex either; write the header Authorization",
}
_KEPT = frozenset({"command", "args", "env", "cwd", "url"})
_HANDLED = frozenset(
    {"enabled", "required", "env_vars", "http_headers", "env_http_headers", "bearer_token_env_var"}
    | {"startup_timeout_sec", "startup_timeout_ms", "tool_timeout_sec"}
)


def read_codex(text: str, name: str) -> Imported:
    """The servers of a file. Raises ConfigError for what is not TOML."""
    try:
        root = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = _LINE.search(str(error))
        where = f"{name}:{line[1]}" if line else name
        raise ConfigError((Complaint(where, "is not TOML (as of Codex) from here on"),)) from None
    imported = Imported("Codex")
    tables = root.get(TABLE)
    if not isinstance(tables, dict):
        imported.lose(name, "", f"there is no table {TABLE}")
        return imported
    for key, written in tables.items():
        where = f"{name}:{_line(text, key)}"
        if isinstance(written, dict):
            _entry(key, written, where, imported)
        else:
            imported.lose(where, shown(key, quote=False), "is not a table; it is left out")
    return imported


def _line(text: str, key: str) -> int:
    """Where a table begins; 1 if it is written in a way that is not looked for."""
    quoted = re.escape(key)
    found = re.search(rf"^[ \t]*\[[ \t]*{TABLE}[ \t]*\.[ \t]*[\"']?{quoted}[\"']?[ \t]*\]", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _entry(key: str, written: dict[str, Any], where: str, imported: Imported) -> None:
    name = shown(key, quote=False)
    config: dict[str, Any] = {inner: literal(value) for inner, value in written.items() if inner in _KEPT}
    for inner in sorted(written.keys() - _KEPT - _HANDLED):
        imported.lose(
            where, name, f"{shown(inner, quote=False)} {_LOST.get(inner, 'means nothing here')}; it is left out"
        )

    def lose(text: str) -> None:
        imported.lose(where, name, text)

    headers = _headers(written, lose)
    if headers:
        config["headers"] = headers
    for variable in _values(written, "env_vars", list, lose):
        if isinstance(variable, str):
            config["env"] = {**_values(config, "env", dict, lose), variable: f"${{{variable}}}"}
        else:
            lose("an entry of env_vars is not a name; it is left out")
    _times(written, config, lose)
    imported.add(key, config, where, enabled=written.get("enabled") is not False)


_WORDS: dict[type, str] = {list: "list", dict: "table"}


def _headers(written: dict[str, Any], lose: Callable[[str], None]) -> dict[str, Any]:
    headers: dict[str, Any] = dict(literal(_values(written, "http_headers", dict, lose)))
    for name, variable in _values(written, "env_http_headers", dict, lose).items():
        headers[name] = f"${{{variable}}}"
    if variable := written.get("bearer_token_env_var"):
        headers["Authorization"] = f"Bearer ${{{variable}}}"
    return headers


def _values(written: dict[str, Any], key: str, kind: type[Kind], lose: Callable[[str], None]) -> Kind:
    """A block or a list; an empty one, and a note, where it is something else."""
    value: object = written.get(key)
    if isinstance(value, kind):
        return value
    if value is not None:
        lose(f"{key} is not a {_WORDS[kind]}; it is left out")
    return kind()


def _times(written: dict[str, Any], config: dict[str, Any], lose: Callable[[str], None]) -> None:
    for key, one in (("tool_timeout_sec", 1.0), ("startup_timeout_sec", 1.0), ("startup_timeout_ms", 0.001)):
        value = written.get(key)
        if value is None:
            continue
        if not isinstance(value, int | float) or not 0 < value * one < MAX_SECONDS:
            lose(f"{key} is not a time; it is left out")
        elif key == "tool_timeout_sec":
            config["timeout"] = max(1, round(value * 1000))
        elif "command" in config:
            config.setdefault("startTime", f"{value * one:g}s")
