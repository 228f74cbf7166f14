"""The console in a real Chromium: from the one-time link to why a page was refused, and what would change that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser import chrome, pages
from tests.browser.chrome import Browser
from tests.browser.stage import FRIEND, authority
from tests.console.conftest import Api, running
from tests.console.test_page import fill
from tests.platform.stage import PASSWORD
from tests.proxy.talk import call

pytestmark = pytest.mark.peers

# A page asks for what it may not; then somebody there clicks on a link to the console.
CALL = """
const done = arguments[arguments.length - 1];
const headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"};
const asked = fetch(arguments[0], {method: "POST", headers, body: arguments[1]});
asked.then(() => done("let in"), (error) => done(error.name));
"""
LINK = """
const link = document.body.appendChild(document.createElement("a"));
Object.assign(link, {href: arguments[0], textContent: "why?", id: "why"});
"""
NARROW = 360


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A gateway with its console."""
    if missing := chrome.absent():
        pytest.skip(f"not on this machine: {', '.join(missing)} (on Debian: the packages chromium and chromium-driver)")
    with running(tmp_path_factory.mktemp("console")) as found:
        yield found


@pytest.fixture
def visitor(console: Api, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """A browser in which somebody has just signed in by a one-time link; FRIEND is another site."""
    script = tmp_path / "page.js"
    script.write_text("", "utf-8")
    with console.client("admin") as client:
        link = client.post("/api/v1/sign-in-codes", json={"role": "auditor"}).json()["link"]
    name = request.node.name.removeprefix("test_").replace("[", "-").rstrip("]")
    with pages.site(script) as site, chrome.opened(tmp_path, {authority(FRIEND): site}, f"console-{name}") as browser:
        browser.open(link)
        fill(browser, name, PASSWORD)
        browser.wait_for_text(f"Signed in as {name} (auditor)")
        yield browser
        assert [text for text in browser.complaints() if "Content Security" in text] == []


def refused_page(console: Api, browser: Browser) -> str:
    """Let a page of another site call; the id of its request, as the audit trail has it."""
    browser.open(FRIEND)
    gateway = f"http://127.0.0.1:{console.port}/mcp/filed"
    assert browser.driver.execute_async_script(CALL, gateway, call().decode()) == "TypeError"
    with console.client("auditor") as client:
        query = {"instance": "filed", "outcome": "denied", "limit": "1"}
        [record] = client.get("/api/v1/audit/records", params=query).json()["items"]
    assert "cors" in record["detail"]
    return str(record["requestId"])


def steps(browser: Browser) -> list[list[str]]:
    """The verdicts that are shown: word and rule."""
    rows = browser.driver.find_elements(By.CSS_SELECTOR, ".steps > li")
    return [row.text.split("\n")[:2] for row in rows]


@pytest.mark.requirement("AG-43")
def test_a_refused_page_is_explained(console: Api, visitor: Browser) -> None:
    """One click on the link with its request id, even on another site's page: policy, reason, setting."""
    request_id = refused_page(console, visitor)
    visitor.driver.execute_script(LINK, f"{console.base}/explain?request={request_id}")
    visitor.driver.find_element(By.ID, "why").click()
    said = visitor.wait_for_text("What became of it")
    visitor.take_picture()
    assert visitor.driver.current_url == f"{console.base}/console/explain?request={request_id}"
    expected = [["allowed", "route"], ["allowed", "host"], ["refused", "cors"], ["not reached", "csrf"]]
    assert steps(visitor) == expected
    assert f"by cors: pages of {FRIEND} may not call" in said
    setting = visitor.driver.find_element(By.CSS_SELECTOR, ".steps code").text
    assert setting == f"mcpServers.filed.cors: {{preset: mcp, allowOrigins: [{FRIEND}]}}"


@pytest.mark.requirement("AG-43")
def test_a_request_is_described_by_hand(console: Api, visitor: Browser) -> None:
    """With the keyboard alone; what is wrong comes back, what is right is explained where one looks then."""
    driver = visitor.driver
    visitor.open(f"{console.base}/explain")
    driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert driver.switch_to.active_element.get_attribute("textContent") == "Skip to the content"
    type_into(visitor, origin=FRIEND, source="nowhere", token="alice-" + "t" * 8, url="/mcp/filed\n")
    visitor.wait_for_text("This is no IP address")
    assert [driver.find_element(By.ID, name).get_attribute("value") for name in ("url", "origin", "token")] == [
        "/mcp/filed",
        FRIEND,
        "",
    ]
    type_into(visitor, source="192.0.2.7", message=call().decode())
    driver.find_element(By.ID, "explain").send_keys(Keys.ENTER)
    said = visitor.wait_for_text("What would become of it")
    assert "A browser would not send it" in said
    assert steps(visitor).count(["refused", "cors"]) == 2
    top = driver.execute_script("return document.getElementById('result').getBoundingClientRect().top")
    assert 0 <= top < driver.execute_script("return innerHeight")
    visitor.take_picture()


def test_addresses_and_settings_are_copied(console: Api, visitor: Browser) -> None:
    """By a button beside them, which says so."""
    driver = visitor.driver
    grants = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": console.base}
    driver.execute_cdp_cmd("Browser.grantPermissions", grants)
    visitor.open(f"{console.base}/")
    button = driver.find_element(By.CSS_SELECTOR, "button.copy")
    assert button.get_attribute("aria-label") == "Copy the address of filed"
    button.send_keys(Keys.ENTER)
    visitor.wait_for_text("Copied")
    copied = driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == f"http://127.0.0.1:{console.port}/mcp/filed"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_on_a_telephone(console: Api, visitor: Browser, scheme: str) -> None:
    """Nothing stands out on the right, however long; in both schemes."""
    driver = visitor.driver
    request_id = refused_page(console, visitor)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": NARROW, "height": 740, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    backs = set()
    for address in (
        "",
        f"/explain?request={request_id}",
        f"/explain?request={'x' * 200}",
        "/explain?url=" + "/m" * 300,
    ):
        visitor.open(f"{console.base}/console{address}")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= NARROW
        backs.add(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
        visitor.take_picture()
    [back] = backs
    assert (int(back.removeprefix("rgb(").split(",")[0]) < 128) == (scheme == "dark")


def type_into(browser: Browser, **texts: str) -> None:
    """Replace what the fields hold. A line end sends the form."""
    for name, text in texts.items():
        field = browser.driver.find_element(By.ID, name)
        field.clear()
        field.send_keys(text)
