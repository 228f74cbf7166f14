"""Servers on official SDKs, started once for all tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.peers import crossings, pairs, programs

STREAMABLE = ("sdk1", "sdk2", "ts", "everything")
SSE = ("sdk1", "ts")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Their addresses, by name and transport."""
    missing = programs.absent()
    if missing:
        absent = ", ".join(missing)
        pytest.fail(f"not installed: {absent}; `make test` installs what these tests talk to", pytrace=False)
    commands = {f"{name}-http": pairs.with_node(pairs.SERVERS[name]) for name in STREAMABLE}
    commands |= {f"{name}-sse": crossings.command(name, crossings.SSE) for name in SSE}
    with programs.running(commands, tmp_path_factory.mktemp("servers")) as started:
        yield started
