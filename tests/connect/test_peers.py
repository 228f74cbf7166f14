"""Stock SDK clients over the stdio of `moongate connect`, in front of servers on official SDKs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.peers import pairs, plan
from tests.peers.crossings import connect_command, over_stdio

pytestmark = [pytest.mark.peers, pytest.mark.timeout(150)]

# What is about HTTP itself has no counterpart on a pipe.
OF_HTTP = {"seen", "lost", "unknown session"}


def steps_of(client: str, server: str, transport: str, *, sessions: bool) -> list[plan.Step]:
    """What the client says."""
    if server == "everything":
        return plan.everything()
    modern = pairs.is_modern(client, server)
    return plan.own_server(client, plan.Kind(modern=modern, requests=transport == "sse", sessions=sessions))


def observed(document: dict[str, Any]) -> dict[str, Any]:
    """What must be the same on every way."""
    assert "failed" not in document, document["failed"]
    steps = {name: seen for name, seen in document["steps"].items() if name not in OF_HTTP}
    return {"connected": document["connected"], **steps}


@pytest.mark.parametrize(
    ("client", "server", "transport"),
    [
        ("sdk1", "ts", "http"),
        ("sdk2-auto", "sdk2", "http"),
        ("ts", "everything", "http"),
        ("ts", "sdk1", "sse"),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in (
                ("sdk1", "sdk1", "http"),
                ("sdk2-legacy", "sdk1", "http"),
                ("sdk2-legacy", "everything", "http"),
                ("sdk2-auto", "sdk1", "http"),
                ("ts", "sdk2", "http"),
                ("sdk1", "ts", "sse"),
                ("sdk2-auto", "ts", "sse"),
            )
        ),
    ],
)
def test_a_client_sees_the_same_as_without_it(
    addresses: Mapping[str, str], client: str, server: str, transport: str
) -> None:
    """The whole plan of a conversation: once at the server's own address, once through a process."""
    url = addresses[f"{server}-{transport}"]
    direct = pairs.target(url, transport="sse" if transport == "sse" else "streamable-http")
    plans = [
        steps_of(client, server, transport, sessions=transport == "http"),
        steps_of(client, server, transport, sessions=False),
    ]
    told = pairs.talk(client, [direct, over_stdio(connect_command(url))], plans)
    expected, found = map(observed, told)
    assert len(found) > 15
    assert found == expected
