"""Official clients find the same by every door, whatever transport the server speaks, and it is what it should be.

The whole matrix takes minutes; `make test` runs the crossings in which each client, each server, each transport and
each door occurs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from tests.peers import crossings, observing, pairs, plan, programs
from tests.peers.crossings import CONNECT, DOORS, SERVERS, SSE, STDIO, TRANSPORTS, Crossing, Harbour
from tests.peers.observing import STREAMABLE_HTTP
from tests.peers.pairs import CLIENTS, LEGACY, MODERN, target

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

Names = tuple[str, str, str]

ALL: list[Names] = [(client, server, transport) for transport in TRANSPORTS for server in SERVERS for client in CLIENTS]
ESSENTIAL: set[Names] = {
    ("sdk1", "sdk2", STDIO),
    ("sdk2-auto", "sdk2", STDIO),
    ("sdk2-legacy", "ts", STDIO),
    ("ts", "sdk1", STDIO),
    ("ts", "everything", STDIO),
    ("sdk1", "sdk1", SSE),
    ("sdk2-auto", "everything", SSE),
    ("sdk2-legacy", "sdk2", SSE),
    ("ts", "ts", SSE),
}
OWN = [names for names in ALL if names[1] != "everything"]
SHARING = {("sdk2", "shared"), ("ts", "principal")}
CALLS = 64
CHANGED: dict[str, list[Any]] = {"notifications/tools/list_changed": [{}]}


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    """Servers of every transport and one gateway."""
    absent = programs.absent()
    if absent:
        pytest.fail(f"not installed: {', '.join(absent)}; `make test` installs what these tests talk to", pytrace=False)
    with crossings.opened(tmp_path_factory.mktemp("crossings")) as opened:
        yield opened


@pytest.fixture(scope="module")
def crossing(harbour: Harbour, request: pytest.FixtureRequest) -> Crossing:
    """What one client observed of one server; the three names are the indirect parameter."""
    return harbour.crossing(*request.param)


def over(names: Iterable[Names]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test for each of these crossings; those that are not essential are long."""
    chosen = [
        pytest.param(
            each, id="-to-".join(each[:2]) + f"-over-{each[2]}", marks=() if each in ESSENTIAL else pytest.mark.long
        )
        for each in names
    ]
    return pytest.mark.parametrize("crossing", chosen, indirect=True)


@over(ALL)
@pytest.mark.requirement("PM-01", "PM-23", "AG-13")
@pytest.mark.parametrize("door", DOORS)
def test_by_every_door_a_client_observes_what_it_observes_directly(crossing: Crossing, door: str) -> None:
    """Results, errors, notifications and questions are those of the direct connection over the server's transport."""
    direct, through = crossing.observed("direct"), crossing.observed(door)
    assert len(direct) > 15
    assert through == direct


@over(ALL)
@pytest.mark.parametrize("way", ["direct", *DOORS])
def test_they_agree_on_a_revision(crossing: Crossing, way: str) -> None:
    """The newest revision that both know, whatever lies between."""
    expected = MODERN if pairs.is_modern(crossing.client, crossing.server) else LEGACY
    assert crossing.document(way)["connected"]["version"] == expected


@over(OWN)
@pytest.mark.requirement("AG-13")
@pytest.mark.parametrize("door", DOORS)
def test_what_the_server_says_during_a_call(crossing: Crossing, door: str) -> None:
    """Progress and logs in their order; sampling, elicitation and roots are asked and answered; a call is cancelled."""
    seen = crossing.observed(door)
    steps = [{"progress": n, "total": 3, "message": f"step {n}"} for n in (1, 2, 3)]
    assert seen["progress"]["events"][plan.PROGRESS] == steps
    assert [entry["level"] for entry in seen["log"]["events"][plan.LOG]] == ["info", "warning"]
    assert text(seen["sampling"]) == f"Describe the moon -> {observing.SAMPLED}"
    assert text(seen["elicitation"]) == f"Hello {observing.ELICITED['name']}"
    assert text(seen["roots"]) == ", ".join(uri for uri, _ in observing.ROOTS)
    assert [event["message"] for event in seen["cancel"]["result"][plan.PROGRESS]] == ["waiting"]
    assert text(seen["was cancelled"]) == "cancelled"


@over(OWN)
@pytest.mark.requirement("AG-13")
@pytest.mark.parametrize("door", DOORS)
def test_what_the_server_says_outside_of_calls(crossing: Crossing, door: str) -> None:
    """List changes and updates of subscribed resources reach the client."""
    seen = crossing.observed(door)
    if crossing.modern:
        assert seen["announced"]["result"] == seen["withdrawn"]["result"] == "ToolsListChanged"
        assert seen["updated"]["result"] == "ResourceUpdated(uri='moon://facts')"
    else:
        assert seen["announced"]["result"] == seen["withdrawn"]["result"] == CHANGED
        assert seen["updated"]["result"] == {"notifications/resources/updated": [{"uri": "moon://facts"}]}


