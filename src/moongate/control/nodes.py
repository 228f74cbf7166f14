"""A parsed configuration text whose every key and value still knows its file and line.

Schema errors name a path such as `("mcpServers", "time", "timeout")`; `find` leads it back to the place where it was
written, and `describe` says what was found there without ever showing a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

Loc = tuple[int | str, ...]

# Whatever stands below one of these keys is never shown, wherever in the file it is.
SECRET_KEYS = frozenset({"headers", "token", "sha256", "add", "set", "env", "args"})
# The keys that hold addresses: a user, password or query in them is cut off before they are shown.
ADDRESS_KEYS = frozenset({"url", "host", "publicUrl"})
SHOWN_LENGTH = 60
# What messages call the place of what came from the store, and what `Route.where` says of such an instance.
STORE = "store"
_KEY_HEAD = re.compile(r"[^\s:=\x00-\x20\x7f-\x9f]{0,60}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written; lines count from 1 (0: there are none, it was not a file)."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(slots=True)
class Scalar:
    """One value. `references` are the environment variables that it was made from; `inserted`: with what they held.

    `whole`: the text was exactly one reference, and may become a number or a boolean. `broken`: a complaint about the
    value was already made, so that its text means nothing.
    """

    value: str | int | float | bool | None
    place: Place
    references: tuple[str, ...] = ()
    inserted: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    whole: bool = False
    broken: bool = False


@dataclass(slots=True)
class Sequence:
    """A list."""

    items: list[Node]
    place: Place


@dataclass(slots=True)
class Mapping:
    """A block of keys. Each key has its own place, which may be lines above its value."""

    entries: dict[str, Entry]
    place: Place


@dataclass(slots=True)
class Entry:
    """The place of a key, and its value."""

    place: Place
    node: Node


Node = Scalar | Sequence | Mapping


class Reference(str):
    """The text of a value that was exactly one `${NAME}`; a schema that wants a number or a boolean may convert it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Found:
    """Where a path leads: the nearest place, and the node if there is one. `broken`: it was complained about before."""

    place: Place
    node: Node | None
    broken: bool


def plain(node: Node) -> object:
    """The bare values, as a schema reads them."""
    if isinstance(node, Mapping):
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    if node.whole and isinstance(node.value, str):
        return Reference(node.value)
    return node.value


def find(root: Mapping, loc: Loc) -> Found:
    """Follow a path as far as it goes; what is missing is placed at its nearest written parent."""
    place = root.place
    current: Node = root
    for step in loc:
        if isinstance(current, Mapping) and isinstance(step, str) and step in current.entries:
            entry = current.entries[step]
            place, current = entry.place, entry.node
        elif isinstance(current, Sequence) and isinstance(step, int) and step < len(current.items):
            current = current.items[step]
            place = current.place
        else:
            return Found(place, None, broken=isinstance(current, Scalar) and current.broken)
    return Found(place, current, broken=isinstance(current, Scalar) and current.broken)


def broken(node: Node, loc: Loc = ()) -> Iterator[Loc]:
    """The paths of all values that were complained about when they were read."""
    if isinstance(node, Mapping):
        for key, entry in node.entries.items():
            yield from broken(entry.node, (*loc, key))
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from broken(item, (*loc, index))
    elif node.broken:
        yield loc


def scalars(node: Node) -> Iterator[Scalar]:
    """Every value below a node, itself included."""
    if isinstance(node, Mapping):
        for entry in node.entries.values():
            yield from scalars(entry.node)
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from scalars(item)
    else:
        yield node


def dotted(loc: Loc) -> str:
    """A path as operators read it: `binds[0].listeners[1].hostname`."""
    text = ""
    for step in loc:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{cut_key(step)}" if text else cut_key(step)
    return text


def cut_key(key: str) -> str:
    """A key as it may be shown: up to a colon or `=`, for someone may have written `Authorization: Bearer ...` or
    `KEY=...` as one key.
    """
    head = _KEY_HEAD.match(key)
    return key if head and head.group() == key else (head.group() if head else "") + "..."


def describe(node: Node | None, loc: Loc) -> str:
    """What was found, in words that are safe to print: nothing secret, and nothing from the environment."""
    if node is None:
        return "nothing"
    if isinstance(node, Mapping):
        return "a block of keys"
    if isinstance(node, Sequence):
        return "a list"
    if node.references:
        return " ".join(f"(value of ${{{name}}})" for name in node.references)
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    secret = any(step in SECRET_KEYS for step in loc)
    if isinstance(node.value, str):
        if secret:
            return "a text that is not shown here"
        return shown(_public_part(node.value) if loc and loc[-1] in ADDRESS_KEYS else node.value)
    return "a number" if secret else shown(str(node.value), quote=False)


def shown(text: str, *, quote: bool = True) -> str:
    """A text of the operator, short and without control characters."""
    cut = text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + "..."
    return repr(cut) if quote else cut


def _public_part(url: str) -> str:
    """An address without user, password, query and fragment."""
    head = url.split("?", 1)[0].split("#", 1)[0]
    scheme, separator, rest = head.rpartition("://")
    user, at, host = rest.rpartition("@")
    return scheme + separator + ("...@" if user or at else "") + host


def prune(root: Mapping, locs: Iterable[Loc]) -> Mapping:
    """The same tree without the nodes at these paths; places and the order of what stays are kept."""
    result: Mapping = root
    for loc in sorted(set(locs), key=_removal_order, reverse=True):
        pruned = _without(result, loc)
        if isinstance(pruned, Mapping):
            result = pruned
    return result


def _removal_order(loc: Loc) -> tuple[tuple[int, str], ...]:
    """Later list items go first, so that the positions of earlier ones stay right."""
    return tuple((step, "") if isinstance(step, int) else (-1, step) for step in loc)


def _without(node: Node, loc: Loc) -> Node:
    head, rest = loc[0], loc[1:]
    if isinstance(node, Mapping) and isinstance(head, str) and head in node.entries:
        entries = dict(node.entries)
        if rest:
            entries[head] = replace(entries[head], node=_without(entries[head].node, rest))
        else:
            del entries[head]
        return Mapping(entries, node.place)
    if isinstance(node, Sequence) and isinstance(head, int) and head < len(node.items):
        items = list(node.items)
        if rest:
            items[head] = _without(items[head], rest)
        else:
            del items[head]
        return Sequence(items, node.place)
    return node
