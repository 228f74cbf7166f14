"""CORS as the Fetch standard has it: what the gateway says, and what a browser makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from moongate.errors import FailureClass
from moongate.policies.base import Verdict
from moongate.policies.cors import MCP_METHODS, MCP_REQUEST_HEADERS, MCP_RESPONSE_HEADERS, CorsConfig, CorsPolicy
from moongate.policies.origins import OwnOrigin, parse_origin
from tests.policies.heads import exchange
from tests.policies.pages import Page, read_lines

UI = "http://ui.example"
STRANGER = "https://evil.example"
HOST = "gate.example"
ARTICLE = CorsConfig(
    allow_origins=("*",),
    allow_headers=("*", "mcp-protocol-version", "content-type", "cache-control", "Accept", "mcp-session-id"),
    allow_methods=("GET", "POST", "OPTIONS"),
    expose_headers=("*", "mcp-session-id"),
    allow_credentials=True,
    max_age=100,
    written=True,
)
PRESET = CorsConfig(allow_origins=(UI, "https://*.apps.example"), preset=True, written=True)
NAMES = replace(
    PRESET,
    preset=False,
    allow_methods=("GET", "DELETE"),
    allow_headers=("Content-Type", "X-Mood"),
    expose_headers=("Mcp-Session-Id",),
    setting="mcpServers.time.cors",
)
NONE = CorsConfig(setting="mcpServers.time.cors")


def preflight(config: CorsConfig, origin: str, method: str, headers: str | None = None, **more: str) -> Verdict:
    """What an OPTIONS request that announces another one gets."""
    fields = {"host": HOST, "origin": origin, "access-control-request-method": method, **more}
    fields |= {} if headers is None else {"access-control-request-headers": headers}
    return CorsPolicy(config, OwnOrigin()).judge(exchange(fields, method="OPTIONS"))


def actual(config: CorsConfig, origin: str | None, method: str = "POST", **more: str) -> Verdict:
    """What any other request gets."""
    fields = {"host": HOST, **more, **({} if origin is None else {"origin": origin})}
    return CorsPolicy(config, OwnOrigin()).judge(exchange(fields, method=method))


def lines_of(verdict: Verdict) -> bytes:
    """All header lines that a verdict puts on the answer."""
    return verdict.lines + (verdict.answer.lines if verdict.answer else b"")


MAY_SEND = [
    # The block, method, header names, with credentials, whether a page of UI may send it.
    (ARTICLE, "POST", "content-type", True, True),
    (ARTICLE, "POST", "authorization,content-type,mcp-protocol-version,mcp-session-id", True, True),
    (ARTICLE, "POST", "authorization,x-never-heard-of", False, True),
    (ARTICLE, "GET", "last-event-id,mcp-session-id", True, True),
    (ARTICLE, "DELETE", "mcp-session-id", True, False),
    (ARTICLE, "DELETE", "mcp-session-id", False, False),
    (ARTICLE, "PUT", None, True, False),
    (PRESET, "POST", ",".join(MCP_REQUEST_HEADERS), False, True),
    (PRESET, "POST", "authorization,content-type,mcp-method,mcp-name,mcp-param-city,mcp-param-x", False, True),
    (PRESET, "DELETE", "mcp-session-id,mcp-protocol-version", False, True),
    (PRESET, "GET", "last-event-id,accept", False, True),
    (PRESET, "POST", "x-mood", False, False),
    (PRESET, "POST", "mcp-paramount", False, False),
    (PRESET, "PATCH", None, False, False),
    (PRESET, "POST", "content-type", True, False),
    (replace(PRESET, allow_credentials=True), "POST", "content-type", True, True),
    (replace(PRESET, allow_headers=("X-Mood",)), "POST", "content-type,x-mood", False, True),
    (replace(PRESET, allow_methods=("PATCH",)), "PATCH", None, False, True),
    (NAMES, "DELETE", None, False, True),
    (NAMES, "POST", "content-type,x-mood", False, True),
    (NAMES, "POST", "authorization", False, False),
    (NAMES, "PUT", None, False, False),
    (replace(NAMES, allow_methods=("*",)), "PUT", None, False, True),
    (replace(NAMES, allow_methods=("*",), allow_credentials=True), "PUT", None, True, True),
    (replace(NAMES, allow_methods=()), "DELETE", None, False, False),
    (replace(NAMES, allow_headers=()), "POST", "content-type", False, False),
    (replace(NAMES, allow_headers=("*",)), "POST", "authorization", False, True),
]


@pytest.mark.parametrize(("config", "method", "headers", "credentials", "allowed"), MAY_SEND)
@pytest.mark.requirement("AG-38")
def test_what_a_page_may_send(
    config: CorsConfig, method: str, headers: str | None, credentials: bool, allowed: bool
) -> None:
    """A preflight's answer, read as a browser reads it: methods, headers and credentials follow the configuration."""
    verdict = preflight(config, UI, method, headers)

    assert verdict.refusal is None
    assert verdict.answer is not None
    page = Page(UI, credentials)
    assert (
        page.may_send(verdict.answer.status, lines_of(verdict), method, (headers or "").split(",") if headers else ())
        == allowed
    )


