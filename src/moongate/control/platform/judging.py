"""The compiler's verdict on what is about to be stored, said about instances and fields instead of files and lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moongate.control.compile import compile_documents
from moongate.control.files import Documents
from moongate.control.jsontext import read_json
from moongate.control.nodes import Entry, Loc, Mapping, Node, Place, Scalar, Sequence, dotted, plain
from moongate.control.platform.masks import MASK
from moongate.control.reading import MAX_BYTES, MAX_DEPTH, Unreadable
from moongate.control.schema.mcp_servers import PROTOCOLS, STDIO
from moongate.control.yamltext import read_yaml
from moongate.errors import Complaint, ConfigError

MAX_CONFIG = 256 * 1024
PASTED = "the pasted text"
_HALF = re.compile(r"[\ud800-\udfff]")
_PROTOCOL_KEYS = ("type", "transport")
_SWITCHES = ("disabled", "enabled")
_BLOCKS = ("mcpServers", "servers")
_IGNORED = frozenset({"$schema"})
# Of clients' files; they mean nothing here, and would only be in the way.
_MEANINGLESS = frozenset({"name", "description", "icon", "alwaysAllow", "autoApprove", "gallery", "version"})

STDIO_IN_PROXY = (
    "stdio servers are local commands, and access mode proxy only forwards to an address; use hosted mode (access mode "
    f"hosted) for it, or give the url of a server that speaks {' or '.join(PROTOCOLS)}"
)
URL_IN_HOSTED = "access mode hosted runs a local command; a server that has an address needs access mode proxy"
NO_COMMAND = "is missing: access mode hosted runs a local command; write the program to run, such as npx"
REFERENCE = (
    "references to environment variables (${...}) are for files; write the value itself: it is stored encrypted and "
    "never shown again"
)


@dataclass(frozen=True, slots=True)
class Pasted:
    """One entry of a pasted block: what becomes an instance."""

    name: str
    config: dict[str, Any]
    enabled: bool


def access_mode(config: dict[str, Any]) -> str:
    """The access mode that an entry means: hosted if there is a command, or it says stdio."""
    stdio = any(config.get(key) == STDIO for key in _PROTOCOL_KEYS)
    return "hosted" if config.get("command") or (stdio and not config.get("url")) else "proxy"


def without_switch(config: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """An entry without `disabled` and `enabled`, and what they say: an instance has a switch of its own."""
    off = config.get("disabled") is True or config.get("enabled") is False
    kept = {key: value for key, value in config.items() if key not in _SWITCHES or not isinstance(value, bool)}
    return kept, not off


def meaningful(config: dict[str, Any]) -> dict[str, Any]:
    """An entry without the keys that the gateway ignores."""
    return {key: value for key, value in config.items() if key not in _MEANINGLESS}


def judge_instance(name: str, mode: str, config: dict[str, Any]) -> list[Complaint]:
    """Everything that is wrong about an entry; nothing if it can be served."""
    where = f"instance {name}"
    unusable = _unusable(config)
    if unusable:
        return [Complaint(where, unusable)]
    complaints = [_at(where, dotted(loc), text) for loc, text in _not_literal(config, ())]
    unfit = list(_unfit(mode, config))
    if unfit:
        return [*complaints, *(_at(where, field, text) for field, text in unfit)]
    return [*complaints, *_compiled({"mcpServers": {name: config}}, ("mcpServers", name), where)]


def judge_access(block: dict[str, Any]) -> list[Complaint]:
    """Everything that is wrong about gateway-wide access rules."""
    unusable = _unusable(block)
    if unusable:
        return [Complaint("access", unusable)]
    complaints = [_at("access", dotted(loc), text) for loc, text in _not_literal(block, ())]
    return [*complaints, *_compiled({"gateway": {"access": block}}, ("gateway", "access"), "access")]


def read_pasted(pasted: str | dict[str, Any]) -> tuple[list[Pasted], list[Complaint]]:
    """The entries of a block as MCP clients keep it, from its text (JSON or YAML) or already read."""
    document: object = pasted
    complaints: list[Complaint] = []
    if isinstance(pasted, str):
        if len(pasted) > MAX_BYTES:
            return [], [Complaint(PASTED, f"is larger than {MAX_BYTES} bytes")]
        if _HALF.search(pasted):
            return [], [Complaint(PASTED, "holds half a character (a lone surrogate), which is no text")]
        try:
            text = pasted.removeprefix("\ufeff")
            node, complaints = (read_json if text.lstrip().startswith("{") else read_yaml)(text, PASTED)
        except Unreadable as error:
            return [], [Complaint(str(error.place), error.reason)]
        document = None if node is None else plain(node)
    block, wrong = _block(document)
    complaints += wrong
    entries = []
    for name, config in block.items():
        if isinstance(config, dict):
            kept, enabled = without_switch(config)
            entries.append(Pasted(str(name), kept, enabled))
        else:
            complaints.append(Complaint(f"instance {name}", "must be a block of keys such as url and headers"))
    return entries, complaints


def _block(document: object) -> tuple[dict[str, Any], list[Complaint]]:
    example = 'write {"mcpServers": {"NAME": {"url": "https://..."}}}'
    if not isinstance(document, dict) or not document:
        return {}, [Complaint(PASTED, f"is not a block of servers; {example}")]
    key = next((key for key in _BLOCKS if key in document), None)
    if key is None:
        if any(isinstance(document.get(name), str) for name in ("url", "command")):
            return {}, [Complaint(PASTED, f"is one server without its name; {example}")]
        if all(isinstance(value, dict) for value in document.values()):
            return document, []
        return {}, [Complaint(PASTED, f"has no mcpServers; {example}")]
    others = [name for name in document if name != key and name not in _IGNORED]
    complaints = [
        Complaint(PASTED, f"{name!r} cannot be pasted, only servers can; it belongs into a file, remove it here")
        for name in others
    ]
    if not isinstance(document[key], dict) or not document[key]:
        complaints.append(Complaint(PASTED, f"{key} holds no servers; {example}"))
        return {}, complaints
    return document[key], complaints


def _unusable(config: dict[str, Any]) -> str | None:
    try:
        size = len(json.dumps(config, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, TypeError, RecursionError):
        return "holds something that is not JSON: a number that is none, half a character, or endless nesting"
    if size > MAX_CONFIG:
        return f"is larger than {MAX_CONFIG} bytes"
    return f"is nested deeper than {MAX_DEPTH} levels" if _depth(config) > MAX_DEPTH else None


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _not_literal(value: Any, loc: Loc) -> Iterator[tuple[Loc, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _not_literal(item, (*loc, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_literal(item, (*loc, index))
    elif isinstance(value, str) and "${" in value:
        yield loc, REFERENCE
    elif isinstance(value, str) and (found := MASK.search(value)):
        yield loc, f"{found[0]} is a mask, not a value; write the value itself"


def _unfit(mode: str, config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What contradicts the access mode: then the other complaints would only hide the reason."""
    if mode == "proxy":
        if config.get("command"):
            yield "command", STDIO_IN_PROXY
        yield from ((key, STDIO_IN_PROXY) for key in _PROTOCOL_KEYS if config.get(key) == STDIO)
    elif config.get("url") is not None:
        yield "url", URL_IN_HOSTED
    elif not config.get("command"):
        yield "command", NO_COMMAND


