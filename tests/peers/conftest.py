"""The park of servers and the gateway, started once for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers import pairs, programs
from tests.peers.pairs import Pair, Park


@pytest.fixture(scope="module")
def park(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Park]:
    """All servers and one gateway."""
    absent = programs.absent()
    if absent:
        pytest.fail(f"not installed: {', '.join(absent)}; `make test` installs what these tests talk to", pytrace=False)
    with pairs.opened(tmp_path_factory.mktemp("peers")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pair(park: Park, request: pytest.FixtureRequest) -> Pair:
    """What one client and one server observed of each other; `client` and `server` are the indirect parameter."""
    client, server = request.param
    return park.pair(client, server)
