"""The MCP Inspector, as a person uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import chrome, inspector
from tests.browser.chrome import Browser
from tests.browser.stage import ARTICLE, ARTICLE_PAGE, Stage, authority

pytestmark = pytest.mark.peers


@pytest.fixture
def browser(staged: Stage, tmp_path: Path) -> Iterator[Browser]:
    """A Chromium that finds the Inspector where the article's page is served."""
    with inspector.running(tmp_path) as address:
        names = {**staged.names, f"{authority(ARTICLE_PAGE)}:80": address}
        with chrome.opened(tmp_path, names, "inspector") as browser:
            yield browser


@pytest.mark.requirement("AG-50")
def test_it_connects_directly_with_the_articles_policies(browser: Browser) -> None:
    """In direct mode, with none of its proxies running, it lists the tools, calls one, and hears a notification."""
    page = inspector.Inspector(browser.driver)
    page.connect(ARTICLE_PAGE, ARTICLE)
    page.list_tools()
    told = page.call("echo", text="hello Inspector")
    browser.take_picture()
    page.call("announce")
    page.find("//*[contains(., 'Server Notifications')]/following::*[contains(., 'notifications/tools/list_changed')]")
    browser.take_picture()

    assert told.split(maxsplit=3) == ["Tool", "Result:", "Success", '"hello Inspector"']