def test_a_preflight_says_how_long_it_holds() -> None:
    """The block's own age, 0 included; ten minutes with the preset; nothing without."""
    for config, age in (
        (ARTICLE, ["100"]),
        (PRESET, ["600"]),
        (replace(PRESET, max_age=0), ["0"]),
        (NAMES, None),
    ):
        assert read_lines(lines_of(preflight(config, UI, "POST"))).get("access-control-max-age") == age


@pytest.mark.requirement("AG-38")
def test_what_is_not_granted_is_explained() -> None:
    """The article's DELETE: the rule, what was not granted, and the setting that would."""
    verdict = preflight(NAMES, UI, "PUT", "x-mood,x-one,X-Two")
    assert "PUT" in verdict.reason
    assert "x-one, x-two" in verdict.reason
    assert "x-mood" not in verdict.reason
    assert verdict.setting == (
        "mcpServers.time.cors.allowMethods: [PUT] and mcpServers.time.cors.allowHeaders: [x-one, x-two]"
    )
    assert preflight(NAMES, UI, "DELETE", "x-mood").setting == ""


MAY_READ = [
    # The block, the page's origin, with credentials, whether it may read the answer and its Mcp-Session-Id.
    (ARTICLE, UI, True, True),
    (ARTICLE, UI, False, True),
    (ARTICLE, STRANGER, True, True),
    (PRESET, UI, False, True),
    (PRESET, "https://a.apps.example", False, True),
    (PRESET, UI, True, False),
    (replace(PRESET, allow_credentials=True), UI, True, True),
    (NAMES, UI, False, True),
    (replace(NAMES, expose_headers=("*",)), UI, False, True),
    (replace(NAMES, expose_headers=("*",), allow_credentials=True), UI, True, True),
]


@pytest.mark.parametrize(("config", "origin", "credentials", "allowed"), MAY_READ)
@pytest.mark.requirement("AG-31")
def test_what_a_page_may_read(config: CorsConfig, origin: str, credentials: bool, allowed: bool) -> None:
    """The origin's own value, never `*`, with `Vary`; and the names that a page can see."""
    verdict = actual(config, origin)
    page = Page(origin, credentials)

    assert verdict.refusal is None
    assert page.may_read(verdict.lines) == allowed
    assert page.sees(verdict.lines, "Mcp-Session-Id") == allowed
    fields = read_lines(verdict.lines)
    assert fields["access-control-allow-origin"] == [origin]
    assert fields["vary"] == ["Origin"]


def test_a_star_among_the_exposed_covers_what_has_no_name_where_it_can() -> None:
    """Without credentials browsers know it; with them the names that the gateway knows are sent."""
    config = replace(NAMES, expose_headers=("*", "X-Mood"))
    assert Page(UI).sees(actual(config, UI).lines, "X-Anything")
    with_credentials = actual(replace(config, allow_credentials=True), UI).lines
    page = Page(UI, credentials=True)
    for name in (*MCP_RESPONSE_HEADERS, "x-mood", "retry-after"):
        assert page.sees(with_credentials, name), name
    assert not page.sees(with_credentials, "X-Anything")
    assert b"*" not in with_credentials


