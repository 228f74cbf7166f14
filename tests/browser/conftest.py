"""The stage, once for all browser tests, and a fresh Chromium for each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import chrome, pages, stage
from tests.browser.chrome import Browser
from tests.browser.stage import Stage
from tests.peers import programs


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Servers, gateways and sites."""
    absent = programs.absent()
    if not pages.ESBUILD.exists():
        absent.append(str(pages.ESBUILD.relative_to(programs.ROOT)))
    if absent:
        pytest.fail(f"not installed: {', '.join(absent)}; `make test` installs what these tests need", pytrace=False)
    if missing := chrome.absent():
        pytest.skip(f"not on this machine: {', '.join(missing)} (on Debian: the packages chromium and chromium-driver)")
    with stage.opened(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def browser(staged: Stage, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Chromium, which knows the names of the stage."""
    picture = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")
    with chrome.opened(tmp_path, staged.names, picture) as browser:
        yield browser