def _compiled(document: dict[str, Any], prefix: Loc, where: str) -> list[Complaint]:
    try:
        compile_documents(Documents(tree(document, where), (where,)))
    except ConfigError as error:
        return [_placed(complaint.text, dotted(prefix), where) for complaint in error.complaints]
    return []


def tree(document: dict[str, Any], where: str) -> Mapping:
    """A document as the compiler reads it; everything in it is literal and has the same place."""
    place = Place(where, 0)

    def node(value: Any) -> Node:
        if isinstance(value, dict):
            return Mapping({key: Entry(place, node(item)) for key, item in value.items()}, place)
        if isinstance(value, list):
            return Sequence([node(item) for item in value], place)
        return Scalar(value, place)

    return Mapping({key: Entry(place, node(item)) for key, item in document.items()}, place)


def _placed(text: str, prefix: str, where: str) -> Complaint:
    """The compiler says the path at the beginning (`mcpServers.time.timeout: ...`), or where an unknown key is."""
    if text.startswith(prefix):
        field, _, reason = text[len(prefix) :].partition(": ")
        return _at(where, field.removeprefix("."), reason)
    inside = re.match(r"('.*?'|\".*?\"|unknown key (?:'.*?'|\".*?\")) in " + re.escape(prefix) + r"([^\s;]*)", text)
    if inside is not None:
        return _at(where, inside[2].removeprefix("."), inside[1] + text[inside.end() :])
    return Complaint(where, text)


def _at(where: str, field: str, text: str) -> Complaint:
    return Complaint(f"{where}: {field}" if field else where, text)