def test_the_preset_exposes_what_clients_read() -> None:
    """Session ids, challenges, request ids, and the trace."""
    verdict = actual(PRESET, UI)
    for name in ("Mcp-Session-Id", "WWW-Authenticate", "X-Request-Id", "Retry-After", "traceparent"):
        assert Page(UI).sees(verdict.lines, name)
    assert not Page(UI).sees(verdict.lines, "X-Mood")


@pytest.mark.parametrize("config", [ARTICLE, PRESET, NAMES, NONE])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.requirement("AG-33")
def test_without_an_origin_nothing_is_said(config: CorsConfig, method: str) -> None:
    """No preflight, no allow header; only that the answer would depend on it, where it would."""
    verdict = actual(config, None, method, **{"access-control-request-method": "POST"})
    assert not verdict.final
    assert set(read_lines(verdict.lines)) == ({"vary"} if config.written else set())


@pytest.mark.parametrize("config", [PRESET, NAMES, NONE])
@pytest.mark.parametrize(
    "origin",
    [STRANGER, f"{UI}:81", "https://ui.example", "http://ui.example.evil.example", "https://apps.example", "null"],
)
@pytest.mark.requirement("AG-34", "AG-35")
def test_who_is_not_allowed_is_refused(config: CorsConfig, origin: str) -> None:
    """Preflight or not: 403, no allow header, and the setting that would let it in."""
    for verdict in (preflight(config, origin, "POST"), actual(config, origin), actual(config, origin, "GET")):
        assert verdict.refusal is not None
        assert verdict.refusal.failure is FailureClass.DENIED
        assert not any(name.startswith("access-control") for name in read_lines(lines_of(verdict)))
        if origin != "null":
            where = f"{config.setting}.allowOrigins: [" if config.written else f"{config.setting}: {{preset: mcp"
            assert verdict.setting.startswith(where)
            assert origin in verdict.setting
        else:
            assert verdict.setting == ""


@pytest.mark.parametrize("config", [ARTICLE, PRESET, NAMES, NONE])
@pytest.mark.parametrize("origin", ["null", "", "*", "garbage", f"{UI}/", f"{UI} {UI}", f"{UI}, {UI}"])
def test_what_is_nobodys_origin_is_refused_by_a_star_too(config: CorsConfig, origin: str) -> None:
    """`*` stands for every page with an origin; null and nonsense have none."""
    assert actual(config, origin).refusal is not None
    assert preflight(config, origin, "POST").refusal is not None


def test_two_origins_are_refused() -> None:
    """Even where both are allowed."""
    twice = exchange({"host": HOST, "origin": UI}, more=[(b"origin", UI.encode())])
    for config in (ARTICLE, PRESET, NONE):
        assert CorsPolicy(config, OwnOrigin()).judge(twice).refusal is not None


@pytest.mark.parametrize("config", [PRESET, NAMES, NONE])
@pytest.mark.requirement("AG-35")
def test_the_own_origin_needs_no_permission(config: CorsConfig) -> None:
    """It goes on, without an allow header that nobody asked for."""
    verdict = actual(config, f"http://{HOST}")
    assert not verdict.final
    assert b"access-control" not in verdict.lines


def test_a_public_network_page_needs_a_name() -> None:
    """Access to a private network is granted to named origins, never by `*`."""
    asked = {"access-control-request-private-network": "true"}
    granted = b"access-control-allow-private-network: true\r\n"
    assert granted in lines_of(preflight(PRESET, UI, "POST", **asked))
    assert granted not in lines_of(preflight(PRESET, UI, "POST"))
    assert granted not in lines_of(preflight(ARTICLE, UI, "POST", **asked))


