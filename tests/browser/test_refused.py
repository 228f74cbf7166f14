"""Pages that nobody let in reach nothing; the gateway's own pages do."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By

from tests.browser.chrome import Browser
from tests.browser.pages import SANDBOXED
from tests.browser.stage import STRANGER, Stage
from tests.browser.talking import EVERYTHING, OVER_SSE, check_blocked, check_everything, check_over_sse

pytestmark = pytest.mark.peers

CALL = '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'


@pytest.mark.requirement("AG-35")
def test_the_gateways_own_origin_needs_no_setting(staged: Stage, browser: Browser) -> None:
    """Without any `cors` block a page of the gateway's own origin talks over streamable HTTP and over SSE."""
    before = staged.watched.heard
    said = browser.open(staged.gateway)
    browser.inject(staged.script)
    streamable = browser.talk(staged.instance("watched"), EVERYTHING)
    sse = browser.talk(staged.instance("closed", "/sse"), OVER_SSE, transport="sse")

    assert "not_found" in said
    check_everything(streamable)
    check_over_sse(sse)
    assert staged.watched.heard > before


@pytest.mark.requirement("AG-35")
@pytest.mark.parametrize(
    ("page", "door", "transport"),
    [
        pytest.param(STRANGER, "", "http", id="stranger-http"),
        pytest.param(STRANGER, "/sse", "sse", id="stranger-sse", marks=pytest.mark.long),
        pytest.param(f"{STRANGER}{SANDBOXED}", "", "http", id="null-http"),
        pytest.param(f"{STRANGER}{SANDBOXED}", "/sse", "sse", id="null-sse", marks=pytest.mark.long),
    ],
)
def test_a_foreign_page_reaches_nothing(staged: Stage, browser: Browser, page: str, door: str, transport: str) -> None:
    """Without any `cors` block a page from elsewhere gets nothing, and the operator is told why and what to set."""
    before = staged.watched.heard
    browser.open(page)
    talk = browser.talk(staged.instance("watched", door), "connect tools", transport=transport)

    check_blocked(talk)
    assert staged.watched.heard == before
    refused = staged.refusals("gateway")[-1]
    assert "mcpServers.watched.cors" in refused
    assert (f"pages of {STRANGER}" if page == STRANGER else "Origin null") in refused


@pytest.mark.requirement("AG-34")
def test_a_foreign_page_cannot_call_without_a_preflight(staged: Stage, browser: Browser) -> None:
    """What browsers send without asking is refused, not only hidden from the page."""
    before, refusals = staged.watched.heard, len(staged.refusals("gateway"))
    init = {"method": "POST", "mode": "no-cors", "body": CALL, "headers": {"Content-Type": "text/plain"}}
    browser.open(STRANGER)
    talk = browser.talk(staged.instance("watched"), "fetch", fetch={"url": staged.instance("watched"), "init": init})

    assert talk.results["fetch"] == {"status": 0, "type": "opaque", "text": ""}
    assert len(staged.refusals("gateway")) == refusals + 1
    assert staged.watched.heard == before


@pytest.mark.requirement("AG-34")
def test_a_forged_form_is_refused_and_explained(staged: Stage, browser: Browser) -> None:
    """A form on a foreign page is a navigation, so that its refusal can be read: kind, request id, missing setting."""
    before = staged.watched.heard
    browser.open(STRANGER)
    browser.driver.execute_script(
        "const form = document.body.appendChild(document.createElement('form'));"
        "Object.assign(form, {method: 'POST', action: arguments[0], enctype: 'text/plain'}).submit();",
        staged.instance("watched"),
    )
    said = browser.wait_for_text('"requestId"')
    browser.take_picture()

    assert '"class":"denied"' in said
    assert "mcpServers.watched.cors" in said
    assert staged.refusals("gateway")[-1].split()[2] in said
    assert staged.watched.heard == before
    assert browser.driver.find_elements(By.TAG_NAME, "form") == []
