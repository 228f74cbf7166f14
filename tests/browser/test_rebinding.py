"""DNS rebinding: a page's name comes to mean a loopback listener, so that for the browser both are one origin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.chrome import Browser
from tests.browser.stage import PREFIX, REBOUND, Stage, authority

pytestmark = pytest.mark.peers


@pytest.fixture
def rebindable(staged: Stage) -> Iterator[Stage]:
    """The name means the attacker's site at first, and again when the test is over."""
    staged.rebound.target = staged.stranger
    yield staged
    staged.rebound.target = staged.stranger


@pytest.mark.requirement("AG-42")
def test_a_rebound_name_does_not_reach_a_loopback_listener(rebindable: Stage, browser: Browser) -> None:
    """The gateway answers 403 to what a browser thinks is a page's own server, over both transports."""
    before = rebindable.watched.heard
    browser.open(REBOUND)
    rebindable.rebound.target = authority(rebindable.gateway)
    talk = browser.talk(f"{REBOUND}{PREFIX}/watched", "connect tools")
    over_sse = browser.talk(f"{REBOUND}{PREFIX}/watched/sse", "connect tools", transport="sse")

    for made in (*talk.exchanges, *over_sse.exchanges):
        assert made.status == 403
        assert '"class":"denied"' in made.text
    assert "error" in talk.done["tools"]
    assert "error" in over_sse.done["tools"]
    assert "refused by host" in rebindable.refusals("gateway")[-1]
    assert rebindable.watched.heard == before


@pytest.mark.long
@pytest.mark.requirement("AG-42")
def test_a_rebound_name_does_not_match_a_listener_with_a_hostname(rebindable: Stage, browser: Browser) -> None:
    """Where the listener has a name of its own, there is nothing behind any other."""
    browser.open(REBOUND)
    rebindable.rebound.target = rebindable.names["your-host:3101"]
    talk = browser.talk(f"{REBOUND}/mcp/home-assistant", "connect tools")

    assert {made.status for made in talk.exchanges} == {404}
    assert "error" in talk.done["tools"]
