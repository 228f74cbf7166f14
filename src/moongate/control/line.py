"""One server that was named on the command line instead of in a file: an address, or a command to run.

It becomes a document like those that files hold, so that the same judge and the same compiler see it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as Environment
from dataclasses import dataclass, replace
from typing import Literal

from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.environment import expand
from moongate.control.files import Documents
from moongate.control.nodes import Entry, Mapping, Node, Place, Scalar, Sequence, shown
from moongate.errors import Complaint, ConfigError
from moongate.model.snapshot import Match, Snapshot

FROM = "command line"
_PLACE = Place(FROM, 0)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?(\[[^\]]*\]|[^/?#:]*)")
_RUNNERS = re.compile(
    r"(npx|bunx|uvx|uv|pipx|npm|pnpm|yarn|bun|deno|node|python[0-9.]*|env|sh|bash)|"
    r"(run|dlx|exec|tool|x)|"
    r"(docker|podman|nerdctl)"
)
# What may stand between a runner and the name of what it runs, without a value.
_BARE_FLAGS = frozenset({"-y", "--yes", "-m", "-i", "--interactive", "--rm", "-q", "--quiet"})
# Some clients take no dots in names.
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_ANY_HOST = frozenset({"mcp", "www", "api", "server", "localhost"})
_KIND = r"(mcp[-_.]server|server[-_.]mcp|mcp|server)"
_AFFIXES = re.compile(rf"^{_KIND}[-_.]|[-_.]{_KIND}$")
_EXTENSION = re.compile(r"\.(py|js|mjs|ts|sh)$")
MAX_NAME = 40


@dataclass(frozen=True, slots=True)
class Line:
    """What was written. Exactly one of `url` and `command` (never empty). `headers` are lines such as `X-Key: value`.

    In `url` and `headers` `${NAME}` is an environment variable; `command` is taken as it is, for a shell has read it.
    """

    url: str | None = None
    command: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    transport: Literal["auto", "streamable-http", "sse"] = "auto"

    @property
    def name(self) -> str:
        """What the server is called in logs and in clients."""
        return _host_name(self.url) if self.url is not None else _command_name(self.command)


def is_address(word: str) -> bool:
    """Whether a word is meant to be an address, and not a program."""
    return _ADDRESS.match(word) is not None


def read_line(line: Line, environ: Environment[str, str], options: CompileOptions) -> tuple[Snapshot, Documents]:
    """One instance at the root: `/mcp`, `/sse`. Raises ConfigError."""
    documents = line_documents(line, environ)
    try:
        snapshot = compile_documents(documents, options)
    except ConfigError as error:
        own = f"mcpServers.{line.name}."
        complaints = (replace(complaint, text=complaint.text.replace(own, "")) for complaint in error.complaints)
        raise ConfigError(tuple(complaints)) from None
    return _at_root(snapshot), documents


def line_documents(line: Line, environ: Environment[str, str]) -> Documents:
    """The document that a file with this server alone would hold, with what is wrong about its form."""
    complaints: list[Complaint] = []
    if line.url is None:
        program, *arguments = map(_text, line.command)
        entry = _block({"command": program, "args": Sequence([*arguments], _PLACE)})
    else:
        entry = _block({"url": _text(line.url), "headers": _headers(line.headers, complaints)})
        if line.transport != "auto":
            entry.entries["type"] = Entry(_PLACE, _text(line.transport))
        complaints += expand(entry, environ)
    return Documents(_block({"mcpServers": _block({line.name: entry})}), (FROM,), tuple(complaints))


def _headers(lines: tuple[str, ...], complaints: list[Complaint]) -> Mapping:
    headers: dict[str, Node] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            # Not shown: it may be the value alone.
            complaints.append(Complaint("--header", "must be a name, a colon and a value, such as 'X-Key: value'"))
        elif name.lower() in map(str.lower, headers):
            complaints.append(Complaint("--header", f"{shown(name)} is given twice; keep one of them"))
        else:
            headers[name] = _text(value.strip())
    return _block(headers)


def _block(entries: dict[str, Node]) -> Mapping:
    return Mapping({key: Entry(_PLACE, node) for key, node in entries.items()}, _PLACE)


def _text(value: str) -> Scalar:
    return Scalar(value, _PLACE)


def _at_root(snapshot: Snapshot) -> Snapshot:
    """Below the root itself there is nothing but the endings of an instance's addresses."""
    bind = snapshot.binds[0]
    listener = bind.listeners[0]
    route = replace(listener.routes[0], matches=(Match(),), where=FROM)
    return replace(snapshot, binds=(replace(bind, listeners=(replace(listener, routes=(route,)),)),))


def _host_name(url: str) -> str:
    """`example` of `https://mcp.example.com/`."""
    host = _HOST.match(url)
    *labels, top = (host[1] if host is not None else "").lower().split(".")
    if not top.isalpha():  # an address in numbers
        return _clean("")
    return _clean("-".join(label for label in labels or [top] if label not in _ANY_HOST))


def _command_name(command: tuple[str, ...]) -> str:
    """The name of what is run, without what is in front of it: `time` of `uvx mcp-server-time --local-timezone UTC`.

    A word that may be the value of an option is never taken: it may be a secret.
    """
    for position, word in enumerate(command):
        before = command[position - 1] if position else ""
        value = before.startswith("-") and before not in _BARE_FLAGS
        if word.startswith("-") or value or " " in word or "=" in word.partition("==")[0]:
            continue
        base = word.rpartition("/")[2]
        if not _RUNNERS.fullmatch(base):
            return _clean(_AFFIXES.sub("", _EXTENSION.sub("", re.split(r"[@:]|==", base)[0])))
    return _clean(command[0].rpartition("/")[2])


def _clean(text: str) -> str:
    """A name that instances can have."""
    name = _NOT_A_NAME.sub("-", text).strip("-")[:MAX_NAME]
    return name or "server"
