"""What holds for every test run: marks name acceptance lines that exist."""

from __future__ import annotations

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from tests.requirements.scan import load

# Databases for tests of several packages; the server is started when the first test asks for it.
pytest_plugins = ["tests.databases"]


# What listens on the port that the article prints, or drives a browser: one after the other, in one process.
ONE_AT_A_TIME = ("tests/browser/", "tests/hosted/test_prometheus.py", "tests/console/test_page.py")


class Together(LoadFileScheduling):  # type: ignore[misc] # pytest-xdist is not annotated
    """Of several processes (`-n`) each takes whole files, so that things are set up once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "one at a time" if file.startswith(ONE_AT_A_TIME) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Together:
    """How tests are spread over processes."""
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stop a run at once when a test names an acceptance line that does not exist."""
    known = load()
    wrong = sorted(
        {
            f"{item.nodeid}: {name!r}"
            for item in items
            for mark in item.iter_markers("requirement")
            for name in mark.args
            if name not in known
        }
    )
    if wrong:
        message = "unknown acceptance lines (the known ones are in tests/requirements/ids.toml):\n" + "\n".join(wrong)
        raise pytest.UsageError(message)
