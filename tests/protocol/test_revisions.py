"""The mirrored headers of 2026-07-28, held against the body."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moongate.errors import Refusal
from moongate.protocol.jsonrpc import Envelope, parse
from moongate.protocol.revisions import check_mirrors, decode_value, is_modern

VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
MODERN = "2026-07-28"
META = {VERSION: MODERN, CAPABILITIES: {}}


def _message(method: str = "tools/call", params: Mapping[str, object] | None = None, **members: object) -> Envelope:
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": method,
        "params": {"name": "add", "_meta": META, **(params or {})},
    } | members
    message = parse(json.dumps({key: value for key, value in body.items() if value is not None}).encode(), 64)
    assert isinstance(message, Envelope)
    return message


HEADERS = {b"mcp-protocol-version": MODERN.encode(), b"mcp-method": b"tools/call", b"mcp-name": b"add"}


def _code(fields: dict[bytes, bytes], message: Envelope, more: tuple[tuple[bytes, bytes], ...] = ()) -> int | None:
    try:
        check_mirrors(fields, more, message)
    except Refusal as refusal:
        return refusal.code
    return None


def _b64(text: str) -> bytes:
    return b"=?base64?" + base64.b64encode(text.encode()) + b"?="


def test_headers_that_agree_pass() -> None:
    """Plain and in base64."""
    assert _code(HEADERS, _message()) is None
    assert _code(HEADERS | {b"mcp-name": _b64("add")}, _message()) is None
    for name in ("ü", " add ", "=?base64?YWRk?=", "a\nb", ""):
        assert _code(HEADERS | {b"mcp-name": _b64(name)}, _message(params={"name": name})) is None


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_a_missing_header_is_a_mismatch(name: bytes) -> None:
    """-32020 for each of the three."""
    assert _code({key: value for key, value in HEADERS.items() if key != name}, _message()) == -32020


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_a_header_that_stands_twice_is_a_mismatch(name: bytes) -> None:
    """Also when both say the same."""
    assert _code(HEADERS, _message(), ((name, HEADERS[name]),)) == -32020
    assert _code(HEADERS, _message(), ((b"accept", b"x"),)) is None


DIFFERENT = [
    (b"mcp-protocol-version", [b"2025-11-25", b"2026-07-29", b"2026-07-28 x", b"", b"2026-07-28, 2026-07-28"]),
    (
        b"mcp-method",
        [b"tools/list", b"Tools/Call", b"tools/call ", b"", b"tools/call, tools/call", b"=?base64?dG9vbHMvY2FsbA==?="],
    ),
    (
        b"mcp-name",
        [b"sub", b"Add", b"ADD", b"add ", b"", b"add, add", b"\xff", b"a\xcc\x81dd", b"=?base64?c3Vi?=", b"YWRk"],
    ),
    (b"mcp-name", [b"=?base64?YWRk", b"=?BASE64?YWRk?=", b"=?base64?YWR?=", b"=?base64?YW Rk?=", b"=?base64?YWRk?= "]),
    (b"mcp-name", [b"=?base64?YWRk==?=", b"=?base64?_w==?=", b"=?base64?/w==?=", b"=?base64??=", b"=?utf-8?b?YWRk?="]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in DIFFERENT for value in values])
def test_a_header_that_differs_is_a_mismatch(name: bytes, value: bytes) -> None:
    """Case, blanks, lists, other encodings: nothing but the very value counts."""
    assert _code(HEADERS | {name: value}, _message()) == -32020


@pytest.mark.parametrize("version", [5, None, [], {}, True, [MODERN]])
def test_a_version_in_the_body_that_is_no_text_is_refused(version: object) -> None:
    """The header cannot agree with it."""
    with pytest.raises(Refusal) as refused:
        _message(params={"_meta": {VERSION: version, CAPABILITIES: {}}})

    assert refused.value.code == -32602


@pytest.mark.parametrize("name", [5, None, [], {}, True, ["add"]])
def test_a_name_in_the_body_that_is_no_text_is_refused(name: object) -> None:
    """The header cannot agree with it either."""
    for header in (b"add", b"5", b"null", b"true", b"None"):
        assert _code(HEADERS | {b"mcp-name": header}, _message(params={"name": name})) == -32020


def test_meta_must_say_who_speaks() -> None:
    """-32602 where the version or the capabilities are missing from a request; notifications and answers need none."""
    metas: list[dict[str, object]] = [{}, {VERSION: MODERN}, {CAPABILITIES: {}}]
    for meta in metas:
        assert _code(HEADERS, _message(params={"_meta": meta})) == -32602
    notification = HEADERS | {b"mcp-method": b"notifications/cancelled"}
    del notification[b"mcp-name"]
    assert _code(notification, _message("notifications/cancelled", {"_meta": {}}, id=None)) is None


MIRRORED = [
    ("tools/call", "name"),
    ("prompts/get", "name"),
    ("resources/read", "uri"),
    ("tasks/get", "taskId"),
    ("tasks/update", "taskId"),
    ("tasks/cancel", "taskId"),
]


@pytest.mark.parametrize(("method", "member"), MIRRORED)
def test_each_method_names_what_it_touches(method: str, member: str) -> None:
    """The header repeats the member that counts, and no other."""
    fields = HEADERS | {b"mcp-method": method.encode(), b"mcp-name": b"right"}
    params = {"name": "wrong", "uri": "wrong", "taskId": "wrong", member: "right"}
    assert _code(fields, _message(method, params)) is None
    assert _code(fields | {b"mcp-name": b"wrong"}, _message(method, params)) == -32020


ERAS = [
    (None, None, False),
    (b"2025-11-25", None, False),
    (b"2026-07-28", None, True),
    (b"2026-07-29", None, True),
    (b"9999-99-99", None, True),
    (b"2026-7-28", None, False),
    (b"2026-07-28x", None, False),
    (b"draft", None, False),
    (b"\xd9\xa2026-07-28", None, False),
    (b"2025-11-25", MODERN, True),
    (None, MODERN, True),
    (None, "2025-11-25", False),
]


@pytest.mark.parametrize(("header", "version", "modern"), ERAS)
def test_which_era_speaks(header: bytes | None, version: str | None, modern: bool) -> None:
    """Header or body: if either is of the new era, its rules hold."""
    message = None if version is None else _message(params={"_meta": {VERSION: version, CAPABILITIES: {}}})
    assert is_modern(header, message) is modern


def test_era_cannot_be_mixed() -> None:
    """A body of the new era under a header of the old one is a mismatch, and the other way round."""
    old = _message(params={"_meta": {VERSION: "2025-11-25", CAPABILITIES: {}}})
    assert _code(HEADERS, old) == -32020
    assert _code(HEADERS | {b"mcp-protocol-version": b"2025-11-25"}, _message()) == -32020


@given(st.text(max_size=12))
def test_every_name_can_be_mirrored(name: str) -> None:
    """In base64 at least."""
    assert decode_value(_b64(name)) == name


@given(st.binary(max_size=20))
def test_decoding_never_fails(value: bytes) -> None:
    """It is the text, or None."""
    decoded = decode_value(value)
    assert decoded is None or decoded.isascii() or value.startswith(b"=?base64?")
