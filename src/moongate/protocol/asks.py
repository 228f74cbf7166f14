"""What a message asks for, in the words of access rules: a tool, a prompt, a resource, or a method alone.

A resource that can be written in several ways is asked for in two of them, as it came and in one canonical form: a rule
must not be evaded by `FILE:` or by escapes. What readers may understand differently, as `%2e%2e`, cannot be judged.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from moongate.errors import Refusal
from moongate.protocol.forms import UNREADABLE
from moongate.protocol.jsonrpc import Envelope, members_of
from moongate.protocol.methods import METHODS, NOTIFICATIONS, method_named
from moongate.protocol.uris import canonical, doubt, lookalikes

TOOL, PROMPT, RESOURCE, METHOD = "tool", "prompt", "resource", "method"
# How each kind of thing is used.
USES = {TOOL: "tools/call", PROMPT: "prompts/get", RESOURCE: "resources/read"}

# What these ask for stands in other places than the name that an envelope has.
SAY_MORE = frozenset({"completion/complete", "subscriptions/listen"})

# Comparing longer ones would hold up everybody else's requests.
MAX_URI = 8192

# Judging more subscriptions in one message would too.
MAX_SUBSCRIPTIONS = 256
MAX_SUBSCRIBED = 64 * 1024

_FOLDED = frozenset(map(str.casefold, METHODS))
_ABSENT = msgspec.Raw()
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_TEXTS = msgspec.json.Decoder(list[str])
_REF = frozenset({"type", "name", "uri", "title"})
_FILTER = frozenset({"resourceSubscriptions"})


class Ask(NamedTuple):
    """One thing that is asked for. `kind` and `name` are empty where it is the method alone. `also`: a server might
    understand this instead; it may be denied, but need not be allowed.
    """

    method: str
    kind: str = ""
    name: str = ""
    also: bool = False

    @property
    def common(self) -> bool:
        """Whether it is part of every conversation, and calls and reads nothing."""
        return not self.kind and (self.method.startswith(NOTIFICATIONS) or method_named(self.method).common)


class UnclearError(ValueError):
    """It cannot be told what a message asks for; the text says why."""


def asks_of(message: Envelope, raw: bytes, *, strict: bool = True) -> tuple[Ask, ...]:
    """Everything that a message asks for; nothing for a response. `raw` is the message. `strict`: rules tell resources
    apart, so that their URIs must be plain. Raises UnclearError.
    """
    method = message.method
    if not method:
        return ()
    kind = method_named(method).kind
    if kind:
        if message.target is None:
            text = f"{method} does not say which {kind}"
            raise UnclearError(text)
        return using(kind, message.target, method, strict=strict)
    if method == "completion/complete":
        return _completed(method, _param(raw, "ref"), strict=strict)
    if method == "subscriptions/listen":
        return (Ask(method), *_listened(method, _param(raw, "notifications"), strict=strict))
    if method not in METHODS and (not method.isprintable() or method.strip().casefold() in _FOLDED):
        text = f"{method[:64]!r} looks like another method, but for case, white space or what cannot be seen"
        raise UnclearError(text)
    return (Ask(method),)


def using(kind: str, name: str, method: str, *, strict: bool = True) -> tuple[Ask, ...]:
    """What a call of `method` asks for that names one tool, prompt or resource. Raises UnclearError."""
    ask = Ask(method, kind, name)
    if kind != RESOURCE:
        return (ask,)
    if len(name) > MAX_URI:
        text = f"{method} names a resource of more than {MAX_URI} characters"
        raise UnclearError(text)
    if strict and (why := doubt(name)):
        text = f"{method} names a resource with {why}"
        raise UnclearError(text)
    other = canonical(name)
    more = () if other == name else (Ask(method, kind, other),)
    return (ask, *more, *(Ask(method, kind, text, also=True) for text in lookalikes(name)))


def _param(raw: bytes, name: str) -> msgspec.Raw:
    try:
        return _MEMBERS.decode(_MEMBERS.decode(raw).get("params", _ABSENT)).get(name, _ABSENT)
    except UNREADABLE:
        return _ABSENT


def _completed(method: str, ref: msgspec.Raw, *, strict: bool) -> tuple[Ask, ...]:
    text = f"{method} does not say which prompt or resource"
    try:
        members = members_of(ref, _REF)
        kind, field = {"ref/prompt": (PROMPT, "name"), "ref/resource": (RESOURCE, "uri")}[_TEXT.decode(members["type"])]
        name = _TEXT.decode(members[field])
    except (KeyError, Refusal, *UNREADABLE):
        raise UnclearError(text) from None
    return using(kind, name, method, strict=strict)


def _listened(method: str, notifications: msgspec.Raw, *, strict: bool) -> tuple[Ask, ...]:
    if not len(notifications) or bytes(notifications) == b"null":
        return ()
    text = f"{method} does not say which resources"
    try:
        named = members_of(notifications, _FILTER).get("resourceSubscriptions")
        names = [] if named is None or bytes(named) == b"null" else _TEXTS.decode(named)
    except (Refusal, *UNREADABLE):
        raise UnclearError(text) from None
    if len(names) > MAX_SUBSCRIPTIONS or sum(map(len, names)) > MAX_SUBSCRIBED:
        text = f"{method} names more than {MAX_SUBSCRIPTIONS} resources, or more than {MAX_SUBSCRIBED} characters"
        raise UnclearError(text)
    return tuple(ask for name in names for ask in using(RESOURCE, name, method, strict=strict))