LABELS = some.sampled_from(["a", "b", "example", "com", "evil", "localhost", "xn--a", "1", "127", "0", "*", "", "-"])
TEXTS = some.one_of(
    some.builds(
        lambda scheme, labels, port: f"{scheme}://{'.'.join(labels)}{port}",
        some.sampled_from(["http", "https", "HTTP", "ftp", "null", "", "chrome-extension"]),
        some.lists(LABELS, min_size=1, max_size=4),
        some.sampled_from(["", ":80", ":443", ":8080", ":0", ":", "/", "/a", "@evil.com", "?", "#"]),
    ),
    some.sampled_from(["null", "*", "", "http://[::1]", "http://[::1]:80", "http://[0::1]"]),
    some.text(some.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=40),
)
WRITTEN = some.lists(
    some.sampled_from(
        ["http://a.example", "https://*.example.com", "http://[::1]", "https://*.evil.com:8080", "http://localhost"]
    ),
    max_size=3,
)


def is_allowed(text: str, written: list[str]) -> bool:
    """Written once more and plainly: one of the texts, or a longer name below a pattern's."""
    origin = parse_origin(text)
    if origin is None or text == "null":
        return False
    for item in written:
        scheme, _, rest = item.partition("://")
        if rest.startswith("*."):
            host, _, port = rest[2:].partition(":")
            expected = int(port) if port else {"http": 80, "https": 443}[scheme]
            below = origin.host.endswith(f".{host}") and len(origin.host) > len(host) + 1
            if below and (origin.scheme, origin.port) == (scheme, expected):
                return True
        elif origin == parse_origin(item):
            return True
    return False


@given(text=TEXTS, written=WRITTEN, preset=some.booleans(), method=some.sampled_from(["OPTIONS", "POST", "GET"]))
@pytest.mark.requirement("AG-34")
def test_no_request_obtains_an_allow_header_for_an_origin_that_is_not_allowed(
    text: str, written: list[str], preset: bool, method: str
) -> None:
    """Whatever stands in Origin: either its own value comes back and it was allowed, or no allow header at all."""
    config = CorsConfig(allow_origins=tuple(written), preset=preset, allow_credentials=True, written=True)
    fields = {"host": HOST, "origin": text, "access-control-request-method": "POST"}
    verdict = CorsPolicy(config, OwnOrigin()).judge(exchange(fields, method=method))
    found = read_lines(lines_of(verdict)).get("access-control-allow-origin")

    if is_allowed(text, written):
        assert found == [text]
        assert verdict.refusal is None
    else:
        assert found is None
        assert verdict.refusal is not None


@given(
    asked=some.text(some.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=60),
    method=some.text(some.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=20),
    config=some.sampled_from([ARTICLE, PRESET, NAMES, replace(NAMES, allow_methods=("*",), allow_headers=("*",))]),
)
def test_a_preflight_cannot_write_into_the_answer(asked: str, method: str, config: CorsConfig) -> None:
    """Whatever it asks for, the lines of the answer are the known ones, with lists of names for values."""
    fields = read_lines(lines_of(preflight(config, UI, method, asked)))
    assert set(fields) <= {
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "access-control-allow-methods",
        "access-control-allow-headers",
        "access-control-max-age",
        "vary",
    }
    assert all(len(values) == 1 for values in fields.values())
    for name in ("access-control-allow-methods", "access-control-allow-headers"):
        for item in fields.get(name, [""])[0].split(", "):
            assert item.isascii()
            assert item != "*"
            assert not set(item) & set(' ,;:"<>@/\\()[]{}=?')


def test_the_presets_lists_hold_what_the_specification_names() -> None:
    """Of every revision: session id, version, resumption, mirrors; and the methods of the transport."""
    assert {"POST", "GET", "DELETE"} <= set(MCP_METHODS)
    assert {
        *("authorization", "content-type", "accept", "mcp-session-id", "mcp-protocol-version", "last-event-id"),
        *("mcp-method", "mcp-name", "traceparent", "tracestate"),
    } <= set(MCP_REQUEST_HEADERS)
