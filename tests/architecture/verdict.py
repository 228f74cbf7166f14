"""Turns complaints into a failed test that can be read."""

from __future__ import annotations

from collections.abc import Collection

import pytest


def expect_none(complaints: Collection[str]) -> None:
    """Fail with all complaints, one a line, if there are any."""
    if complaints:
        pytest.fail("\n".join(sorted(complaints)), pytrace=False)
