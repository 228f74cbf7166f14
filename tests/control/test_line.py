"""One server named on the command line: what it is compiled to, what it is called, why it is refused."""

from __future__ import annotations

import pytest

from moongate.control.addresses import route_addresses
from moongate.control.compile import CompileOptions
from moongate.control.line import Line, is_address, read_line
from moongate.errors import ConfigError
from moongate.model.snapshot import Command, Route, Snapshot, Target, Transport

ENVIRONMENT = {"TOKEN": "hush-hush", "HOME": "/users/alice"}


def snapshot(line: Line) -> Snapshot:
    """What the data plane would run from."""
    return read_line(line, ENVIRONMENT, CompileOptions())[0]


def route(line: Line) -> Route:
    """Its only route."""
    [listener] = snapshot(line).binds[0].listeners
    [only] = listener.routes
    return only


def complaints(line: Line) -> list[str]:
    """Why it is refused."""
    with pytest.raises(ConfigError) as refused:
        snapshot(line)
    return [str(complaint) for complaint in refused.value.complaints]


def test_an_address_is_one_instance_at_the_root() -> None:
    """Its own address is `/mcp`, whatever the instance is called."""
    line = Line(url="https://mcp.example.com/v1", headers=("X-Key: a b", "Authorization:Bearer ${TOKEN}"))

    only = route(line)

    assert isinstance(only.target, Target)
    assert only.name == "example"
    assert [match.path.value for match in only.matches] == [""]
    assert only.target.transport is Transport.AUTO
    assert only.target.headers == (("X-Key", "a b"), ("Authorization", "Bearer hush-hush"))
    assert [address.url for address in route_addresses(snapshot(line))] == ["http://127.0.0.1:8000/"]
    assert "hush-hush" in snapshot(line).secrets


def test_the_transport_can_be_chosen() -> None:
    """As `type` does it in a file."""
    target = route(Line(url="http://127.0.0.1:9000/sse", transport="sse")).target

    assert isinstance(target, Target)
    assert target.transport is Transport.SSE


def test_a_command_is_taken_as_it_is() -> None:
    """A shell has read it before: nothing is replaced in it, and no variable is kept from it."""
    command = ("./server.sh", "two words", "${HOME}", "$${X}", "*", "", "--", "-x")

    target = route(Line(command=command)).target

    assert isinstance(target, Command)
    assert target.argv == command
    assert target.withheld == frozenset()
    assert target.cwd is None


def test_headers_are_judged_like_those_of_files() -> None:
    """All that is wrong at once, in words of the command line, and without values."""
    headers = ("hush-hush", "X-A: 1", "x-a: 2", "X-A: 3", "Host: example.com", "X-B: ${UNSET}", "X-C: hush\nhush")

    said = complaints(Line(url="http://127.0.0.1:port/", headers=headers))

    assert sorted(text.split(";")[0].split(", after")[0] for text in said) == [
        "--header: 'X-A' is given twice",
        "--header: 'x-a' is given twice",
        "--header: must be a name, a colon and a value, such as 'X-Key: value'",
        "command line: ${UNSET}: this environment variable is not set",
        "command line: headers.Host: this header cannot be set or removed here: it is always the backend's own",
        "command line: headers.X-C: a header value cannot hold line breaks or other control characters",
        "command line: url: the port must be a number from 1 to 65535",
    ]
    assert "hush" not in "".join(said)


def test_a_command_that_cannot_be_run_is_refused() -> None:
    """An empty one, and one with a tilde that no shell has replaced."""
    assert complaints(Line(command=("",))) == [
        "command line: command: is empty, or has spaces at its ends; write the name or path of a program"
    ]
    assert complaints(Line(command=("~/server",)))[0].startswith("command line: command: ~ is not replaced")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("uvx mcp-server-time --local-timezone=UTC", "time"),
        ("npx -y @modelcontextprotocol/server-everything stdio", "everything"),
        ("npx -y some-server@1.2.3", "some"),
        ("uvx some-mcp==1.2", "some"),
        ("docker run -i --rm -e KEY=hush -e OTHER ghcr.io/someone/prometheus-mcp-server:latest", "prometheus"),
        ("/usr/bin/python3 examples/server.py", "server"),
        ("python -m mcp_server_git --repository .", "git"),
        ("uv run --with hush weather.py", "weather"),
        ("env KEY=hush node dist/index.js", "index"),
        ("./my server/run.sh", "my"),
        ("npx", "npx"),
        ("mcp-server", "server"),
        ("--odd", "odd"),
        ("tool.with.dots", "tool-with-dots"),
    ],
)
def test_a_command_gives_the_name_of_what_it_runs(command: str, name: str) -> None:
    """Without runners, options, versions and the words that every server has in its name."""
    assert Line(command=tuple(command.split(" "))).name == name


def test_a_name_never_holds_the_value_of_an_option() -> None:
    """It may be a secret, and names are shown."""
    for command in (
        ("npx", "--token", "hush"),
        ("sh", "-c", "server --token hush"),
        ("sh", "server --token hush"),
        ("env", "TOKEN=hush"),
    ):
        assert "hush" not in Line(command=command).name


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://mcp.example.com/mcp", "example"),
        ("https://api.search.example.com:8443/", "search-example"),
        ("https://user:hush@tools.example/", "tools"),
        ("http://127.0.0.1:9000/mcp", "server"),
        ("http://[::1]:9000/mcp", "server"),
        ("http://localhost:9000/mcp", "server"),
        ("http://intranet/mcp", "intranet"),
        ("http://", "server"),
    ],
)
def test_an_address_gives_the_name_of_its_host(url: str, name: str) -> None:
    """Without what many hosts share."""
    assert Line(url=url).name == name


def test_an_address_has_a_scheme() -> None:
    """Anything else is a program."""
    assert is_address("https://example.com/mcp")
    assert is_address("ws://example.com/")
    assert not is_address("localhost:9000/mcp")
    assert not is_address("./http://")
