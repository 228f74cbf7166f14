"""`/explain?request=...`: requests that were really made, and the verdicts that they got."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from moongate.console.recorded import _sentence, _steps
from tests.console.conftest import Api
from tests.console.reading import Page
from tests.console.test_explaining import EVIL, in_force
from tests.console.test_resources import within
from tests.proxy.talk import JSON_TYPES, call

ORIGIN = "https://app.example"
OPEN = {"url": "http://127.0.0.1:9/mcp", "type": "streamable-http", "auth": "off"}
INSTANCES = {
    "rec-open": OPEN,
    "rec-locked": {**OPEN, "auth": "required"},
    "rec-ruled": {**OPEN, "access": {"rules": [{"allow": ["tool:get_*"]}]}},
    "rec-barred": {**OPEN, "access": {"rules": [{"allow": True, "sources": ["192.0.2.0/24"]}]}},
    "rec-counted": {**OPEN, "localRateLimit": [{"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "1h"}]},
    "rec-paged": {**OPEN, "cors": {"preset": "mcp", "allowOrigins": [ORIGIN]}},
    "rec-moved": {**OPEN, "requestRedirect": {"path": {"full": "/mcp/rec-open"}, "status": 308}},
    "rec-shadow": {**OPEN, "access": {"mode": "shadow", "rules": [{"allow": ["tool:get_*"]}]}},
}
HEAD = [("route", "allowed"), ("host", "allowed"), ("cors", "allowed"), ("csrf", "allowed")]


@pytest.fixture(scope="module")
def served(api: Api) -> Iterator[Api]:
    """With the instances above."""
    with api.client("admin") as admin:
        for name, config in INSTANCES.items():
            made = admin.post("/api/v1/instances", json={"name": name, "config": config})
            assert made.status_code == 201, made.text
        within(5, lambda: all(f"/mcp/{name}" in in_force(api) for name in INSTANCES))
        yield api
        for name in INSTANCES:
            admin.delete(f"/api/v1/instances/{name}")


def made(api: Api, instance: str, body: bytes = b"{}", method: str = "POST", **headers: str) -> str:
    """Send a request to the gateway; its id."""
    url = f"http://127.0.0.1:{api.port}/mcp/{instance}"
    fields = {**JSON_TYPES, **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = httpx.request(method, url, content=body, headers=fields, trust_env=False, timeout=20)
    return answer.headers["x-request-id"]


def explained(api: Api, request_id: str) -> Page:
    """By the address that one hands on."""
    with api.signed_in() as browser:
        return Page(browser.get(f"/explain?request={request_id}", follow_redirects=True))


@pytest.mark.requirement("AG-43")
def test_a_request_that_cors_refused(served: Api) -> None:
    """Which policies it had passed, which refused it and why, what would change that, which were not reached."""
    shown = explained(served, made(served, "rec-open", call(), origin=ORIGIN))
    assert shown.status == 200
    assert shown.verdicts() == [*HEAD[:2], ("cors", "refused"), ("csrf", "not reached")]
    assert shown.answers[0].startswith("It was refused with status 403 (denied) by cors: pages of https://app.example")
    assert shown.settings == [f"mcpServers.rec-open.cors: {{preset: mcp, allowOrigins: [{ORIGIN}]}}"]
    again = {name: shown.fields[name] for name in ("method", "url", "origin", "source", "token")}
    own = {"method": "POST", "url": "/mcp/rec-open", "origin": ORIGIN, "source": "127.0.0.1", "token": ""}
    assert again == own
    with served.signed_in() as browser:
        now = Page(browser.post("/console/explain", data=again))
    assert ("cors", "refused") in now.verdicts()


@pytest.mark.parametrize(
    ("instance", "request_", "verdicts", "answer"),
    [
        (
            "rec-locked",
            {"body": call()},
            [*HEAD, ("authn", "refused")],
            "It was refused with status 401 (unauthenticated) by authn: no token.",
        ),
        (
            "rec-barred",
            {"body": call()},
            [*HEAD, ("access", "refused")],
            "It was refused with status 403 (denied) by access: ",
        ),
        (
            "rec-ruled",
            {"body": call(name="pay")},
            [*HEAD, ("access", "allowed"), ("message", "allowed"), ("access", "refused")],
            "It was refused with a JSON-RPC error (denied) by access: no rule allows tool 'pay'",
        ),
        (
            "rec-open",
            {"body": b'{"jsonrpc'},
            [*HEAD, ("request", "refused")],
            "It was refused with status 400 (bad_request): malformed JSON",
        ),
        (
            "rec-open",
            {"body": call()},
            [*HEAD, ("message", "allowed"), ("server", "failed")],
            "It failed with status 502 (upstream_connect). No connection to the backend",
        ),
        (
            "rec-nowhere",
            {"body": call()},
            [("route", "refused")],
            "It was refused with status 404 (not_found): no route",
        ),
        (
            "rec-moved",
            {"body": call()},
            [*HEAD, ("requestRedirect", "answered")],
            "It succeeded with status 308.",
        ),
        (
            "rec-paged",
            {"method": "OPTIONS", "body": b"", "origin": ORIGIN, "access_control_request_method": "POST"},
            [*HEAD[:2], ("cors", "answered"), ("csrf", "not reached")],
            "It succeeded with status 204.",
        ),
        (
            "rec-paged",
            {"method": "OPTIONS", "body": b"", "origin": ORIGIN, "access_control_request_method": "TRACE"},
            [*HEAD[:2], ("cors", "not granted"), ("csrf", "not reached")],
            "It was answered with status 204, which did not grant what the page needs, by cors: ",
        ),
        (
            "rec-shadow",
            {"body": call(name="pay")},
            [*HEAD, ("access", "allowed"), ("message", "allowed"), *[("access", "allowed")] * 2, ("server", "failed")],
            "It failed with status 502",
        ),
    ],
)
def test_what_became_of_it(
    served: Api, instance: str, request_: dict[str, Any], verdicts: list[tuple[str, str]], answer: str
) -> None:
    """Of each kind of refusal, of what the gateway answers itself, and of what the server did."""
    shown = explained(served, made(served, instance, **request_))
    assert shown.verdicts() == verdicts
    assert shown.answers[0].startswith(answer)


def test_what_is_on_trial_is_shown_with_its_setting(served: Api) -> None:
    """Before it is in force one wants to know what it would have refused, and change it."""
    shown = explained(served, made(served, "rec-shadow", call(name="pay")))
    assert "only on trial (mode: shadow): no rule allows tool 'pay'" in shown.text
    assert len(shown.settings) == 1
    assert shown.settings[0].startswith("mcpServers.rec-shadow.access.rules: another rule")


def test_who_called_too_often(served: Api) -> None:
    """Without tokens the counter is asked before the message."""
    ids = [made(served, "rec-counted", call()) for _ in range(2)]
    shown = explained(served, ids[-1])
    assert shown.verdicts() == [*HEAD, ("localRateLimit", "refused")]
    assert shown.settings == ["mcpServers.rec-counted.localRateLimit[0]: maxTokens, tokensPerFill or fillInterval"]


def test_nothing_that_a_client_chose_becomes_a_tag(served: Api) -> None:
    """Name of the tool, client, path, origin, method: all of it comes from strangers."""
    ids = [
        made(served, "rec-ruled", call(name=EVIL)),
        made(served, "rec-open", call(), origin="https://<b>evil</b>"),
        made(served, "rec-open", json.dumps({"jsonrpc": "2.0", "id": 1, "method": EVIL}).encode(), user_agent=EVIL),
        made(served, "rec-open/<script>alert(1)</script>?<script>", call()),
    ]
    for request_id in ids:
        shown = explained(served, request_id)
        assert (shown.status, len(shown.answers)) == (200, 1)
        assert "<script>alert" not in shown.html
        assert "<b>evil" not in shown.html
        assert not any(name.startswith("on") for _, found in shown.tags for name in found)
    assert EVIL[2:20] in explained(served, ids[0]).text


def test_an_unknown_id_is_told_beside_its_field(served: Api) -> None:
    """Whatever it looks like."""
    for request_id in ("0" * 20, "abc", EVIL, "../../me", "a" * 3000):
        with served.signed_in() as browser:
            shown = Page(browser.get("/console/explain", params={"request": request_id}))
        assert (shown.status, shown.fields["request"]) == (404, request_id)
        assert "There is no record of this request (any more)" in shown.wrong["request"]


def test_a_request_of_an_instance_that_is_gone(served: Api) -> None:
    """The policy that refused is known; the others are not."""
    with served.client("admin") as admin:
        assert admin.post("/api/v1/instances", json={"name": "rec-gone", "config": OPEN}).status_code == 201
        within(5, lambda: "/mcp/rec-gone" in in_force(served))
        request_id = made(served, "rec-gone", call(), origin=ORIGIN)
        admin.delete("/api/v1/instances/rec-gone")
        within(5, lambda: "/mcp/rec-gone" not in in_force(served))
    shown = explained(served, request_id)
    assert shown.verdicts() == [("cors", "refused")]
    assert "does not lead to that instance any more" in shown.text


ORDER = ["route", "host", "cors", "csrf", "authn", "access", "localRateLimit"]
REFUSED = {"instance": "time", "status": 403, "failure": "denied"}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            {"failure": None, "status": 200, "method": "ping"},
            [*ORDER[:6], "message", "access", "localRateLimit", "server"],
        ),
        ({"failure": None, "status": 200, "httpMethod": "GET"}, [*ORDER, "server"]),
        ({"detail": "authn: no"}, ["route", "host", "cors", "csrf", "!authn", "-access", "-localRateLimit"]),
        ({"detail": "access: no"}, [*ORDER[:5], "!access", "-localRateLimit"]),
        (
            {"detail": "access: no", "method": "tools/call"},
            [*ORDER[:6], "message", "!access", "-localRateLimit"],
        ),
        (
            {"detail": "localRateLimit: no", "failure": "rate_limited", "method": "tools/call"},
            [*ORDER[:6], "message", "access", "!localRateLimit"],
        ),
        ({"failure": "too_large", "detail": "a body"}, [*ORDER[:6], "!request", "-access", "-localRateLimit"]),
        ({"failure": "upstream_dns", "method": "ping"}, [*ORDER[:6], "message", "access", "localRateLimit", "!server"]),
    ],
)
def test_the_order_of_verdicts(record: dict[str, Any], expected: list[str]) -> None:
    """Access rules are asked about the caller and about the message, counters of callers last."""
    marks = {"good": "", "bad": "!", "idle": "-"}
    steps = _steps({**REFUSED, **record}, ORDER)
    assert [marks[one.kind] + one.rule for one in steps] == expected


def test_sentences_end_once() -> None:
    """Whether the detail is a sentence or not."""
    for detail in ("too long", "Too long."):
        record = {"failure": "too_large", "status": 413, "detail": detail}
        assert _sentence(record) == f"It was refused with status 413 (too_large): {detail.removesuffix('.')}."
