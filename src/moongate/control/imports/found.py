"""What importing finds: entries that become instances, and notes about what changes or is lost on the way."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from moongate.control.nodes import shown

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
MAX_NAME = 63


@dataclass(frozen=True, slots=True)
class Note:
    """`lost`: something that was written has no effect any more. `where` is file:line, `entry` the instance's name."""

    where: str
    entry: str
    text: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """One server. `config` is an entry of `mcpServers`, in which `${NAME}` is a variable of the environment."""

    name: str
    config: dict[str, Any] = field(repr=False)
    where: str
    enabled: bool = True

    @property
    def hosted(self) -> bool:
        """Whether the gateway runs it."""
        return "command" in self.config


@dataclass(slots=True)
class Imported:
    """A file. `kind` says in words whose it is."""

    kind: str
    servers: list[Found] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def note(self, where: str, entry: str, text: str) -> None:
        """Something is different now, and means the same."""
        self.notes.append(Note(where, entry, text))

    def lose(self, where: str, entry: str, text: str) -> None:
        """Something is not taken over."""
        self.notes.append(Note(where, entry, text, lost=True))

    def add(self, written: str, config: dict[str, Any], where: str, *, enabled: bool = True) -> None:
        """A server under a name that instances can have, if it has an address or a command."""
        wrong = next((key for key in ("url", "command") if not isinstance(config.get(key, ""), str)), None)
        if wrong is not None or not (config.get("url") or config.get("command")):
            reason = f"{wrong} is not text" if wrong else "has neither url nor command"
            self.lose(where, shown(written, quote=False), f"{reason}; it is left out")
            return
        name = _NOT_IN_NAMES.sub("-", written).strip("-.")[:MAX_NAME] or "server"
        if any(server.name == name for server in self.servers):
            number = 2
            while any(server.name == f"{name}-{number}" for server in self.servers):
                number += 1
            name = f"{name}-{number}"
        if name != written:
            self.note(
                where, name, f"it was called {written!r}; names of instances are unique and have letters, digits, . _ -"
            )
        self.servers.append(Found(name, config, where, enabled))
