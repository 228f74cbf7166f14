"""The verbs over the network, on a gateway that runs; and what they print, in a stock client."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from moongate.control.published import read_published
from moongate.control.secrets import load_key
from tests.cli.calling import Line, Serving, serving
from tests.peers import programs

CANARY = "hush-hush-" + "z9" * 8
PATIENCE = 10.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A gateway with one instance in its file, and a store."""
    with serving(tmp_path_factory.mktemp("gateway"), "mcpServers: {old: {url: 'http://127.0.0.1:9/mcp'}}\n") as running:
        yield running


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on the official SDK."""
    command = [sys.executable, "-m", "tests.peers.server_sdk2"]
    with programs.running({"peer": command}, tmp_path_factory.mktemp("peer")) as addresses:
        yield addresses["peer"]


@pytest.fixture(scope="module")
def moongate(gateway: Serving) -> Line:
    """The command line of somebody with an API key."""
    made = Line(gateway.folder / "data")("apikey", "create", "tests", "--role", "admin")
    key = gateway.folder / "api-key"
    key.write_text(made.out, "utf-8")
    return Line(gateway.folder / "elsewhere", "--server", gateway.console, "--api-key", f"@{key}")


def stock(entry: object, port: int, token: str = "") -> dict[str, object]:
    """What a stock client finds that can reach the gateway alone."""
    environment = {**programs.environment(), "MOONGATE_TOKEN": token}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli.stock_client", str(port)],
        input=json.dumps(entry),
        capture_output=True,
        text=True,
        timeout=40,
        env=environment,
        cwd=programs.ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_both_ways_show_the_same(gateway: Serving, moongate: Line) -> None:
    """Over the network, and on the store itself; the running gateway knows its own port."""
    remote = moongate.json("instance", "list")
    local = Line(gateway.folder / "data").json("instance", "list", "-f", str(gateway.folder / "moongate.yaml"))

    assert [found["name"] for found in remote] == [found["name"] for found in local] == ["old"]
    assert f":{gateway.port}/mcp/old" in remote[0]["addresses"]["base"]


@pytest.mark.requirement("PM-56", "PM-58")
def test_what_is_printed_works_in_a_stock_client(gateway: Serving, moongate: Line, peer: str) -> None:
    """Instance, user and token are made, and the snippets are used as they are: by a client over HTTP, and by one that
    can only start a process. Neither can reach anything but the gateway.
    """
    moongate("instance", "create", "peer", "--url", peer, "--header", "X-Key: ${KEY}", env={"KEY": CANARY})
    moongate("user", "create", "alice")
    made = moongate.json("token", "create", "alice", "--instance", "peer", "--client", "claude-desktop")
    [desktop] = made["clients"]
    plain = moongate.json("instance", "client-config", "peer", "--client", "mcpServers")[0]["text"]
    assert made["value"] not in plain

    over_http = stock(json.loads(plain), gateway.port, made["value"])
    over_stdio = stock(json.loads(desktop["text"]), gateway.port)

    assert over_http == over_stdio
    assert over_http["said"] == "from outside"
    refused = subprocess.run(
        [sys.executable, "-m", "tests.cli.stock_client", str(gateway.port)],
        input=plain,
        capture_output=True,
        text=True,
        timeout=40,
        env={**programs.environment(), "MOONGATE_TOKEN": "mg_wrong"},
        cwd=programs.ROOT,
        check=False,
    )
    assert refused.returncode != 0


def test_a_change_on_the_store_is_in_force_soon(gateway: Serving, peer: str) -> None:
    """Whoever has the data directory needs no key; the gateway notices what was written there."""
    local = Line(gateway.folder / "data")
    local("instance", "create", "fresh", "--url", peer, "--auth", "off")
    url = f"http://127.0.0.1:{gateway.port}/mcp/fresh"
    deadline = time.monotonic() + PATIENCE
    while httpx.get(url, trust_env=False).status_code == 404 and time.monotonic() < deadline:
        pass

    entry = {"mcpServers": {"fresh": {"url": url}}}
    assert stock(entry, gateway.port)["said"] == "from outside"


def test_what_a_gateway_publishes_is_left_to_it(gateway: Serving, moongate: Line) -> None:
    """The command line may not know the gateway's files: a token for an instance of theirs stays good."""
    data = gateway.folder / "data"
    moongate("user", "create", "carol")
    token = moongate.json("token", "create", "carol", "--instance", "old")["token"]["id"]
    deadline = time.monotonic() + PATIENCE
    while token not in _published(data) and time.monotonic() < deadline:
        pass

    Line(data)("user", "create", "dave")

    assert token in _published(data)


def _published(data: Path) -> str:
    found = read_published(data, load_key(data, {}))
    return "" if found is None else found.document


def test_the_connection_test_over_the_network(moongate: Line, peer: str) -> None:
    """Each step with its time; a server that is not there fails with the class in words, and exit code 1."""
    moongate("instance", "create", "tried", "--url", peer)
    moongate("instance", "create", "broken", "--url", "http://127.0.0.1:9/mcp")

    fine, broken = moongate("instance", "test", "tried"), moongate("instance", "test", "broken")

    assert fine.code == 0
    assert re.search(r"ok +initialize +[0-9.]+ ms  peer-sdk2 1.0.0, revision 2025-11-25", fine.out), fine.out
    assert broken.code == 1
    assert "upstream_connect: No connection to the backend" in broken.out


def test_the_state_of_an_instance(gateway: Serving, moongate: Line) -> None:
    """Counters are the running gateway's; without one there is nothing to say."""
    found = moongate.json("instance", "state", "old")
    shown = moongate("instance", "state", "old")
    local = Line(gateway.folder / "data")("instance", "state", "old", "-f", str(gateway.folder / "moongate.yaml"))

    assert (found["inForce"], found["streams"]) == (True, 0)
    assert "in force" in shown.out
    assert local.code == 1
    assert "gateway" in local.err


def test_secrets_are_nowhere(gateway: Serving, moongate: Line, peer: str) -> None:
    """Neither what was given nor what was made is in any later answer, in a log or in a file of the data directory."""
    moongate("instance", "create", "secret", "--url", f"{peer}?key={CANARY}", "--header", f"X-Key: {CANARY}")
    refused = moongate("instance", "create", "secret", "--url", peer, "--header", f"X-Key: {CANARY}")
    wrong = moongate("instance", "create", "x", "--config", "-", stdin=json.dumps({"url": 7, "headers": {"X": CANARY}}))
    answers = [
        moongate(*words).all
        for words in (
            ("instance", "list", "--json"),
            ("instance", "show", "secret"),
            ("instance", "test", "secret"),
            ("instance", "revisions", "secret", "--json"),
            ("export",),
            ("token", "list", "--json"),
        )
    ]

    assert (refused.code, wrong.code) == (1, 1)
    assert CANARY not in "".join([*answers, refused.all, wrong.all, gateway.log()])
    for path in (gateway.folder / "data").rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def test_an_unknown_key_says_how_to_give_one(moongate: Line, gateway: Serving) -> None:
    """Without a key, or with a wrong one: 1, and the way out."""
    anonymous = Line(moongate.data_dir, "--server", gateway.console)
    for said in (anonymous("user", "list"), anonymous("user", "list", env={"MOONGATE_API_KEY": "mgk_wrong"})):
        assert said.code == 1
        assert "MOONGATE_API_KEY" in said.err
