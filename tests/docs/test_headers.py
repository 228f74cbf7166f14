"""The table of headers says what the gateway does."""

from __future__ import annotations

import pytest

from moongate.control.compile import compile_documents
from moongate.control.files import load_texts
from moongate.errors import ConfigError
from moongate.model.snapshot import Target
from moongate.proxy.forward import FORWARDED, HOP_BY_HOP, PARAMETERS, STOPPED, RequestHeaders, ResponseHeaders
from moongate.wire.messages import RequestHead, ResponseHead
from tests.docs.pages import DOCS, table, text

PAGE = text(DOCS / "headers.md")
FATES = {"passes", "stops", "replaced"}
REST = "*any other*"
TARGET = Target("one", "http", "backend.example.com", 80, "/mcp")


def named() -> dict[str, tuple[str, str]]:
    """Fate on the way to the backend and on the way back, by lower-case name; names are those of the table's rows."""
    rows = table(PAGE, "header", "client to backend", "backend to client")
    return {row[0].strip("`").lower(): (row[1], row[2]) for row in rows if row[0] != REST}


ROWS = named()


def sample(name: str) -> bytes:
    """A name that a row stands for."""
    return name.replace("*", "tide").encode()


def test_every_row_says_one_of_three_things() -> None:
    """And no header has two rows."""
    rows = table(PAGE, "header", "client to backend", "backend to client")

    assert len(rows) == len(ROWS) + 1
    assert {fate for row in rows for fate in row[1:3]} == FATES


def test_the_table_names_all_that_goes_on_and_nothing_else() -> None:
    """Request headers that pass are exactly the listed ones."""
    passing = {name.encode() for name, (there, _) in ROWS.items() if there == "passes"}

    assert passing == FORWARDED | {PARAMETERS + b"*"}


def test_the_table_names_all_that_stops_on_the_way_back() -> None:
    """Answer headers that do not pass are exactly the listed ones, and those for browsers."""
    held = {name.encode() for name, (_, back) in ROWS.items() if back != "passes"}

    assert held == STOPPED | {b"access-control-allow-origin"}


def test_no_header_of_one_connection_passes() -> None:
    """In neither direction."""
    assert {name.decode() for name in HOP_BY_HOP} <= ROWS.keys()
    for name in HOP_BY_HOP:
        assert "passes" not in ROWS[name.decode()], name


@pytest.mark.requirement("PM-62")
@pytest.mark.parametrize("name", [*ROWS, "x-tide"])
def test_the_code_does_what_the_table_says(name: str) -> None:
    """Each header by itself, sent both ways; one that is in no row is stopped there and passes back."""
    there, back = ROWS.get(name, ("stops", "passes"))
    request, response = RequestHead(), ResponseHead()
    for head in (request, response):
        head.on_header(sample(name), b"low")
    line = b"%b: low\r\n" % sample(name)

    assert RequestHeaders(TARGET, (), ()).lines(request, None) == (line if there == "passes" else b"")
    assert ResponseHeaders(TARGET, (), frozenset()).lines(response) == (line if back == "passes" else b"")


def refused_names() -> list[str]:
    """The names that the page says `forwardHeaders` refuses because they must not reach a backend."""
    sentence = " ".join(PAGE.split()).partition("must never reach a backend: ")[2].partition("begins with")[0]
    return sentence.split("`")[1::2]


def forwarding(name: str) -> str:
    """A configuration that lets a client's header through."""
    return f"mcpServers: {{one: {{url: 'http://127.0.0.1:9/mcp', forwardHeaders: [{name}]}}}}"


@pytest.mark.requirement("PM-33")
@pytest.mark.parametrize("name", [*refused_names(), "Sec-Fetch-Site", "Host", "Accept-Encoding", "Mcp-Session-Id"])
def test_no_setting_lets_credentials_through(name: str) -> None:
    """What the page calls refused is an error of the configuration."""
    with pytest.raises(ConfigError):
        compile_documents(load_texts([("test.yaml", forwarding(name))], {}))


def test_the_page_lists_what_is_refused() -> None:
    """The sentence is still where the test reads it, and another header is let through."""
    assert len(refused_names()) >= 7
    assert compile_documents(load_texts([("test.yaml", forwarding("X-Tenant"))], {})).warnings == ()
