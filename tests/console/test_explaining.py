"""The page that explains: what a request would meet, as the API says it, and what becomes of a bad question."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from moongate.platform_process import local_app
from tests.console.conftest import Api, running
from tests.console.reading import Page
from tests.console.test_resources import within
from tests.proxy.talk import call

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
TOKEN = "t0ken-" + "z" * 20
FORM = "/console/explain"


def asked(api: Api, **form: str) -> Page:
    """The form, filled in and sent by somebody who may read."""
    with api.signed_in() as browser:
        return Page(browser.post(FORM, data=form))


def in_force(api: Api) -> str:
    """What the gateway says that it serves."""
    with api.client("auditor") as client:
        return client.post("/api/v1/explain", json={"url": "/nowhere"}).text


@pytest.mark.requirement("AG-43")
def test_the_page_shows_what_the_api_says(api: Api) -> None:
    """Each verdict in order, the reason, the setting; first what a browser asks, then the request itself."""
    origin = "https://app.example"
    with api.client("auditor") as client:
        question = {"url": "/mcp/filed", "headers": {"Origin": origin}, "message": call().decode()}
        told = client.post("/api/v1/explain", json=question).json()
    shown = asked(api, url="/mcp/filed", origin=origin, message=call().decode())
    steps = [*told["preflight"]["steps"], *told["steps"]]
    words = {"ok": "allowed", "refused": "refused", "-": "not reached"}
    assert [verdict for verdict, _, _ in shown.steps] == [words[step["outcome"]] for step in steps]
    for step, (_, rule, rest) in zip(steps, shown.steps, strict=True):
        assert rule == step["rule"]
        assert step["reason"] in rest
    setting = f"mcpServers.filed.cors: {{preset: mcp, allowOrigins: [{origin}]}}"
    assert shown.settings == [setting, setting]
    assert "Or gateway.publicUrl, if" in shown.text
    [answer] = shown.answers
    assert answer.startswith("A browser would not send it")
    assert "Refused with status 403 (denied) by cors: pages of https://app.example may not call" in answer


def test_what_goes_on_says_where(api: Api) -> None:
    """With a message to the end; without one as far as it goes."""
    whole = asked(api, url="/mcp/filed", message=call().decode())
    assert whole.answers == ["Allowed: it goes on to the server of filed."]
    assert [verdict for verdict, _, _ in whole.steps][-2:] == ["allowed", "goes on"]
    assert "filed at http://127.0.0.1:9" in whole.text
    part = asked(api, url="/mcp/filed")
    assert "Nothing refuses it so far" in part.answers[0]
    assert "--message" not in part.text


def test_preflights_are_answered(api: Api) -> None:
    """Granted or not: also with the setting for what is missing. What was asked by hand has no preflight before it."""
    origin = "https://app.example"
    config = {"url": "http://127.0.0.1:9/", "auth": "off", "cors": {"preset": "mcp", "allowOrigins": [origin]}}
    with api.client("admin") as admin:
        assert admin.post("/api/v1/instances", json={"name": "paged", "config": config}).status_code == 201
        within(5, lambda: "/mcp/paged" in in_force(api))
        form = {"method": "OPTIONS", "url": "/mcp/paged", "origin": origin}
        headers = "Access-Control-Request-Method: POST"
        granted = asked(api, **form, headers=headers)
        missing = asked(api, **form, headers=f"{headers}\nAccess-Control-Request-Headers: x-odd")
        first = asked(api, url="/mcp/paged", origin=origin, message=call().decode())
        admin.delete("/api/v1/instances/paged")
    assert ("cors", "answered") in granted.verdicts()
    assert "Answered with status 204 by cors" in granted.answers[0]
    assert "access-control-allow-origin: https://app.example" in granted.text
    assert "What a browser asks first" not in granted.text
    assert ("cors", "not granted") in missing.verdicts()
    assert missing.settings == ["mcpServers.paged.cors.allowHeaders: [x-odd]"]
    assert "does not grant what the page needs, by cors" in missing.answers[0]
    assert first.answers == ["A browser may send it. Allowed: it goes on to the server of paged."]
    assert "What a browser asks first" in first.text


BAD = [
    ({"url": ""}, "url", "address is needed"),
    ({"url": "mcp/filed"}, "url", "Must be an address such as"),
    ({"url": "http://127.0.0.1:1/mcp/filed"}, "url", "nothing listens on port 1".capitalize()),
    ({"url": "/" + "x" * 5000}, "url", "4096"),
    ({"url": "/mcp/\u202efiled"}, "url", "cannot be seen"),
    ({"method": "no method"}, "method", "such as POST"),
    ({"method": "GET", "message": "{}"}, "message", "Only a POST"),
    ({"source": "localhost"}, "source", "no IP address"),
    ({"host": "a\x01b"}, "host", "cannot be seen"),
    ({"origin": "https://a\x7f"}, "origin", "cannot be seen"),
    ({"token": "a\x01b"}, "token", "cannot be seen"),
    ({"headers": "X-A: 1\n\nno colon"}, "headers", "Line 3 must be"),
    ({"headers": "X A: 1"}, "headers", "Line 1 must be"),
    ({"headers": "X-A: \x01"}, "headers", "Line 1 holds"),
    ({"headers": "X-A: 1\n" * 101}, "headers", "at most 100"),
    ({"message": "x" * (1024 * 1024 + 1)}, "message", "1048576"),
]


@pytest.mark.parametrize(("form", "field", "said"), BAD, ids=[f"{field}-{said[:14]}" for _, field, said in BAD])
def test_a_bad_input_comes_back(api: Api, form: dict[str, str], field: str, said: str) -> None:
    """The form as it was, and what is wrong beside the field."""
    whole = {"method": "POST", "url": "/mcp/filed", "source": "192.0.2.7", **form}
    shown = asked(api, **whole)
    assert (shown.status, list(shown.wrong), shown.steps) == (422, [field], [])
    assert said in shown.wrong[field]
    assert "see below what is wrong" in shown.text
    for name, value in whole.items():
        if value.isprintable() and name != "method":
            assert shown.fields[name] == value


def test_all_mistakes_are_told_at_once(api: Api) -> None:
    """Also those that only the gateway finds."""
    shown = asked(api, url="nowhere", source="x", headers="x", message="{", host="\x01")
    assert set(shown.wrong) == {"url", "source", "headers", "message", "host"}


def test_what_is_not_json_is_said_and_explained(api: Api) -> None:
    """Where it breaks off, beside the field; and what the gateway would answer."""
    shown = asked(api, url="/mcp/filed", message='{"jsonrpc": "2.0",\r\n "id" 1}')
    assert "in line 2, column 7" in shown.wrong["message"]
    assert shown.fields["message"] == '{"jsonrpc": "2.0",\n "id" 1}'
    assert "Refused with status 400 (bad_request) by message: malformed JSON" in shown.answers[0]
    assert "too deeply" in asked(api, url="/mcp/filed", message="[" * 100_000).wrong["message"]


def test_a_refusal_by_json_rpc_says_so(api: Api) -> None:
    """Older clients get status 200 with an error: that number alone would mislead."""
    config = {"url": "http://127.0.0.1:9/", "auth": "off", "access": {"rules": [{"allow": ["tool:get_*"]}]}}
    with api.client("admin") as admin:
        assert admin.post("/api/v1/instances", json={"name": "ruled", "config": config}).status_code == 201
        within(5, lambda: "/mcp/ruled" in in_force(api))
        shown = asked(api, url="/mcp/ruled", message=call(name=EVIL).decode())
        admin.delete("/api/v1/instances/ruled")
    assert shown.answers[0].startswith("Refused with a JSON-RPC error (denied) by access: no rule allows tool")
    assert "<script>alert" not in shown.html
    assert "&lt;script&gt;alert" in shown.html


def test_credentials_do_not_come_back(api: Api) -> None:
    """Not in the page, not in an address, not in the log; in a header neither, whatever its name."""
    jwt = "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxIn0." + "c2ln"
    lines = [f"Cookie: {TOKEN}", "X-Team: blue", f"X-Custom: {jwt}", f"X-Api-Key: {TOKEN}", f"Bearer {TOKEN}"]
    for url in ("/mcp/filed", "nowhere"):
        for headers in (lines, lines[:-1]):
            shown = asked(api, url=url, token=TOKEN, headers="\n".join(headers))
            assert TOKEN not in shown.html
            assert jwt not in shown.html
            assert shown.fields["token"] == ""
            assert shown.fields["headers"].split("\n")[:4] == ["Cookie: ", "X-Team: blue", "X-Custom: ", "X-Api-Key: "]
            assert "type them again" in shown.text
    with api.signed_in() as browser:
        assert TOKEN not in browser.get(FORM, params={"token": TOKEN, "url": "/mcp/filed"}).text
    assert TOKEN not in (api.folder / "said.log").read_text("utf-8")


def test_a_token_is_used(tmp_path: Path) -> None:
    """It is judged, as a header is that stands twice. With the first token, instances begin to ask for one."""
    with running(tmp_path) as api:
        with api.client("admin") as admin:
            assert admin.post("/api/v1/users", json={"name": "caller"}).status_code == 201
            token = admin.post("/api/v1/tokens", json={"user": "caller"}).json()["value"]
            within(5, lambda: "needs a token" in overview(api))
        forms = {
            "none": {},
            "wrong": {"token": TOKEN},
            "right": {"token": token},
            "twice": {"token": token, "headers": f"Authorization: Bearer {token}"},
        }
        outcomes = {}
        for name, form in forms.items():
            shown = asked(api, url="/mcp/filed", **form)
            assert token not in shown.html
            outcomes[name] = next(rest for _, rule, rest in shown.steps if rule == "authn")
    assert outcomes["none"] == "no token To change this, set gateway.tokens"
    assert outcomes["wrong"].startswith("an unknown token")
    assert outcomes["right"] == "a valid token"
    assert outcomes["twice"].startswith("a credential header stands more than once")


def overview(api: Api) -> str:
    """What the first page says."""
    with api.signed_in() as browser:
        return Page(browser.get("/console")).text


@pytest.mark.parametrize("field", ["url", "host", "origin", "source", "headers", "message", "method", "token"])
def test_nothing_that_is_typed_becomes_a_tag(api: Api, field: str) -> None:
    """Whether it is explained or comes back."""
    for value in (EVIL, f"/mcp/filed{EVIL}", f"X-A: {EVIL}", "</textarea>" + EVIL, "{{ 7 * 191 }}"):
        shown = asked(api, **{"url": "/mcp/filed", field: value})
        assert "<script>alert" not in shown.html
        assert "<img src=x" not in shown.html
        assert "1337" not in shown.html
        assert not any(name.startswith("on") for _, found in shown.tags for name in found)
    with api.signed_in() as browser:
        shown = Page(browser.get(FORM, params={field: EVIL, "request": EVIL}))
        assert ("<script>alert" in shown.html, shown.status) == (False, 404)


def test_what_turns_text_around_is_spelt_out(api: Api) -> None:
    """A right-to-left override would let a reason read as another one."""
    shown = asked(api, url="/mcp/filed", headers="X-A: b", message='{"a": "\u202eb"}')
    assert "\u202e" not in shown.html
    assert "\\u{202e}" in shown.fields["message"]


def test_addresses_begin_the_form_but_ask_nothing(api: Api) -> None:
    """From the overview one comes with the address of an instance."""
    with api.signed_in() as browser:
        shown = Page(browser.get(FORM, params={"url": "/mcp/filed", "method": "get", "origin": "https://a.example"}))
    assert (shown.status, shown.steps) == (200, [])
    assert (shown.fields["url"], shown.fields["method"]) == ("/mcp/filed", "GET")


def test_without_a_gateway_the_page_says_so(tmp_path: Path) -> None:
    """The store alone cannot explain; the form stays as it was."""

    async def answers() -> list[httpx.Response]:
        async with local_app(tmp_path / "data", {}) as (app, headers):
            transport: Any = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
                asking = await client.post(FORM, data={"url": "/mcp/time", "message": "{"})
                return [asking, await client.get("/console"), await client.get(FORM + "?request=" + "0" * 20)]

    asking, overview, unknown = map(Page, asyncio.run(answers()))
    assert (asking.status, asking.fields["url"], asking.steps) == (503, "/mcp/time", [])
    assert "The gateway cannot be asked now: no gateway runs here" in asking.text
    assert "Nothing is served yet" in overview.text
    assert (unknown.status, "no record of this request" in unknown.wrong["request"]) == (404, True)
