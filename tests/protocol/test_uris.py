"""URIs of resources: one thing has one form, and what two readers would take for two things is told from it."""

from __future__ import annotations

import pytest

from moongate.protocol.uris import canonical, doubt, lookalikes

PLAIN = [
    # What servers have, and its canonical form.
    ("file:///a/b.txt", "file:///a/b.txt"),
    ("file:///a%20b/", "file:///a b/"),
    ("FILE:/a", "file:///a"),
    ("file://localhost/a", "file:///a"),
    ("file:///C:/a", "file:///C:/a"),
    ("file:///100%25", "file:///100%"),
    ("file:///{path}", "file:///{path}"),
    ("file://documents/{name}", "file://documents/{name}"),
    ("note://Internal/x", "note://internal/x"),
    ("test://x?y=../z&u=http://e/", "test://x?y=../z&u=http://e/"),
    ("proxy://fetch/https://e.org/x", "proxy://fetch/https:/e.org/x"),
    ("repo://{owner}/{name}/contents{/path*}{?ref}", "repo://{owner}/{name}/contents{/path*}{?ref}"),
    ("postgres://u@h:5432/db/table/schema", "postgres://u@h:5432/db/table/schema"),
    ("HTTPS://Host:443/a", "https://host/a"),
    ("https://host", "https://host/"),
    ("http://host:0080?q", "http://host/?q"),
    ("http://host:8080/", "http://host:8080/"),
    ("http://[::1]:80/a", "http://[::1]/a"),
    ("http://127.0.0.1/a", "http://127.0.0.1/a"),
    ("https://{host}/x{?q}", "https://{host}/x{?q}"),
    ("urn:a:b", "urn:a:b"),
    ("data:text/plain;base64,AA//BB", "data:text/plain;base64,AA/BB"),
    ("a..b://x/..y/...", "a..b://x/..y/..."),
    ("x", "x"),
]


@pytest.mark.parametrize(("uri", "form"), PLAIN)
def test_what_servers_have_is_in_no_doubt(uri: str, form: str) -> None:
    """It has one form, whose form is the same."""
    assert doubt(uri) == ""
    assert canonical(uri) == form
    assert canonical(form) == form


DOUBTFUL = [
    ("a segment . or ..", "file:///pub/../x"),
    ("a segment . or ..", "file:///pub/../etc/passwd?/../../pub/y"),
    ("a segment . or ..", "file:///pub/%2e%2e/etc/passwd#/../../pub/y"),
    ("a segment . or ..", "file:///pub%2f..%2fx"),
    ("a segment . or ..", "file:///pub/%252e%252E/x"),
    ("a segment . or ..", "file:///pub%3f/%2e%2e/x"),
    ("a segment . or ..", "file:///pub/..?x"),
    ("a segment . or ..", "file:///pub/..;v=1/x"),
    ("a segment . or ..", "note://a/./b"),
    ("a segment . or ..", "../x"),
    ("an empty segment", "file:////etc/passwd"),
    ("an empty segment", "file:///data//x"),
    ("an empty segment", "file:///data%2f/x"),
    ("an empty segment", "file:///C://x"),
    ("an empty segment", "note://internal//x"),
    ("an empty segment", "//host/x"),
    ("a backslash", "file:///a\\b"),
    ("a backslash", "file:///a%5cb"),
    ("a control character", "file:///se\tcret"),
    ("a control character", "file:///a%00.txt"),
    ("a control character", "file:///a%c2%85"),
    ("white space around it", " file:///a"),
    ("white space around it", "file:///a\u3000"),
    ("escapes within escapes", "file:///a%2525252525"),
    ("escapes that are no UTF-8", "file:///%c0%ae%c0%ae/x"),
    ("no / after file:", "file:secret"),
    ("a user in its address", "file://u@h/a"),
    ("a user in its address", "https://u@host/x"),
    ("something else than https://HOST", "https:host/x"),
    ("something else than https://HOST", "https:/host/x"),
    ("something else than https://HOST", "https:///host/x"),
    ("something else than ws://HOST", "ws:%2f/%2fhost/x"),
    ("a host that can be written otherwise", "https://host./x"),
    ("a host that can be written otherwise", "http://127.1/x"),
    ("a host that can be written otherwise", "http://2130706433/x"),
    ("a host that can be written otherwise", "http://0x7f.0.0.1/x"),
    ("a host that can be written otherwise", "http://[0:0::1]/x"),
    ("a host that can be written otherwise", "https://\uff48ost/x"),
]


@pytest.mark.parametrize(("why", "uri"), DOUBTFUL)
def test_what_is_read_as_two_things_is_in_doubt(why: str, uri: str) -> None:
    """As it came, or decoded once or more; in the path, or in what one reader takes for it."""
    assert doubt(uri) == why


def test_less_of_a_uri_may_be_meant() -> None:
    """Servers leave out what they do not know: query, fragment, the host of a file."""
    assert lookalikes("file:///a/b") == lookalikes("note://a/b") == lookalikes("urn:a") == ()
    assert lookalikes("note://a/b?x#y") == ("note://a/b",)
    assert set(lookalikes("file://host/a%3Fb?c")) == {
        "file://host/a",
        "file://host/a?b",
        "file:///a?b?c",
        "file:///a",
        "file:///a?b",
    }
