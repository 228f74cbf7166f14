"""Official clients find the same by every door as when they start the server themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.hosted import household
from tests.hosted.household import Household
from tests.peers.pairs import CLIENTS

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

DOORS = ("streamable-http", "sse", "connect")
SERVERS = ("time", "git", "fetch", "filesystem")
ESSENTIAL = {("sdk1", "git"), ("sdk2-auto", "fetch"), ("sdk2-legacy", "time"), ("ts", "filesystem")}
ALL = [
    pytest.param(
        (client, server), id=f"{client}-to-{server}", marks=() if (client, server) in ESSENTIAL else pytest.mark.long
    )
    for server in SERVERS
    for client in CLIENTS
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    """All servers behind one gateway."""
    absent = household.absent()
    if absent:
        pytest.fail(f"not installed: {', '.join(absent)}; `make test` installs what these tests talk to", pytrace=False)
    with household.opened(tmp_path_factory.mktemp("household")) as opened:
        yield opened


@pytest.mark.requirement("AG-11")
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("names", ALL)
def test_a_hosted_server_is_as_if_it_were_local(home: Household, names: tuple[str, str], door: str) -> None:
    """Handshake, lists, results and errors are those of the server that the client starts itself."""
    told = home.told(*names)
    for way in ("direct", door):
        assert "failed" not in told[way], told[way]["failed"]
    assert told[door]["connected"] == told["direct"]["connected"]
    assert told[door]["steps"] == told["direct"]["steps"]


@pytest.mark.parametrize("door", DOORS)
def test_the_servers_did_their_work(home: Household, door: str) -> None:
    """What the essential clients got is what the servers are there for."""
    steps = {server: home.told(client, server)[door]["steps"] for client, server in ESSENTIAL}
    assert '"time_difference": "-9.0h"' in text(steps["time"]["convert"])
    assert len(steps["time"]["many"]["result"]) == 24
    assert "Измерено 月" in text(steps["git"]["log"])
    assert "+384 399 km" in text(steps["git"]["unstaged"])
    assert "27.3 days" in text(steps["fetch"]["page"])
    assert "384 400 km — далеко" in text(steps["filesystem"]["read"])
    assert text(steps["filesystem"]["long"])["length"] == 100_000
    for server, step in (
        ("git", "elsewhere"),
        ("fetch", "missing"),
        ("filesystem", "outside"),
        ("time", "unknown zone"),
    ):
        assert failed(steps[server][step]), steps[server][step]


def text(step: dict[str, Any]) -> Any:  # noqa: ANN401 (any JSON)
    """The first text of a tool's result."""
    return step["result"]["content"][0]["text"]


def failed(step: dict[str, Any]) -> bool:
    """Whether a call ended with an error, of the tool or of the protocol."""
    return "error" in step or step["result"]["isError"] is True
