"""`cors: {preset: mcp, allowOrigins: [...]}`: a page of a named origin does everything a client does."""

from __future__ import annotations

import pytest

from tests.browser.chrome import Browser
from tests.browser.stage import FRIEND, STRANGER, TOKEN, Stage
from tests.browser.talking import EVERYTHING, OVER_SSE, check_blocked, check_everything, check_over_sse

pytestmark = pytest.mark.peers

BEARER = {"Authorization": f"Bearer {TOKEN}"}
CREDENTIALS = [
    pytest.param("open", {}, id="nobody", marks=pytest.mark.long),
    pytest.param("locked", BEARER, id="bearer"),
    pytest.param("locked", {"X-API-Key": TOKEN}, id="key", marks=pytest.mark.long),
]


@pytest.mark.requirement("AG-35", "AG-52")
@pytest.mark.parametrize(("instance", "headers"), CREDENTIALS)
def test_a_named_origin_over_streamable_http(
    staged: Stage, browser: Browser, instance: str, headers: dict[str, str]
) -> None:
    """Session, answers, GET stream, resumption and DELETE, all across origins."""
    browser.open(FRIEND)
    talk = browser.talk(staged.instance(instance), EVERYTHING, headers=headers)

    check_everything(talk)
    seen = talk.results["seen"]
    assert not {"origin", "authorization", "x-api-key", "cookie"} & set(seen)


@pytest.mark.requirement("AG-35")
@pytest.mark.parametrize(("instance", "headers"), CREDENTIALS)
def test_a_named_origin_over_sse(staged: Stage, browser: Browser, instance: str, headers: dict[str, str]) -> None:
    """The older transport, across origins."""
    browser.open(FRIEND)
    talk = browser.talk(staged.instance(instance, "/sse"), OVER_SSE, headers=headers, transport="sse")

    check_over_sse(talk)


@pytest.mark.requirement("AG-31")
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer alice-tokem"}], ids=["none", "wrong"])
def test_without_a_valid_token_the_page_can_read_why(staged: Stage, browser: Browser, headers: dict[str, str]) -> None:
    """The refusal of a named origin is a 401 that the page can read, with the challenge and the request id."""
    browser.open(FRIEND)
    talk = browser.talk(staged.instance("locked"), "connect tools", headers=headers)

    assert "error" in talk.done["tools"]
    assert [made.status for made in talk.exchanges] == [401]
    assert {"www-authenticate", "x-request-id"} <= talk.exchanges[0].headers
    assert '"class":"unauthenticated"' in talk.exchanges[0].text


@pytest.mark.long
@pytest.mark.requirement("AG-31")
def test_a_page_can_read_that_its_session_is_gone(staged: Stage, browser: Browser) -> None:
    """The 404 of a session that nobody knows reaches the page: a client must know it to start anew."""
    headers = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "Mcp-Session-Id": "unknown",
        "MCP-Protocol-Version": "2025-11-25",
    }
    init = {"method": "POST", "body": '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}', "headers": headers}
    browser.open(FRIEND)
    talk = browser.talk(staged.instance("open"), "fetch", fetch={"url": staged.instance("open"), "init": init})

    assert talk.results["fetch"]["status"] == 404
    assert talk.results["fetch"]["type"] == "cors"
    assert '"class":"not_found"' in talk.results["fetch"]["text"]


@pytest.mark.long
def test_cookies_and_the_like_need_their_own_setting(staged: Stage, browser: Browser) -> None:
    """A page that sends `credentials: include` needs `allowCredentials`; Chromium names the header that is missing."""
    browser.open(FRIEND)
    without = browser.talk(staged.instance("open"), "connect tools", credentials="include")
    allowed = browser.talk(staged.instance("cookies"), EVERYTHING, credentials="include")

    check_blocked(without)
    assert any("Access-Control-Allow-Credentials" in complaint for complaint in without.complaints)
    check_everything(allowed)


@pytest.mark.requirement("AG-31", "AG-40")
def test_a_star_lets_pages_ask_but_not_call(staged: Stage, browser: Browser) -> None:
    """`*` names nobody: the CSRF rule refuses the call, the page can read that, and the operator learns the setting."""
    browser.open(FRIEND)
    talk = browser.talk(staged.instance("anybody"), "connect tools")

    assert "error" in talk.done["tools"]
    assert [made.status for made in talk.exchanges] == [403]
    assert '"class":"denied"' in talk.exchanges[0].text
    refused = staged.refusals("gateway")[-1]
    assert "refused by csrf" in refused
    assert FRIEND in refused


@pytest.mark.requirement("AG-34")
@pytest.mark.parametrize(
    ("instance", "headers"),
    [pytest.param("open", {}, id="nobody", marks=pytest.mark.long), pytest.param("locked", BEARER, id="bearer")],
)
def test_an_origin_that_is_not_named_is_refused(
    staged: Stage, browser: Browser, instance: str, headers: dict[str, str]
) -> None:
    """A block lets in those that it names and nobody else, token or not; the operator is told the setting."""
    browser.open(STRANGER)
    talk = browser.talk(staged.instance(instance), "connect tools", headers=headers)

    check_blocked(talk)
    refused = staged.refusals("gateway")[-1]
    assert f"pages of {STRANGER}" in refused
    assert f"{instance}.cors.allowOrigins" in refused