def text(step: dict[str, Any]) -> Any:  # noqa: ANN401 (any JSON)
    """The first text of a tool's result."""
    return step["result"]["content"][0]["text"]


@over(OWN)
def test_sessions_at_the_streamable_door(crossing: Crossing) -> None:
    """A server that knows no session ids has sessions at the gateway: ended ones and unknown ones are 404."""
    document = crossing.document(STREAMABLE_HTTP)
    if crossing.modern:
        assert document["ended"] is None
        return
    assert document["ended"] == 404
    assert document["steps"]["unknown session"]["result"] == 404
    lost = document["steps"]["lost"]["result"]
    assert lost["deleted"] in {200, 204}
    assert "error" in lost["after"]
    assert text({"result": lost["fresh"]}) == "again"


@over([names for names in ALL if names[2] == SSE])
@pytest.mark.requirement("PM-26")
@pytest.mark.parametrize("door", [STREAMABLE_HTTP, SSE])
def test_the_client_sees_nothing_of_the_backend(crossing: Crossing, harbour: Harbour, door: str) -> None:
    """The backend's address appears nowhere in what a client got; every answer carries a request id."""
    host = harbour.addresses[f"{crossing.server}-sse"].split("/")[2]
    document = crossing.document(door)
    steps = {name: seen for name, seen in document["steps"].items() if name != "seen"}
    assert host not in json.dumps({**document, "steps": steps})
    assert None not in document["http"]["requestIds"]


def small_plan(server: str) -> list[plan.Step]:
    """A few steps that show both directions."""
    wanted = {"tools", "echo", "progress", "sampling", "many"}
    every = plan.everything() if server == "everything" else plan.own_server("small", plan.Kind(sessions=False))
    return [step for step in every if step["name"] in wanted]


@pytest.mark.requirement("PM-01")
@pytest.mark.parametrize(
    ("server", "door"),
    [
        pytest.param(server, door, marks=() if server == "sdk2" or door == SSE else pytest.mark.long)
        for server in SERVERS
        for door in DOORS
    ],
)
def test_an_address_finds_its_transport_by_itself(harbour: Harbour, server: str, door: str) -> None:
    """An entry with only the `url` of an SSE server works by every door."""
    base = harbour.instance(server, "auto")
    targets = {
        STREAMABLE_HTTP: target(base),
        SSE: target(f"{base}/events", transport=SSE),
        CONNECT: crossings.over_stdio(crossings.connect_command(base)),
    }
    (document,) = pairs.talk("sdk2-legacy", [targets[door]], [small_plan(server)])
    assert "failed" not in document, document["failed"]
    for step in document["steps"].values():
        assert "result" in step, document["steps"]
    assert "timeout" not in document["steps"]["progress"]["events"]


def talk_at_once(number: int) -> list[plan.Step]:
    """Many calls at once, and progress, with words and steps that only this conversation uses."""
    many = [{"text": f"conversation {number}, call {n}"} for n in range(CALLS)]
    return [
        {"name": "many", "op": "many", "tool": "echo", "args": many},
        plan.call("progress", "count", {plan.PROGRESS: number + 2}, steps=number + 2),
    ]


@pytest.mark.requirement("AG-12", "AG-13")
@pytest.mark.parametrize(
    ("server", "isolation"),
    [
        pytest.param(server, isolation, marks=() if (server, isolation) in SHARING else pytest.mark.long)
        for server in ("sdk1", "sdk2", "ts")
        for isolation in crossings.TOGETHER
    ],
)
def test_clients_of_one_child_get_only_what_is_theirs(harbour: Harbour, server: str, isolation: str) -> None:
    """Sessions over two doors, all at once, with the same ids and progress tokens: no answer and no progress strays."""
    base = harbour.instance(server, isolation)
    targets = [target(base), target(f"{base}/sse", transport=SSE), target(base), target(f"{base}/sse", transport=SSE)]
    plans = [talk_at_once(number) for number in range(len(targets))]
    for number, document in enumerate(pairs.talk("sdk2-legacy", targets, plans, together=True)):
        assert "failed" not in document, document["failed"]
        steps = document["steps"]
        texts = [result["content"][0]["text"] for result in steps["many"]["result"]]
        assert texts == [f"conversation {number}, call {n}" for n in range(CALLS)]
        told = [(event["progress"], event["total"]) for event in steps["progress"]["events"][plan.PROGRESS]]
        assert told == [(n, number + 2) for n in range(1, number + 3)]
