"""Single values of a JSON-RPC message exchanged for others, by cutting raw JSON; nothing else changes.

Where several clients share one channel, its message ids and progress tokens must be the gateway's own. What is not
understood is never decoded and encoded again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from moongate.protocol.forms import UNREADABLE
from moongate.protocol.jsonrpc import META

SUBSCRIPTION_KEY = META + "subscriptionId"

_ABSENT = msgspec.Raw()
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_SCALAR = msgspec.json.Decoder(str | int | float)
_KEY = msgspec.json.Encoder().encode
_UNBROKEN = bytes.maketrans(b"\r\n", b"  ")


class _Subscribed(msgspec.Struct, gc=False):
    subscription: msgspec.Raw = msgspec.field(default=_ABSENT, name=SUBSCRIPTION_KEY)


class _Params(msgspec.Struct, gc=False):
    token: msgspec.Raw = msgspec.field(default=_ABSENT, name="progressToken")
    request: msgspec.Raw = msgspec.field(default=_ABSENT, name="requestId")
    uri: str = ""
    meta: _Subscribed | None = msgspec.field(default=None, name="_meta")


class _Incoming(msgspec.Struct, gc=False):
    jsonrpc: str = ""
    id: msgspec.Raw = _ABSENT
    method: str | None = None


class _Noted(msgspec.Struct, gc=False):
    params: _Params | None = None


_INCOMING = msgspec.json.Decoder(_Incoming)
_NOTED = msgspec.json.Decoder(_Noted)


class Incoming(NamedTuple):
    """One message of a server: `id` is raw JSON (b"": none), `method` empty for a response."""

    id: bytes
    method: str


class Noted(NamedTuple):
    """What a notification is about, each as raw JSON or b"": progress token, request, subscription; and its `uri`."""

    token: bytes
    request: bytes
    subscription: bytes
    uri: str


def read_incoming(message: bytes) -> Incoming | None:
    """Who a message is for; None if it is not a JSON-RPC message."""
    try:
        read = _INCOMING.decode(message)
    except UNREADABLE:
        return None
    raw_id = bytes(read.id)
    if read.jsonrpc != "2.0" or (read.method is None and not raw_id):
        return None
    return Incoming(raw_id, read.method or "")


def read_noted(message: bytes) -> Noted:
    """What a notification names in its params; all empty if they have another form."""
    try:
        params = _NOTED.decode(message).params
    except UNREADABLE:
        params = None
    if params is None:
        return Noted(b"", b"", b"", "")
    subscription = b"" if params.meta is None else bytes(params.meta.subscription)
    return Noted(bytes(params.token), bytes(params.request), subscription, params.uri)


def same(one: bytes, other: bytes) -> bool:
    """Whether two raw ids or tokens are the same value, however they are spelt."""
    return one == other or (bool(one and other) and _value(one) == _value(other))


def find(known: Mapping[bytes, object], wanted: bytes) -> bytes | None:
    """The raw id or token among `known` that is the same value as `wanted`. The usual case costs one look-up."""
    if not wanted or wanted in known:
        return wanted or None
    value = _value(wanted)
    return next((raw for raw in known if _value(raw) == value), None)


def _value(raw: bytes) -> str | int | float | None:
    try:
        value: str | int | float = _SCALAR.decode(raw)
    except UNREADABLE:
        return None
    return value


def elements(message: bytes) -> list[bytes]:
    """The messages of an array; of anything else, itself. Raises nothing: what cannot be read is given as it is."""
    if message[:1] != b"[":
        return [message]
    try:
        return [bytes(element) for element in _ARRAY.decode(message)]
    except UNREADABLE:
        return [message]


def one_line(message: bytes) -> bytes:
    """Valid JSON without line breaks: they can only stand between tokens."""
    return message.translate(_UNBROKEN) if b"\n" in message or b"\r" in message else message


def with_id(message: bytes, old: bytes, new: bytes) -> bytes:
    """The message with another id. `old` is the raw id that it has now."""
    # As nearly everybody writes: among the first members, or the last one. Neither place can be inside another value.
    start = b'{"jsonrpc":"2.0","id":%b,' % old
    if message.startswith(start):
        return b'{"jsonrpc":"2.0","id":%b,%b' % (new, message[len(start) :])
    end = b',"id":%b}' % old
    if message.endswith(end):
        return b'%b,"id":%b}' % (message[: -len(end)], new)
    return with_member(message, ("id",), new)


def with_member(message: bytes, path: tuple[str, ...], value: bytes) -> bytes:
    """The message with another raw `value` at `path`, made where it is missing. Raises ValueError for another form."""
    members = _members(message)
    name, *further = path
    if further:
        value = with_member(bytes(members.get(name, b"{}")), tuple(further), value)
    return _joined({**members, name: value})


def without_member(message: bytes, path: tuple[str, ...]) -> bytes:
    """The message without the member at `path`. Raises ValueError for another form."""
    members = _members(message)
    name, *further = path
    if name not in members:
        return message
    if not further:
        return _joined({key: value for key, value in members.items() if key != name})
    return _joined({**members, name: without_member(bytes(members[name]), tuple(further))})


def member(message: bytes, path: tuple[str, ...]) -> bytes:
    """The raw value at `path`, b"" if there is none. Raises ValueError for another form."""
    for name in path:
        message = bytes(_members(message).get(name, b""))
        if not message:
            return b""
    return message


def _members(message: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _MEMBERS.decode(message)
    except UNREADABLE:
        text = "not a JSON object"
        raise ValueError(text) from None


def _joined(members: Mapping[str, bytes | msgspec.Raw]) -> bytes:
    return b"{" + b",".join([_KEY(name) + b":" + bytes(value) for name, value in members.items()]) + b"}"
