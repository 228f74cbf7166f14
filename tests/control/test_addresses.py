"""Addresses, hosts and origins: one form for each, and hostile ones refused."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from moongate.control.addresses import route_addresses
from moongate.control.binds import covers
from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import load_texts
from moongate.control.schema.addresses import parse_host, parse_url
from moongate.control.schema.browser import parse_origin

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]([a-z0-9-]{0,10}[a-z])?){0,3}", fullmatch=True)
PATHS = st.from_regex(r"/([A-Za-z0-9/._~!$&'()*+,;=:@-]|%2F)*(\?[A-Za-z0-9=&/?]*)?", fullmatch=True)


@pytest.mark.requirement("AG-20")
@given(st.sampled_from(["http", "https"]), NAMES, st.integers(1, 65_535), PATHS)
def test_an_address_is_taken_apart_without_changing_its_path(scheme: str, host: str, port: int, path: str) -> None:
    """The path and its query are called exactly as they were written."""
    address = parse_url(f"{scheme}://{host}:{port}{path}")

    assert (address.scheme, address.host, address.port, address.path, address.basic) == (scheme, host, port, path, None)


@given(st.text(min_size=1), st.text())
def test_a_user_and_password_become_a_basic_credential(user: str, password: str) -> None:
    """Percent-encoded UTF-8 comes out as it went in; what cannot be sent is refused."""
    written = [quote(part, safe="", errors="surrogatepass") for part in (user, password)]
    url = f"http://{written[0]}:{written[1]}@127.0.0.1/"
    impossible = ":" in user or any(ord(char) < 32 or ord(char) == 127 for char in user + password)
    if impossible:
        with pytest.raises(PydanticCustomError):
            parse_url(url)
        return
    basic = parse_url(url).basic

    assert basic is not None
    assert base64.b64decode(basic.removeprefix("Basic ")) == f"{user}:{password}".encode(errors="surrogatepass")


@pytest.mark.requirement("PM-07")
@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """No text raises anything but a refusal, and no refusal repeats the text."""
    try:
        address = parse_url(f"http://{text}")
    except PydanticCustomError:
        return

    assert address.host.isascii()
    assert address.path.isascii()
    assert not set(address.path + address.host) & set(" \r\n\t#@") - {"@"}
    assert "@" not in address.host


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("HTTP://Example.COM", "http://example.com"),
        ("https://example.com:443/", "https://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("http://[2001:DB8::0:1]:80", "http://[2001:db8::1]"),
        ("http://b\u00fccher.example", "http://xn--bcher-kva.example"),
        ("tauri://localhost", "tauri://localhost"),
    ],
)
@pytest.mark.requirement("AG-36")
def test_origins_have_one_form(written: str, compared: str) -> None:
    """Scheme and host in lower case, no default port, no trailing slash."""
    assert parse_origin(written) == compared


@pytest.mark.requirement("AG-36")
@pytest.mark.parametrize(
    "text",
    ["", "null", "example.com", "http://", "http://a/b", "http://a?b", "http://u@a", "http://a:", "http://a:x"],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    """A path, a user, a missing scheme or host, a bad port."""
    with pytest.raises(PydanticCustomError):
        parse_origin(text)


@pytest.mark.parametrize(
    "text",
    ["", "a..b", "-a", "a-", "a b", "a/b", "1.2.3", "0x7f.1", "300.1.1.1", "a:80", "[::1", "*", "a" * 64, "a." * 130],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    """Names, IPv4 in four parts, IPv6 in brackets; nothing that resolvers read in their own way."""
    with pytest.raises(PydanticCustomError):
        parse_host(text)


@pytest.mark.parametrize(
    ("pattern", "hostname", "expected"),
    [
        ("a.example.com", "a.example.com", True),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "*.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "badexample.com", False),
        ("a.example.com", "*.example.com", False),
    ],
)
def test_a_wildcard_covers_what_is_below_it(pattern: str, hostname: str, expected: bool) -> None:
    """Names and wildcards under it, but neither its parent nor a name that only ends alike."""
    assert covers(pattern, hostname) is expected


@pytest.mark.requirement("PM-21", "PM-22")
@pytest.mark.parametrize(
    ("gateway", "options", "url"),
    [
        ("{}", CompileOptions(), "http://127.0.0.1:8000/mcp/time"),
        ("{prefix: /a/b/}", CompileOptions(port=80), "http://127.0.0.1/a/b/time"),
        ("{}", CompileOptions(host="::", port=9000), "http://[::1]:9000/mcp/time"),
        ("{publicUrl: 'https://tools.example.com/x/'}", CompileOptions(), "https://tools.example.com/x/mcp/time"),
        ("{tls: {cert: a, key: b}}", CompileOptions(port=443), "https://127.0.0.1/mcp/time"),
    ],
)
def test_the_address_for_clients_follows_the_settings(gateway: str, options: CompileOptions, url: str) -> None:
    """Prefix, port, listening address, public address and TLS."""
    text = f"gateway: {gateway}\nmcpServers: {{time: {{url: 'http://127.0.0.1:9000/mcp', type: sse}}}}\n"

    snapshot = compile_documents(load_texts([("a.yaml", text)], {}), options)

    assert [address.url for address in route_addresses(snapshot)] == [url]
