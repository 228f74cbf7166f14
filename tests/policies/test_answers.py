"""Redirects and fixed answers: what the gateway says itself."""

from __future__ import annotations

import pytest

from moongate.policies.answers import DirectResponseConfig, DirectResponsePolicy, RedirectConfig, RedirectPolicy
from tests.policies.heads import exchange

MOVED = RedirectConfig(host="new.example", port=8443, drop_port=True, prefix="/mcp/new", prefixes=("/old", "/old/er"))
LOCATIONS = [
    # The redirect, Host, TLS, path, query, where it leads.
    (RedirectConfig(scheme="https", drop_port=True), "a.example:8000", False, "/mcp", None, "https://a.example/mcp"),
    (RedirectConfig(scheme="https", port=8443), "a.example:8000", False, "/m", "x=1", "https://a.example:8443/m?x=1"),
    (RedirectConfig(scheme="http", port=80), "a.example", True, "/mcp", "", "http://a.example/mcp?"),
    (RedirectConfig(host="b.example"), "a.example:8000", False, "/mcp", None, "http://b.example:8000/mcp"),
    (RedirectConfig(host="b.example"), "a.example", True, "/mcp", None, "https://b.example/mcp"),
    (RedirectConfig(host="b.example", drop_port=True), "a.example:1", True, "/", None, "https://b.example/"),
    (RedirectConfig(host="2001:db8::1"), "[::1]:8000", False, "/", None, "http://[2001:db8::1]:8000/"),
    (RedirectConfig(port=9000), "[::1]:8000", False, "/mcp", None, "http://[::1]:9000/mcp"),
    (RedirectConfig(port=443), "a.example:8000", True, "/mcp", None, "https://a.example/mcp"),
    (RedirectConfig(path="/here"), "a.example", False, "/a/b/c", "d=e&f", "http://a.example/here?d=e&f"),
    (MOVED, "a.example:1", False, "/old", None, "http://new.example:8443/mcp/new"),
    (MOVED, "a.example:1", False, "/old/mcp", "q", "http://new.example:8443/mcp/new/mcp?q"),
    (MOVED, "a.example:1", False, "/old/er/sse", None, "http://new.example:8443/mcp/new/sse"),
    (MOVED, "a.example:1", False, "/old/erst", None, "http://new.example:8443/mcp/new/erst"),
    (RedirectConfig(prefix="/", prefixes=("/a",)), "h", False, "/a/b", None, "http://h/b"),
    (RedirectConfig(prefix="", prefixes=("/a",)), "h", False, "/a", None, "http://h/"),
    (RedirectConfig(prefix="/x", prefixes=("",)), "h", False, "/a", None, "http://h/x/a"),
    # Nothing that a client writes leads to a place that the operator did not choose.
    (RedirectConfig(prefix="", prefixes=("/a",)), None, False, "/a//evil.example/x", None, "/evil.example/x"),
    (RedirectConfig(path="/x"), None, False, "//evil.example", None, "/x"),
    (RedirectConfig(scheme="https"), None, False, "//evil.example", None, "/evil.example"),
    (RedirectConfig(path="/x"), "a.example:80@evil.example", False, "/", None, "http://a.example/x"),
    (RedirectConfig(path="/x"), "h", False, "/", 'a"\r\nb: \u00e9<>', "http://h/x?a%22%0D%0Ab:%20%C3%A9%3C%3E"),
]


@pytest.mark.parametrize(("config", "host", "secure", "path", "query", "location"), LOCATIONS)
def test_a_redirect_leads_where_the_operator_says(
    config: RedirectConfig, host: str | None, secure: bool, path: str, query: str | None, location: str
) -> None:
    """What is not written stays; the query always does."""
    request = exchange({} if host is None else {"host": host}, secure=secure)
    request.path, request.query = path, query
    verdict = RedirectPolicy(config).judge(request)
    assert verdict.answer is not None
    assert verdict.answer.lines == b"location: %b\r\n" % location.encode()
    assert (verdict.answer.status, verdict.answer.body, verdict.refusal) == (302, b"", None)


def test_behind_a_proxy_a_redirect_names_what_the_client_asked_for() -> None:
    """The outer host and scheme, which a trusted proxy told."""
    request = exchange({"host": "10.0.0.7:8000"}, secure=True)
    request.path, request.outer_host = "/mcp", "gate.example"
    verdict = RedirectPolicy(RedirectConfig(path="/new", status=308)).judge(request)
    assert verdict.answer is not None
    assert verdict.answer.lines == b"location: https://gate.example/new\r\n"
    assert "308" in verdict.reason


BODIES = [
    ("", b""),
    ("Back at noon.", b"content-type: text/plain; charset=utf-8\r\n"),
    ("1", b"content-type: text/plain; charset=utf-8\r\n"),
    ('"text"', b"content-type: text/plain; charset=utf-8\r\n"),
    ('{"status":"closed"}', b"content-type: application/json\r\n"),
    (" [1, 2]\n", b"content-type: application/json\r\n"),
    ("{broken", b"content-type: text/plain; charset=utf-8\r\n"),
    ("[" * 100_000, b"content-type: text/plain; charset=utf-8\r\n"),
    ("<script>alert(1)</script>", b"content-type: text/plain; charset=utf-8\r\n"),
    ("\u263e", b"content-type: text/plain; charset=utf-8\r\n"),
]


@pytest.mark.parametrize(("body", "lines"), BODIES)
def test_a_fixed_answer_is_json_or_text(body: str, lines: bytes) -> None:
    """Never what a browser would run."""
    verdict = DirectResponsePolicy(DirectResponseConfig(503, body)).judge(exchange({}))
    assert verdict.answer == (503, lines, body.encode(), True)
    assert verdict.refusal is None
