"""prometheus-mcp-server, which only speaks stdio, brings real figures of a real Prometheus to remote clients."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosted import household, monitoring
from tests.peers import pairs
from tests.peers.pairs import CLIENTS
from tests.peers.plan import Step, call

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

PRINTED_PORT = 3101
ARTICLE = Path(__file__).with_name("article.yaml")
PLAN: list[Step] = [
    {"name": "tools", "op": "tools"},
    call("up", "execute_query", query="up"),
    call("targets", "get_targets"),
    call("wrong query", "execute_query", query="up{"),
]
PYTHON_CLIENTS = [client for client in CLIENTS if client != "ts"]  # the others cannot choose `Host`


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For all files of this module."""
    return tmp_path_factory.mktemp("monitoring")


@pytest.fixture(scope="module")
def figures(folder: Path) -> Iterator[str]:
    """A Prometheus with something to tell."""
    missing = monitoring.absent()
    if missing is not None:
        pytest.skip(missing)
    with monitoring.prometheus(folder) as address:
        yield address


@pytest.fixture(scope="module")
def instance(folder: Path, figures: str) -> Iterator[str]:
    """The server hosted under its own name; yields the instance's address."""
    file = folder / "gateway.json"
    environment = {"PROMETHEUS_URL": figures, **monitoring.QUIET}
    file.write_text(json.dumps({"mcpServers": {"prometheus": {"command": str(monitoring.SERVER), "env": environment}}}))
    with household.serving(folder, file) as address:
        yield f"{address}/mcp/prometheus"


@pytest.fixture(scope="module")
def article(figures: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A gateway with the printed file, on a machine whose `docker` is the stand-in.

    Yields the gateway's authority and the stand-in's place. Only if somebody else has the printed port, it is another.
    """
    folder = tmp_path_factory.mktemp("article")
    file = ARTICLE
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PRINTED_PORT)) == 0:
            file = folder / ARTICLE.name
            text = ARTICLE.read_text("utf-8")
            file.write_text(text.replace(f"port: {PRINTED_PORT}", f"port: {monitoring.free_port()}"), "utf-8")
    place = monitoring.stand_in_docker(folder, figures)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
        with household.serving(folder, file, "--log-level", "info") as address:
            yield address.split("/")[2], place


def check_figures(document: dict[str, Any]) -> None:
    """What a client got are this Prometheus's own figures."""
    assert "failed" not in document, document["failed"]
    steps = document["steps"]
    assert {tool["name"] for tool in steps["tools"]["result"]["tools"]} >= {"execute_query", "get_targets"}
    (up,) = content(steps["up"])["result"]
    assert up["metric"]["__name__"] == "up"
    assert up["metric"]["job"] == "itself"
    assert up["value"][1] == "1"
    (target,) = content(steps["targets"])["activeTargets"]
    assert target["health"] == "up"
    assert steps["wrong query"]["result"]["isError"] is True


def content(step: dict[str, Any]) -> dict[str, Any]:
    """The structured part of a tool's result."""
    structured: dict[str, Any] = step["result"]["structuredContent"]
    return structured


@pytest.mark.requirement("AG-10")
@pytest.mark.parametrize("client", CLIENTS)
def test_real_figures_reach_a_streamable_http_client(instance: str, client: str) -> None:
    """Initialize, tools/list, tools/call with the figures of the Prometheus behind it."""
    (document,) = pairs.talk(client, [pairs.target(instance)], [PLAN])
    check_figures(document)


@pytest.mark.requirement("PM-23")
@pytest.mark.parametrize("client", ["sdk1", "ts"])
def test_real_figures_reach_an_sse_client(instance: str, client: str) -> None:
    """The same over the other door."""
    (document,) = pairs.talk(client, [pairs.target(f"{instance}/events", transport="sse")], [PLAN])
    check_figures(document)


@pytest.mark.requirement("AG-01", "AG-10", "AG-11")
@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_the_printed_file_works_as_it_is(article: tuple[str, Path], client: str) -> None:
    """Port, hostname, path, command and arguments are those of the file, and the figures come."""
    authority, place = article
    headers = {"Host": authority.replace("127.0.0.1", "your-host")}
    (document,) = pairs.talk(client, [pairs.target(f"http://{authority}/mcp/prometheus", headers)], [PLAN])
    check_figures(document)
    printed = ["run", "-i", "--rm", "-e", f"PROMETHEUS_URL={monitoring.PRINTED}", monitoring.PRINTED_IMAGE]
    assert set(map(tuple, monitoring.starts(place))) == {tuple(printed)}
