"""JSON as somebody else might write it, and an independent judgement of it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

META = "io.modelcontextprotocol/"
ENVELOPE = ("jsonrpc", "id", "method", "params", "result", "error")
PARAMS = (
    *("name", "arguments", "uri", "_meta", "cursor", "taskId", "protocolVersion", "capabilities", "clientInfo"),
    *("inputResponses", "requestState", "progressToken", "requestId", "level", "ref", "argument", "context", "task"),
)
META_KEYS = tuple(META + name for name in ("protocolVersion", "clientInfo", "clientCapabilities", "logLevel"))
META_KEYS = (*META_KEYS, "progressToken")

Pairs = list[tuple[str, Any]]


class Object(list[tuple[str, Any]]):
    """A JSON object as pairs, so that a key may stand twice."""


def _variants(key: str) -> st.SearchStrategy[str]:
    """The key itself, mostly; its other cases, letters that fold to it, and strangers."""
    long_s, kelvin = key.replace("s", "\u017f"), key.replace("k", "\u212a")
    other = st.sampled_from([key.upper(), key.title(), key.capitalize(), long_s, kelvin, key + "x", "\u0130d", ""])
    return st.one_of(st.just(key), st.just(key), st.just(key), other)


def _keys(known: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(known).flatmap(_variants) | st.text(max_size=4)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.text(max_size=8)
    | st.sampled_from(['"', "\\", "{[", "]}"]),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(st.text(max_size=3), inner), max_size=3).map(Object),
    max_leaves=6,
)


def _object(known: tuple[str, ...], extra: st.SearchStrategy[Pairs]) -> st.SearchStrategy[Object]:
    strangers = st.lists(st.tuples(_keys(known), VALUES), max_size=3)
    return st.builds(lambda a, b, order: Object(order.sample(a + b, len(a + b))), strangers, extra, st.randoms())


META_OBJECTS = _object(META_KEYS, st.just([]))
PARAMS_OBJECTS = _object(
    PARAMS, st.one_of(st.just([]), META_OBJECTS.map(lambda meta: [("_meta", meta)]), st.just([("name", "a")]))
)
MESSAGES = _object(
    ENVELOPE,
    st.one_of(st.just([]), PARAMS_OBJECTS.map(lambda params: [("params", params)])).map(
        lambda more: [("jsonrpc", "2.0"), ("id", 1), ("method", "tools/call"), *more]
    ),
)


@st.composite
def spelled(draw: st.DrawFn, value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """`value` as JSON text, with blanks and escapes wherever they may stand."""
    compact = draw(st.booleans())

    def blank() -> str:
        return "" if compact else draw(st.sampled_from(["", "", " ", "\n", "\t\r\n "]))

    def text(value: str) -> str:
        style = draw(st.sampled_from(["plain", "plain", "ascii", "escaped"]))
        if style == "escaped":
            units = value.encode("utf-16-be")
            return '"' + "".join(f"\\u{units[at] * 256 + units[at + 1]:04x}" for at in range(0, len(units), 2)) + '"'
        return json.dumps(value, ensure_ascii=style == "ascii")

    def write(value: Any) -> str:  # noqa: ANN401 - any JSON value
        if isinstance(value, Object):
            members = [f"{blank()}{text(key)}{blank()}:{blank()}{write(item)}{blank()}" for key, item in value]
            return "{" + (",".join(members) or blank()) + "}"
        if isinstance(value, list):
            return "[" + (",".join(f"{blank()}{write(item)}{blank()}" for item in value) or blank()) + "]"
        return text(value) if isinstance(value, str) else json.dumps(value)

    return (blank() + write(value) + blank()).encode()


def _judge(pairs: Pairs, known: tuple[str, ...]) -> bool:
    """No key twice, none that differs from another or from a known one only in case."""
    keys = [key for key, _ in pairs]
    folds = [key.casefold() for key in keys]
    if len(set(folds)) != len(folds):
        return False
    lookalike = {key.casefold() for key in known}
    return all(key in known or key.casefold() not in lookalike for key in keys)


def acceptable(body: bytes) -> bool:
    """What the gateway has to say to `body`, read with the standard library alone (a request, of few members)."""
    try:
        message = json.loads(body.decode("utf-8"), object_pairs_hook=Object, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    if not isinstance(message, Object) or not _judge(message, ENVELOPE):
        return False
    members = dict(message)
    if members.get("jsonrpc") != "2.0" or not isinstance(members.get("method"), str) or not members["method"]:
        return False
    number = members.get("id", 1)
    if isinstance(number, bool) or not isinstance(number, str | int | float) or {"result", "error"} & members.keys():
        return False
    params = members.get("params", Object())
    if not isinstance(params, Object) or not _judge(params, PARAMS):
        return False
    meta = dict(params).get("_meta", Object())
    if not isinstance(meta, Object) or not _judge(meta, META_KEYS):
        return False
    return isinstance(dict(meta).get("io.modelcontextprotocol/protocolVersion", ""), str)


def _refuse(name: str) -> None:
    raise ValueError(name)
