"""The way in, in a real browser: the one-time link, the form, the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from tests.browser import chrome
from tests.console.conftest import Api
from tests.platform.stage import PASSWORD

pytestmark = pytest.mark.peers


def test_the_link_leads_to_an_account(api: Api, tmp_path: Path) -> None:
    """Open it, choose a name and a password: signed in; the code is not in the address any more, and works no more."""
    if missing := chrome.absent():
        pytest.skip(f"not on this machine: {', '.join(missing)} (on Debian: the packages chromium and chromium-driver)")
    with api.client("admin") as client:
        link = client.post("/api/v1/sign-in-codes", json={"role": "auditor"}).json()["link"]
    with chrome.opened(tmp_path, {}, "sign-in") as browser:
        assert "works once" in browser.open(link)
        browser.take_picture()
        assert browser.driver.current_url == f"{api.base}/sign-in"
        fill(browser, "visitor", "short")  # the browser itself keeps it back
        assert browser.driver.current_url == f"{api.base}/sign-in"
        fill(browser, "visitor", PASSWORD)
        assert "Signed in as visitor (auditor)" in browser.wait_for_text("Signed in")
        browser.take_picture()
        assert browser.driver.current_url == f"{api.base}/console"
        cookie = browser.driver.get_cookie("moongate_session")
        assert cookie is not None
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console")
        assert '"name":"visitor"' in browser.open(f"{api.base}/api/v1/me")
        assert "your account" in browser.open(f"{api.base}/sign-in")
        assert browser.driver.get_cookie("moongate_session") is None  # a page of this host, and not of the console
        fill(browser, "visitor", PASSWORD + "!")
        assert "is wrong" in browser.wait_for_text("is wrong")
        fill(browser, "visitor", PASSWORD)
        browser.wait_for_text("Signed in as visitor")
        browser.driver.find_element(By.ID, "sign-out").click()
        assert "your account" in browser.wait_for_text("your account")
        assert "401" in browser.open(f"{api.base}/api/v1/me")
        assert "your account" in browser.open(f"{api.base}/")
        assert [text for text in browser.complaints() if "Content Security" in text] == []


def fill(browser: chrome.Browser, name: str, password: str) -> None:
    """Type into the form, and send it."""
    for field, text in (("name", name), ("password", password)):
        element = browser.driver.find_element(By.ID, field)
        element.clear()
        element.send_keys(text)
    browser.driver.find_element(By.ID, "send").click()
