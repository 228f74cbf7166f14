"""Whose file it is, and what is in it."""

from __future__ import annotations

import re
from pathlib import Path

from moongate.control.imports.agentgateway import read_binds
from moongate.control.imports.codex import read_codex
from moongate.control.imports.found import Imported
from moongate.control.imports.servers import read_servers
from moongate.control.jsontext import read_json
from moongate.control.nodes import Entry, Loc, Mapping, Node, find
from moongate.control.reading import MAX_BYTES, Unreadable
from moongate.control.yamltext import read_yaml
from moongate.errors import Complaint, ConfigError

# A string, a comment, or a comma that a closing bracket follows: editors allow the latter two in their JSON.
_LOOSE = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]])', re.DOTALL)
_TOML = re.compile(r"^[ \t]*\[[ \t]*mcp_servers\b", re.MULTILINE)


def read_import(text: str, name: str) -> Imported:
    """The servers of a file. `name` is shown. Raises ConfigError for a text that cannot be understood at all."""
    if len(text) > MAX_BYTES:
        raise ConfigError((Complaint(name, f"is larger than {MAX_BYTES} bytes"),))
    if Path(name).suffix.lower() == ".toml" or (_TOML.search(text) and not text.lstrip().startswith("{")):
        return read_codex(text, name)
    root, complaints = _parse(text, name)
    imported = _read(root, name)
    for complaint in complaints:
        imported.lose(complaint.where, "", complaint.text)
    return imported


def _parse(text: str, name: str) -> tuple[Mapping, list[Complaint]]:
    node: Node | None
    try:
        if text.lstrip().startswith(("{", "//", "/*")) and Path(name).suffix.lower() not in {".yaml", ".yml"}:
            node, complaints = read_json(_LOOSE.sub(_strict, text), name)
        else:
            node, complaints = read_yaml(text, name)
    except Unreadable as error:
        raise ConfigError((Complaint(str(error.place), error.reason),)) from None
    if not isinstance(node, Mapping):
        text = "is neither a client's configuration nor a gateway's: a block of keys is expected"
        raise ConfigError((Complaint(name, text),))
    return node, complaints


def _strict(match: re.Match[str]) -> str:
    """Comments and spare commas become blanks, so that lines stay where they are."""
    found = match[0]
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)


def _read(root: Mapping, name: str) -> Imported:
    keys = root.entries.keys()
    if "binds" in keys and "mcpServers" not in keys:
        imported = Imported("agentgateway")
        read_binds(root, imported)
        return imported
    blocks = _blocks(root)
    if not blocks:
        if keys and all(_is_entry(entry.node) for entry in root.entries.values()):
            imported = Imported("a list of servers")
            read_servers(Mapping({"mcpServers": Entry(root.place, root)}, root.place), ("mcpServers",), imported)
            return imported
        text = "holds no servers: mcpServers, servers (VS Code), [mcp_servers.NAME] (Codex) or binds (agentgateway)"
        raise ConfigError((Complaint(name, text),))
    imported = Imported("VS Code" if blocks[0][-1] == "servers" else "mcpServers")
    for loc in blocks:
        read_servers(root, loc, imported)
    if "gateway" in keys or "binds" in keys:
        for key in sorted(keys - {"mcpServers", "$schema"}):
            place = str(find(root, (key,)).place)
            imported.lose(place, "", f"{key} is of the whole gateway; only its instances are taken over")
    return imported


def _blocks(root: Mapping) -> list[Loc]:
    """Where servers may stand: Claude's and Cursor's, VS Code's files and settings, the projects of Claude Code."""
    places: list[Loc] = [("mcpServers",), ("servers",), ("mcp", "servers")]
    projects = find(root, ("projects",)).node
    if isinstance(projects, Mapping):
        places += [("projects", name, "mcpServers") for name in projects.entries]
    return [loc for loc in places if isinstance(find(root, loc).node, Mapping)]


def _is_entry(node: Node) -> bool:
    return isinstance(node, Mapping) and not node.entries.keys().isdisjoint({"url", "command", "serverUrl", "httpUrl"})
