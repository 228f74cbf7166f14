"""What a message asks for, in the words of access rules: a tool, a prompt, a resource, or a method alone.

A resource that can be written in several ways is asked for in two of them, as it came and in one canonical form: a rule
must not be evaded by `%2e%2e`, by `FILE:` or by a backslash.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

from moongate.errors import Refusal
from moongate.protocol.jsonrpc import UNREADABLE, Envelope, members_of
from moongate.protocol.methods import NOTIFICATIONS, method_named

TOOL, PROMPT, RESOURCE, METHOD = "tool", "prompt", "resource", "method"
# How each kind of thing is used.
USES = {TOOL: "tools/call", PROMPT: "prompts/get", RESOURCE: "resources/read"}

# What these ask for stands in other places than the name that an envelope has.
SAY_MORE = frozenset({"completion/complete", "subscriptions/listen"})

# Comparing longer ones would hold up everybody else's requests.
MAX_URI = 8192

_ROUNDS = 3
_ENDS = "".join(map(chr, range(0x21)))
_DROPPED = str.maketrans("", "", "\t\r\n")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_AUTHORITY = re.compile(r"//([^/?#]*)(.*)", re.DOTALL)
_LOCAL = frozenset({"", "localhost", "127.0.0.1", "[::1]"})

_ABSENT = msgspec.Raw()
_TEXT = msgspec.json.Decoder(str)
_TEXTS = msgspec.json.Decoder(list[str])
_REF = frozenset({"type", "name", "uri", "title"})
_FILTER = frozenset({"resourceSubscriptions"})


class _Params(msgspec.Struct, gc=False):
    arguments: msgspec.Raw = _ABSENT
    ref: msgspec.Raw = _ABSENT
    notifications: msgspec.Raw = _ABSENT


class _Message(msgspec.Struct, gc=False):
    params: _Params | None = None


_MESSAGE = msgspec.json.Decoder(_Message)


class Ask(NamedTuple):
    """One thing that is asked for. `kind` and `name` are empty where it is the method alone."""

    method: str
    kind: str = ""
    name: str = ""

    @property
    def common(self) -> bool:
        """Whether it is part of every conversation, and calls and reads nothing."""
        return not self.kind and (self.method.startswith(NOTIFICATIONS) or method_named(self.method).common)


class UnclearError(ValueError):
    """It cannot be told what a message asks for; the text says why."""


def asks_of(message: Envelope, raw: bytes) -> tuple[Ask, ...]:
    """Everything that a message asks for; nothing for a response. `raw` is the message. Raises UnclearError."""
    method = message.method
    if not method:
        return ()
    kind = method_named(method).kind
    if kind:
        if message.target is None:
            text = f"{method} does not say which {kind}"
            raise UnclearError(text)
        return using(kind, message.target, method)
    if method == "completion/complete":
        return _completed(method, _params(raw).ref)
    if method == "subscriptions/listen":
        return (Ask(method), *_listened(method, _params(raw).notifications))
    return (Ask(method),)


def using(kind: str, name: str, method: str) -> tuple[Ask, ...]:
    """What a call of `method` asks for that names one tool, prompt or resource. Raises UnclearError."""
    if kind == RESOURCE and len(name) > MAX_URI:
        text = f"{method} names a resource of more than {MAX_URI} characters"
        raise UnclearError(text)
    ask = Ask(method, kind, name)
    if kind != RESOURCE or (other := canonical(name)) == name:
        return (ask,)
    return ask, Ask(method, kind, other)


def raw_arguments(raw: bytes) -> bytes:
    """`params.arguments` of a message whose params are judged already; b"" if there are none."""
    return bytes(_params(raw).arguments)


def _params(raw: bytes) -> _Params:
    try:
        return _MESSAGE.decode(raw).params or _Params()
    except UNREADABLE:
        return _Params()


def _completed(method: str, ref: msgspec.Raw) -> tuple[Ask, ...]:
    text = f"{method} does not say which prompt or resource"
    try:
        members = members_of(ref, _REF)
        kind, field = {"ref/prompt": (PROMPT, "name"), "ref/resource": (RESOURCE, "uri")}[_TEXT.decode(members["type"])]
        return using(kind, _TEXT.decode(members[field]), method)
    except (KeyError, Refusal, *UNREADABLE):
        raise UnclearError(text) from None


def _listened(method: str, notifications: msgspec.Raw) -> tuple[Ask, ...]:
    if not len(notifications) or bytes(notifications) == b"null":
        return ()
    text = f"{method} does not say which resources"
    try:
        named = members_of(notifications, _FILTER).get("resourceSubscriptions")
        names = [] if named is None or bytes(named) == b"null" else _TEXTS.decode(named)
    except (Refusal, *UNREADABLE):
        raise UnclearError(text) from None
    return tuple(ask for name in names for ask in using(RESOURCE, name, method))


@lru_cache(maxsize=512)
def canonical(uri: str) -> str:
    """A URI in one form (RFC 3986 section 6.2): decoded, scheme and host in lower case, without `.`, `..` and empty
    segments. Not to be sent to anybody.
    """
    text = uri.strip(_ENDS).translate(_DROPPED)
    for _ in range(_ROUNDS):
        decoded = unquote(text)
        if decoded == text:
            break
        text = decoded
    text = text.replace("\\", "/")
    found = _SCHEME.fullmatch(text)
    if found is None:
        return text
    scheme, rest = found[1].lower(), found[2]
    authority = _AUTHORITY.fullmatch(rest)
    if authority is not None:
        host, rest = authority[1].lower(), authority[2]
        start = f"{scheme}://" + ("" if scheme == "file" and host in _LOCAL else host)
    else:
        start = f"{scheme}://" if scheme == "file" and rest.startswith("/") else f"{scheme}:"
    return start + _without_dots(rest)


def _without_dots(path: str) -> str:
    if "/" not in path:
        return path
    rooted = path.startswith("/")
    segments = path.split("/")[1 if rooted else 0 :]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    if segments[-1] in {"", ".", ".."}:
        kept.append("")
    return ("/" if rooted else "") + "/".join(kept)
