"""Lists of tools, prompts, resources and templates without some of their items, by cutting raw JSON.

Only the items that go, with a comma beside each, and the value of `cacheScope` change; every other byte stays as it is.
What cannot be cut safely (a member that stands twice, a list that is none) is an error: two readers might see two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from moongate.errors import Refusal
from moongate.protocol.asks import PROMPT, RESOURCE, TOOL
from moongate.protocol.forms import UNREADABLE
from moongate.protocol.jsonrpc import members_of

_KEY = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*')
_NEXT = re.compile(rb"[ \t\r\n]*([,}\]])[ \t\r\n]*")
_BLANK = b" \t\r\n"
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_PRIVATE = b'"private"'


class List(NamedTuple):
    """A list in a result: the kind of its items, and the member that names one."""

    kind: str
    name: str


# By the member of the result; and what asks for them.
LISTS = {
    "tools": List(TOOL, "name"),
    "prompts": List(PROMPT, "name"),
    "resources": List(RESOURCE, "uri"),
    "resourceTemplates": List(RESOURCE, "uriTemplate"),
}
LISTED_BY = frozenset({"tools/list", "prompts/list", "resources/list", "resources/templates/list"})

_FOLDED = frozenset(map(str.casefold, LISTS))

# All these names end so, and hardly anything else in an answer does.
_ENDING: Final = b's"'
_QUOTED = tuple(f'"{member}"'.encode() for member in LISTS)
_NAMED = re.compile(rb'"(?:%b)"' % b"|".join(map(str.encode, LISTS)))
# A bracket that might open a list: each name ends in s, and there may be white space on both sides of the colon. In
# most answers there are few brackets, but many quotes.
_MAY_OPEN: Final = re.compile(rb'\[(?<=[: \t\r\n]\[)(?<![^s]":\[)')
# A list, unless its name stands in a text or in the wrong place.
_LISTED: Final = re.compile(rb'"(?:%b)"[ \t\r\n]*+:[ \t\r\n]*+\[' % b"|".join(map(str.encode, LISTS)))
# It matches at every quote, also at that of a text which the window cuts off: looked at twice, long texts take ages.
_TOKEN: Final = re.compile(rb'"(?>(?:[^"\\]|\\.)*)(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_OPENING: Final = re.compile(rb"[{\[]")
_ARRAY_NEXT: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*\[")

# Takes kind and name; whether the item stays.
Keep = Callable[[str, str], bool]
_Span = tuple[int, int]


class UncutError(ValueError):
    """A list that cannot be cut; the text says why."""


def names_lists(window: bytes) -> bool:
    """Whether the name of a list stands anywhere in it; quotes inside of texts are escaped."""
    return _NAMED.search(window) is not None


def may_list(window: bytes) -> bool:
    """Whether an answer that begins with `window` holds a list, as servers write them: also in an event."""
    if window.find(_ENDING) < 0 or _MAY_OPEN.search(window) is None or _LISTED.search(window) is None:
        return False
    found = _OPENING.search(window)
    level = 3 if found is not None and found[0] == b"[" else 2
    depth = 0
    for token in _TOKEN.finditer(window):
        text = token[0]
        if text in (b"{", b"["):
            depth += 1
        elif text in (b"}", b"]"):
            depth -= 1
        elif depth == level and text in _QUOTED and _ARRAY_NEXT.match(window, token.end()):
            return True
    return False


def cut_lists(message: bytes, members: frozenset[str], keep: Keep) -> bytes:
    """A JSON-RPC message, or an array of them, whose results have only those items in `members` that `keep` keeps.

    Raises UncutError, also for what is no JSON.
    """
    start = len(message) - len(message.lstrip(_BLANK))
    cuts: list[tuple[_Span, bytes]] = []
    if message[start : start + 1] == b"[":
        for span in _items(message, (start, len(message))):
            _cut_message(message, span, members, (keep, cuts))
    else:
        _cut_message(message, (start, len(message)), members, (keep, cuts))
    if not cuts:
        return message
    parts: list[bytes] = []
    at = 0
    for (first, end), instead in sorted(cuts):
        parts += [message[at:first], instead]
        at = end
    return b"".join([*parts, message[at:]])


def _cut_message(
    message: bytes, span: _Span, members: frozenset[str], to: tuple[Keep, list[tuple[_Span, bytes]]]
) -> None:
    result = _members(message, span).get("result")
    if result is None or message[result[0] : result[0] + 1] != b"{":
        return
    keep, cuts = to
    found = _members(message, result)
    named = [member for member in LISTS if member in members and member in found]
    if _FOLDED & {key.casefold() for key in found.keys() - LISTS.keys()}:
        text = "an answer with a member that differs from a list only in case"
        raise UncutError(text)
    for member in named:
        _cut_items(message, found[member], LISTS[member], (keep, cuts))
    scope = found.get("cacheScope")
    if named and scope is not None and message[scope[0] : scope[1]] != _PRIVATE:
        cuts.append((scope, _PRIVATE))


def _cut_items(message: bytes, span: _Span, of: List, to: tuple[Keep, list[tuple[_Span, bytes]]]) -> None:
    keep, cuts = to
    if message[span[0] : span[0] + 1] != b"[":
        text = "a list that is no array"
        raise UncutError(text)
    spans = _items(message, span)
    kept = [number for number, (first, end) in enumerate(spans) if _stays(message[first:end], of, keep)]
    if len(kept) == len(spans):
        return
    # Each item that stays brings along what parts it from the one before it, but the first.
    starts = [spans[number - 1][1] if number != kept[0] else spans[number][0] for number in kept]
    rest = b"".join([message[start : spans[number][1]] for start, number in zip(starts, kept, strict=True)])
    cuts.append(((spans[0][0], spans[-1][1]), rest))


def _stays(item: bytes, of: List, keep: Keep) -> bool:
    """Whether an item may be seen; one whose name cannot be told may not."""
    try:
        named = members_of(msgspec.Raw(item), frozenset({of.name})).get(of.name)
        name = None if named is None else _TEXT.decode(named)
    except (Refusal, *UNREADABLE):
        return False
    return name is not None and keep(of.kind, name)


def _members(message: bytes, span: _Span) -> dict[str, _Span]:
    """Where the values of an object are. `span` may end behind it, if only white space follows."""
    start, end = span
    try:
        raw = _MEMBERS.decode(message[start:end])
    except UNREADABLE:
        raise UncutError("an answer that is not a JSON object") from None
    found: dict[str, _Span] = {}
    at = start + 1
    # If no member is repeated, keys come in the order in which the decoder met them, each followed by its own value.
    for key, value in raw.items():
        match = _KEY.match(message, at)
        if match is None or _TEXT.decode(match[1]) != key or not message.startswith(bytes(value), match.end()):
            raise _twice(key)
        found[key] = (match.end(), match.end() + len(value))
        behind = _NEXT.match(message, found[key][1])
        if behind is None:
            raise _twice(key)
        at = behind.end()
    if raw and at < end and message[at:end].strip(_BLANK):
        raise _twice(next(reversed(found)))
    return found


def _twice(key: str) -> UncutError:
    return UncutError(f"an answer in which {key[:64]!r}, or another member, stands twice")


def _items(message: bytes, span: _Span) -> list[_Span]:
    """Where the items of an array are. `span` may end behind it, if only white space follows."""
    start, end = span
    try:
        raw = _ITEMS.decode(message[start:end])
    except UNREADABLE:
        raise UncutError("an answer that is not a JSON array") from None
    found: list[_Span] = []
    at = start + 1
    for value in raw:
        while message[at] in _BLANK:
            at += 1
        found.append((at, at + len(value)))
        behind = _NEXT.match(message, found[-1][1])
        at = end if behind is None else behind.end()
    return found
