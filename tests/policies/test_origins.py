"""Origins: what is one, which two are the same, and what the operator's texts stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic_core import PydanticCustomError

from moongate.control.schema.browser import parse_origins
from moongate.policies.origins import OPAQUE, Origin, OriginSet, OwnOrigin, parse_origin
from tests.policies.heads import exchange

PARSED = [
    ("http://moon.example", Origin("http", "moon.example", 80)),
    ("HTTP://Moon.EXAMPLE", Origin("http", "moon.example", 80)),
    ("http://moon.example:80", Origin("http", "moon.example", 80)),
    ("https://moon.example", Origin("https", "moon.example", 443)),
    ("https://moon.example:8443", Origin("https", "moon.example", 8443)),
    ("http://127.0.0.1:6274", Origin("http", "127.0.0.1", 6274)),
    ("http://[::1]:8000", Origin("http", "::1", 8000)),
    ("http://[2001:DB8:0:0::1]", Origin("http", "2001:db8::1", 80)),
    ("http://xn--mnchen-3ya.example", Origin("http", "xn--mnchen-3ya.example", 80)),
    ("http://moon.example.", Origin("http", "moon.example.", 80)),
    ("chrome-extension://abcdefghij", Origin("chrome-extension", "abcdefghij", None)),
    ("vscode-webview://1a2b", Origin("vscode-webview", "1a2b", None)),
    ("null", OPAQUE),
]
NOT_PARSED = [
    *("", "NULL", "*", "moon.example", "http://", "http:///", "//moon.example", "http:moon.example"),
    *("http://moon.example/", "http://moon.example/app", "http://moon.example?x", "http://moon.example#x"),
    *("http://moon.example@evil.example", "http://user:x@moon.example"),
    *("http://moon.example:", "http://moon.example:0", "http://moon.example:08", "http://moon.example:65536"),
    *("http://moon.example:8O", "http://moon.example:80:80", "http://moon..example", "http://.moon.example"),
    *("http://moon.example http://evil.example", "http://moon.example, http://evil.example"),
    *("http://moon.example\n", " http://moon.example", "http://moon.example\t", "http://moon.example\x00"),
    *("http://[::1", "http://::1", "http://[::g]", "http://[1.2.3.4]", "http://[fe80::1%eth0]", "http://[]"),
    *("http://*.example", "http://m\u00fcnchen.example", "1http://moon.example", "http://moon_example%2e.evil"),
    f"http://{'a' * 600}.example",
]


@pytest.mark.parametrize(("text", "origin"), PARSED)
@pytest.mark.requirement("AG-36")
def test_an_origin_is_parsed(text: str, origin: Origin) -> None:
    """Scheme, host and port, in the form that is compared."""
    assert parse_origin(text) == origin


@pytest.mark.parametrize("text", NOT_PARSED)
@pytest.mark.requirement("AG-36")
def test_what_a_browser_would_not_send_is_none(text: str) -> None:
    """Paths, users, lists, spaces, empty ports, broken addresses."""
    assert parse_origin(text) is None


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (Origin("http", "moon.example", 80), "http://moon.example"),
        (Origin("https", "moon.example", 80), "https://moon.example:80"),
        (Origin("http", "::1", 3000), "http://[::1]:3000"),
        (Origin("vscode-webview", "1a", None), "vscode-webview://1a"),
        (OPAQUE, "null"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(origin: Origin, text: str) -> None:
    """Without the default port; and what is written is the same origin again."""
    assert str(origin) == text
    assert parse_origin(text) == origin


WRITTEN = ("https://*.example.com", "http://*.Example.com:3000", "http://localhost:6274", "http://[::1]:80")
NAMED = [
    *("https://a.example.com", "https://a.b.example.com", "https://A.EXAMPLE.com:443", "http://x.example.com:3000"),
    *("http://localhost:6274", "http://LOCALHOST:6274", "http://[::1]", "http://[0:0::1]:80"),
]
NOT_NAMED = [
    *("https://example.com", "https://.example.com", "https://xexample.com", "https://a.example.com.evil.example"),
    *("https://a.example.com:8443", "http://a.example.com", "https://a.example.com.", "https://a.example.org"),
    *("http://localhost", "https://localhost:6274", "http://localhost.:6274", "http://[::2]", "null"),
]


@pytest.mark.parametrize(
    ("text", "expected"), [*((text, True) for text in NAMED), *((text, False) for text in NOT_NAMED)]
)
@pytest.mark.requirement("AG-36")
def test_names_and_patterns(text: str, expected: bool) -> None:
    """A pattern stands for whole labels, at least one, with its scheme and port."""
    origin = parse_origin(text)
    found = origin is not None and OriginSet(WRITTEN).names(origin)
    assert found == expected


def test_a_star_allows_but_names_nobody() -> None:
    """And `null`, which every page can make, is neither named nor allowed."""
    anybody = OriginSet(["*"])
    origin = parse_origin("http://moon.example")
    assert origin is not None
    assert anybody.allows(origin)
    assert not anybody.names(origin)
    assert not anybody.allows(OPAQUE)
    assert not OriginSet(WRITTEN).allows(OPAQUE)


@pytest.mark.parametrize("text", ["null", "http://a/b", "https://*", "https://a.*.example", "**", ""])
def test_what_is_no_origin_cannot_be_configured(text: str) -> None:
    """The compiler has refused it before; nothing else may slip it in."""
    with pytest.raises(ValueError, match=r".*"):
        OriginSet([text])


@given(
    scheme=some.sampled_from(["http", "HTTPS", "vscode-webview", "a+b"]),
    host=some.one_of(
        some.sampled_from(["[::1]", "[::ffff:1.2.3.4]", "127.0.0.1", "b\u00fccher.example", "a.example.", "*.example"]),
        some.text(some.sampled_from("aZ09-_.*"), min_size=1, max_size=12),
    ),
    port=some.sampled_from(["", ":1", ":80", ":443", ":65535"]),
)
def test_what_a_file_may_hold_is_understood(scheme: str, host: str, port: str) -> None:
    """Every text that the schema accepts is an origin or a pattern here, in the form that is compared."""
    try:
        written = parse_origins(f"{scheme}://{host}{port}")
    except PydanticCustomError:
        return
    found = OriginSet([written])
    assert not found.any
    if "*" not in written:
        origin = parse_origin(written)
        assert origin is not None
        assert found.names(origin)
        assert str(origin) == written


OWN = [
    # Origin, Host, TLS, publicUrl, whether it is ours.
    ("http://127.0.0.1:8000", "127.0.0.1:8000", False, None, True),
    ("http://moon.example", "moon.example", False, None, True),
    ("http://moon.example:80", "moon.example", False, None, True),
    ("http://MOON.example", "moon.example:80", False, None, True),
    ("https://moon.example", "moon.example", True, None, True),
    ("https://moon.example:443", "moon.example:443", True, None, True),
    ("http://[::1]:8000", "[::1]:8000", False, None, True),
    ("http://[::1]", "[0:0:0::1]", False, None, True),
    ("https://gate.example", "127.0.0.1", False, "https://gate.example/base", True),
    ("https://gate.example:8443", "127.0.0.1", False, "https://gate.example:8443", True),
    ("http://127.0.0.1:8001", "127.0.0.1:8000", False, None, False),
    ("https://moon.example", "moon.example", False, None, False),
    ("http://moon.example", "moon.example", True, None, False),
    ("http://localhost:8000", "127.0.0.1:8000", False, None, False),
    ("http://evil.example", "moon.example", False, None, False),
    ("http://moon.example.evil", "moon.example", False, None, False),
    ("null", "moon.example", False, None, False),
    ("http://gate.example", "127.0.0.1", False, "https://gate.example", False),
    ("https://gate.example:444", "127.0.0.1", False, "https://gate.example", False),
    ("http://moon.example", "", False, None, False),
]


@pytest.mark.parametrize(("text", "host", "secure", "public", "expected"), OWN)
@pytest.mark.requirement("AG-41")
def test_the_gateways_own_origin(text: str, host: str, secure: bool, public: str | None, expected: bool) -> None:
    """The one that Host and the connection spell, or that of `gateway.publicUrl`."""
    origin = parse_origin(text)
    assert origin is not None
    assert OwnOrigin(public).is_own(exchange({"host": host}, secure=secure), origin) == expected


def test_what_a_trusted_proxy_forwards_is_our_own_origin() -> None:
    """Its scheme and host count instead of the connection's."""
    forwarded = exchange({"host": "10.0.0.5:8000"}, secure=True, outer_host="gate.example")
    for text, expected in (("https://gate.example", True), ("https://10.0.0.5:8000", False)):
        origin = parse_origin(text)
        assert origin is not None
        assert OwnOrigin().is_own(forwarded, origin) == expected


@pytest.mark.parametrize(
    ("text", "site", "secure", "expected"),
    [
        ("https://gate.example", "same-origin", False, True),
        ("https://gate.example", "same-site", False, False),
        ("https://gate.example", "cross-site", False, False),
        ("http://gate.example", "same-origin", True, False),
        ("https://other.example", "same-origin", False, False),
        ("https://gate.example:8443", "same-origin", False, False),
    ],
)
def test_a_proxy_that_ends_tls_is_seen_by_the_browsers_own_word(
    text: str, site: str, secure: bool, expected: bool
) -> None:
    """Only the scheme may differ, only upwards, and only where the browser says same-origin."""
    origin = parse_origin(text)
    assert origin is not None
    came = exchange({"host": "gate.example", "sec-fetch-site": site}, secure=secure)
    assert OwnOrigin().is_own(came, origin) == expected
