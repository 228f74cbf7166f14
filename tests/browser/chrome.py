"""Starts Debian's Chromium by Selenium, closed to the world, and ends it and all that it started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.peers import programs

PICTURES = programs.ROOT / ".build" / "browser"
PROGRAMS = ("chromium", "chromedriver")
TALK_SECONDS = 45.0
PAGE_SECONDS = 20.0
END_SECONDS = 5.0
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    # Pages of names without https would be asked for over https first, and shown behind a warning.
    "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable",
    "--window-size=1200,900",
)
OURS = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request of a page, as the page saw it: `headers` are those of the answer that it could read."""

    method: str
    status: int | None
    headers: frozenset[str]
    text: str
    error: str


@dataclass(frozen=True, slots=True)
class Talk:
    """What a page wrote down. `done` has `result` or `error` for each step; `complaints` is Chromium's own log."""

    done: Mapping[str, Mapping[str, Any]]
    exchanges: Sequence[Exchange]
    complaints: Sequence[str]

    @property
    def results(self) -> dict[str, Any]:
        """The results of all steps. Fails if there was an error."""
        assert all("result" in outcome for outcome in self.done.values()), self
        return {name: outcome["result"] for name, outcome in self.done.items()}

    def of(self, method: str) -> list[Exchange]:
        """The exchanges of one method."""
        return [exchange for exchange in self.exchanges if exchange.method == method]


class Browser:
    """One window of a fresh Chromium."""

    def __init__(self, driver: Chrome, picture: str) -> None:
        self.driver = driver
        self._picture = picture
        self._pictures = 0
        driver.set_page_load_timeout(PAGE_SECONDS)

    def open(self, url: str) -> str:
        """Go there as a user would; what the page says."""
        self.driver.get(url)
        return self.driver.find_element(By.TAG_NAME, "body").text

    def inject(self, script: Path) -> None:
        """Run a script in the page that is open, whatever it is."""
        self.driver.execute_script(script.read_text("utf-8"))

    def talk(self, url: str, steps: str, **orders: object) -> Talk:
        """Have the page do these steps (see page.mjs) with this address, and take a picture of what it shows."""
        self.complaints()  # what was complained about before belongs to somebody else
        self.driver.execute_script("talk(arguments[0])", {"url": url, "steps": steps.split(), **orders})
        wait = WebDriverWait(self.driver, TALK_SECONDS, poll_frequency=0.05)
        wait.until(lambda driver: driver.find_element(By.TAG_NAME, "body").get_attribute("data-done"))
        report = json.loads(self.driver.find_element(By.ID, "report").get_attribute("textContent") or "null")
        self.take_picture()
        exchanges = [
            Exchange(
                made["method"],
                made.get("status"),
                frozenset(made.get("headers", ())),
                made.get("text", ""),
                made.get("error", ""),
            )
            for made in report["exchanges"]
        ]
        return Talk(report["done"], exchanges, self.complaints())

    def complaints(self) -> list[str]:
        """What Chromium has logged since the last time."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call] # Selenium's is not annotated
        return [entry["message"] for entry in entries]

    def wait_for_text(self, text: str) -> str:
        """What the page says, as soon as it holds this."""
        wait = WebDriverWait(self.driver, PAGE_SECONDS, poll_frequency=0.05, ignored_exceptions=(WebDriverException,))
        return wait.until(lambda driver: text in (said := driver.find_element(By.TAG_NAME, "body").text) and said)

    def take_picture(self) -> None:
        """Leave what the window shows in `.build/browser`."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self._pictures += 1
        self.driver.save_screenshot(str(PICTURES / f"{self._picture}-{self._pictures}.png"))


def absent() -> list[str]:
    """The programs that are needed and not here."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def opened(folder: Path, names: Mapping[str, str], picture: str) -> Iterator[Browser]:
    """A fresh Chromium that finds `names` (host, or host:port) at these addresses, and no other name."""
    rules = [f"MAP {name} {address}" for name, address in names.items()]
    rules += ["MAP * ~NOTFOUND", *(f"EXCLUDE {name}" for name in OURS)]
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}", f"--host-resolver-rules={', '.join(rules)}"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    # Chromium listens on a socket in there, whose path must not be longer than 107 bytes.
    with tempfile.TemporaryDirectory(prefix="moongate-") as short:
        environment = programs.environment({**home, "TMPDIR": short})
        service = Service(shutil.which("chromedriver"), env=environment, popen_kw={"start_new_session": True})
        driver = Chrome(options, service)
        session = service.process.pid
        try:
            yield Browser(driver, picture)
        finally:
            try:
                driver.quit()
            finally:
                _end_session(session)


def _end_session(session: int) -> None:
    """End what is left of a session of processes, which we have started."""
    for process in _members(session):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _members(session: int) -> list[int]:
    """The processes of a session: field 6 of stat (`man 5 proc`), counted from behind the name in parentheses."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text("utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
