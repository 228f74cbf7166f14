"""What holds for every test run: marks name acceptance lines that exist."""

from __future__ import annotations

import pytest

from tests.requirements.scan import load

# Databases for tests of several packages; the server is started when the first test asks for it.
pytest_plugins = ["tests.databases"]


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
