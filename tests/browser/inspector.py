"""The MCP Inspector as its own launcher starts it, but without its proxy: so it can only connect directly.

Version 1 is the last that connects from the browser: in version 2 its Node.js process makes all connections.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as condition
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser.pages import HERE
from tests.peers import programs

PROGRAM = HERE / "node_modules/@modelcontextprotocol/inspector/client/bin/client.js"
SECONDS = 15.0


def free_port() -> int:
    """The Inspector wants to be told its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Start the Inspector's web page; yields host and port."""
    port = free_port()
    environment = {"CLIENT_PORT": str(port), "HOST": "127.0.0.1", "MCP_AUTO_OPEN_ENABLED": "false"}
    log = folder / "inspector.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [programs.node(), str(PROGRAM)],
            env=programs.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(SECONDS)


class Inspector:
    """The page, used as a person would."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self._wait = WebDriverWait(driver, SECONDS, poll_frequency=0.05)

    def connect(self, address: str, server: str) -> None:
        """Choose streamable HTTP and the direct way, and connect."""
        self.driver.get(f"{address}/?transport=streamable-http&serverUrl={server}")
        self.click("//button[@id='connection-type-select']")
        self.click("//*[@role='option'][normalize-space()='Direct']")
        self.click("//button[normalize-space()='Connect']")
        self.find("//*[normalize-space()='Connected']")

    def list_tools(self) -> None:
        """Have it show the tools."""
        self.click("//*[@role='tab'][normalize-space()='Tools']")
        self.click("//button[normalize-space()='List Tools']")

    def call(self, tool: str, **fields: str) -> str:
        """Choose a listed tool, fill in its form, and run it; the heading and the text of its result."""
        self.click(f"//span[normalize-space()='{tool}']")
        for name, text in fields.items():
            self.find(f"//textarea[@id='{name}']").send_keys(text)
        self.click("//button[normalize-space()='Run Tool']")
        heading = self.find("//h4[starts-with(normalize-space(), 'Tool Result')]")
        shown = self.find("//h4[starts-with(normalize-space(), 'Tool Result')]/following::pre[1]")
        self.driver.execute_script("arguments[0].scrollIntoView()", shown)
        return f"{heading.text} {shown.text}"

    def find(self, path: str) -> WebElement:
        """The first visible element, as soon as there is one."""
        return self._wait.until(condition.visibility_of_element_located((By.XPATH, path)))

    def click(self, path: str) -> None:
        """Click on it as soon as that is possible."""
        self._wait.until(condition.element_to_be_clickable((By.XPATH, path))).click()
