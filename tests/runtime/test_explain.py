"""`moongate explain`: each verdict in order with rule and setting, without calling any server."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop
from typer.testing import CliRunner

from moongate.cli.explain import FINE, REFUSED, USAGE, Question, explained, recorded
from moongate.cli.main import app
from moongate.testing import Backend, gateway
from tests.proxy.talk import call, config, connected, initialize, modern_call, polite, records, run

TOKEN = "alice-token-of-the-test"
FILE = f"""\
gateway:
  hosts: [gate.example]
  tokens:
    - {{name: alice, token: {TOKEN}, instances: [time]}}
    - {{name: old, token: {TOKEN}-old, expires: 2020-01-01}}
mcpServers:
  time:
    url: http://127.0.0.1:9/mcp?key=hidden
    type: streamable-http
    localRateLimit: [{{maxTokens: 1, tokensPerFill: 1, fillInterval: 1m}}]
  open:
    url: http://127.0.0.1:9/mcp
    auth: off
    localRateLimit: [{{maxTokens: 1, tokensPerFill: 1, fillInterval: 1m}}]
    cors: {{preset: mcp, allowOrigins: [https://app.example]}}
  local: {{command: no-such-program}}
  moved: {{url: "http://127.0.0.1:9/mcp", auth: off, requestRedirect: {{path: {{full: /mcp/time}}, status: 308}}}}
"""
ARTICLE = Path(__file__).parents[1] / "control" / "cases" / "article_stdio.txt"
UI = "http://your-web-ui-host-origin"
Shell = pytest.CaptureFixture[str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The configuration above."""
    path = tmp_path / "gateway.yaml"
    path.write_text(FILE, "utf-8")
    return path


@pytest.fixture
def article(tmp_path: Path) -> Path:
    """The configuration of the article, as its golden case has it."""
    path = tmp_path / "article.yaml"
    text = ARTICLE.read_text("utf-8")
    path.write_text(text.partition("=== file ")[2].partition("\n")[2].partition("=== ")[0], "utf-8")
    return path


def asked(file: Path, capsys: Shell, method: str, url: str, **more: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401 - of Question
    """Exit code, and what a program reads."""
    data_dir = file.parent / "data"
    code = explained(Question(method, url, (file,), data_dir=data_dir, **more), as_json=True)
    out, err = capsys.readouterr()
    assert err == ""
    assert TOKEN not in out
    assert not data_dir.exists()
    found = json.loads(out)
    assert isinstance(found, dict)
    return code, found


def told(explanation: dict[str, Any]) -> list[tuple[str, str]]:
    """Rules and outcomes, in order."""
    return [(step["rule"], step["outcome"]) for step in explanation["steps"]]


HEADS = [("route", "ok"), ("host", "ok"), ("cors", "ok"), ("csrf", "ok")]
REST = [("request", "ok"), ("message", "ok")]
MESSAGE = call(1).decode()
MODERN, MIRRORS = modern_call(1)
MODERN_HEADERS = tuple(f"{name}: {value}" for name, value in MIRRORS.items())
LIMITED = ("localRateLimit", "ok")
SKIPPED = ("localRateLimit", "-")
SERVER = ("server", "forwarded")
ALICE = {"token": TOKEN}


class Story(NamedTuple):
    """A question; its exit code, the status of the gateway's own answer, the steps."""

    method: str
    url: str
    more: dict[str, Any]
    code: int
    status: int | None
    steps: list[tuple[str, str]]


STORIES = [
    Story(
        "POST",
        "/mcp/time",
        {**ALICE, "message": MESSAGE},
        FINE,
        None,
        [*HEADS, ("authn", "ok"), *REST, LIMITED, SERVER],
    ),
    Story(
        "POST",
        "http://gate.example:8000/mcp/time/v1/stream",
        {**ALICE, "message": MODERN.decode(), "headers": MODERN_HEADERS},
        FINE,
        None,
        [*HEADS, ("authn", "ok"), *REST, LIMITED, SERVER],
    ),
    Story(
        "POST",
        "/mcp/time",
        {"headers": (f"API-Key: {TOKEN}",)},
        FINE,
        None,
        [*HEADS, ("authn", "ok"), ("request", "ok"), ("message", "-"), LIMITED, SERVER],
    ),
    Story("GET", "/mcp/time/sse", ALICE, FINE, None, [*HEADS, ("authn", "ok"), ("request", "ok"), LIMITED, SERVER]),
    Story("GET", "/mcp/open", {}, FINE, None, [*HEADS, LIMITED, ("request", "ok"), SERVER]),
    Story("GET", "/mcp/moved", {}, FINE, 308, [*HEADS, ("requestRedirect", "answered")]),
    Story("POST", "/mcp/time", {}, REFUSED, 401, [*HEADS, ("authn", "refused"), SKIPPED]),
    Story("POST", "/mcp/time", {"token": f"{TOKEN}-old"}, REFUSED, 401, [*HEADS, ("authn", "refused"), SKIPPED]),
    Story("POST", "/mcp/local", ALICE, REFUSED, 403, [*HEADS, ("authn", "refused")]),
    Story("PUT", "/mcp/open", {}, REFUSED, 405, [*HEADS, LIMITED, ("request", "refused")]),
    Story("POST", "/mcp/time/sse", ALICE, REFUSED, 405, [*HEADS, ("authn", "ok"), ("request", "refused"), SKIPPED]),
    Story(
        "POST",
        "/mcp/open",
        {"headers": ("Content-Type: text/plain",)},
        REFUSED,
        415,
        [*HEADS, LIMITED, ("request", "refused")],
    ),
    Story(
        "POST",
        "/mcp/open",
        {"headers": ("Mcp-Session-Id: made-up",)},
        REFUSED,
        404,
        [*HEADS, LIMITED, ("request", "refused")],
    ),
    Story(
        "POST",
        "/mcp/open",
        {"message": "{"},
        REFUSED,
        400,
        [*HEADS, LIMITED, ("request", "ok"), ("message", "refused")],
    ),
    Story(
        "POST",
        "/mcp/open",
        {"message": f"[{MESSAGE}]"},
        REFUSED,
        400,
        [*HEADS, LIMITED, ("request", "ok"), ("message", "refused")],
    ),
    Story(
        "POST",
        "/mcp/open",
        {"message": MESSAGE, "headers": MODERN_HEADERS},
        REFUSED,
        400,
        [*HEADS, LIMITED, ("request", "ok"), ("message", "refused")],
    ),
    Story("POST", "/mcp/tim", {}, REFUSED, 404, [("route", "refused"), ("routes", "-")]),
    Story("GET", "/mcp/open/other", {}, REFUSED, 404, [("route", "refused"), ("routes", "-")]),
    Story(
        "POST",
        "http://rebound.example:8000/mcp/open",
        {},
        REFUSED,
        403,
        [("route", "ok"), ("host", "refused"), ("cors", "-"), ("csrf", "-"), SKIPPED],
    ),
    Story(
        "POST",
        "/mcp/open",
        {"host": "rebound.example"},
        REFUSED,
        403,
        [("route", "ok"), ("host", "refused"), ("cors", "-"), ("csrf", "-"), SKIPPED],
    ),
    Story(
        "GET",
        "/mcp/open",
        {"headers": ("Host: gate.example",)},
        FINE,
        None,
        [*HEADS, LIMITED, ("request", "ok"), SERVER],
    ),
    Story("GET", "/mcp/op%en", {}, REFUSED, 400, [("HTTP", "refused")]),
    Story("GET", "/mcp/open", {"headers": ("Transfer-Encoding: gzip",)}, REFUSED, 400, [("HTTP", "refused")]),
    Story("GET", "/mcp/open", {"headers": tuple("A: b" for _ in range(200))}, REFUSED, 431, [("HTTP", "refused")]),
    Story("GET", "/mcp/open", {"headers": (f"A: {'b' * 40_000}",)}, REFUSED, 431, [("HTTP", "refused")]),
]


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.requirement("AG-43")
def test_each_verdict_is_told_in_order(file: Path, capsys: Shell, story: Story) -> None:
    """Up to the one that decides; the others are named as not asked. Exit code 0 only if it goes on, or is answered."""
    code, explanation = asked(file, capsys, story.method, story.url, **story.more)
    assert (told(explanation), explanation["status"], code) == (story.steps, story.status, story.code)
    assert all(step["reason"] for step in explanation["steps"])
    assert explanation["preflight"] is None


SETTINGS: list[tuple[str, dict[str, Any], str]] = [
    # The address, more, the setting that would change the verdict.
    ("/mcp/time", {}, "gateway.tokens"),
    ("/mcp/time", {"token": f"{TOKEN}-old"}, "gateway.tokens: old: expires"),
    ("/mcp/local", ALICE, "gateway.tokens: alice: instances"),
    ("http://rebound.example:8000/mcp/time", ALICE, "gateway.hosts: [rebound.example]"),
    ("/mcp/time", {**ALICE, "origin": "https://evil.example"}, "mcpServers.time.cors: {preset: mcp, allowOrigins: ["),
    ("/mcp/open", {"origin": "https://evil.example"}, "mcpServers.open.cors.allowOrigins: [https://evil.example]"),
]


@pytest.mark.parametrize(("url", "more", "setting"), SETTINGS)
@pytest.mark.requirement("AG-43")
def test_a_refusal_names_the_setting_that_would_change_it(
    file: Path, capsys: Shell, url: str, more: dict[str, Any], setting: str
) -> None:
    """For programs in a field, for people in a line of its own below the verdict."""
    code, explanation = asked(file, capsys, "POST", url, **more)
    assert code == REFUSED
    step = next(step for step in explanation["steps"] if step["outcome"] == "refused")
    assert step["setting"].startswith(setting)
    assert explained(Question("POST", url, (file,), data_dir=file.parent / "data", **more)) == REFUSED
    out, _ = capsys.readouterr()
    assert re.search(rf"\n +to change this, set {re.escape(step['setting'])}\n", out)
    assert TOKEN not in out


@pytest.mark.requirement("AG-38")
def test_the_preflight_of_the_articles_delete_is_not_granted(article: Path, capsys: Shell) -> None:
    """Its policies do not list DELETE: a browser asks, is not granted it, and does not send it. POST goes through."""
    url = "http://your-host:3101/mcp/tools"
    code, explanation = asked(article, capsys, "DELETE", url, origin=UI)
    assert code == REFUSED
    preflight = explanation["preflight"]
    assert told(preflight) == [("route", "ok"), ("cors", "not granted"), ("csrf", "-")]
    assert preflight["steps"][1]["reason"] == f"a preflight of {UI} is not granted the method 'DELETE'"
    setting = "binds[0].listeners[0].routes[0].policies.cors.allowMethods: [DELETE]"
    assert preflight["steps"][1]["setting"] == setting
    assert "access-control-allow-methods: GET, POST, OPTIONS" in preflight["answerHeaders"]
    assert explanation["outcome"] == "forwarded"

    code, explanation = asked(article, capsys, "POST", url, origin=UI, message=initialize().decode())
    assert code == FINE
    assert told(explanation["preflight"]) == [("route", "ok"), ("cors", "answered"), ("csrf", "-")]
    assert f"access-control-allow-origin: {UI}" in explanation["answerHeaders"]

    code, explanation = asked(
        article, capsys, "OPTIONS", url, origin=UI, headers=("Access-Control-Request-Method: DELETE",)
    )
    assert (code, explanation["status"], explanation["outcome"]) == (REFUSED, 204, "not granted")


ASKS: list[tuple[str, dict[str, Any], str | None]] = [
    # Method, more, the header names that the browser asks for (None: it does not ask at all).
    ("POST", {}, "content-type"),
    ("GET", {}, None),
    ("GET", {"headers": ("Last-Event-ID: 1", "Accept-Language: de", "User-Agent: x")}, "last-event-id"),
    ("POST", {"headers": ("Content-Type: text/plain; charset=utf-8",)}, None),
    ("DELETE", {"headers": ("Mcp-Session-Id: x",)}, "mcp-session-id"),
    ("POST", {"token": TOKEN}, "authorization,content-type"),
]


@pytest.mark.parametrize(("method", "more", "names"), ASKS)
def test_a_browser_asks_first_where_the_fetch_standard_says_so(
    file: Path, capsys: Shell, method: str, more: dict[str, Any], names: str | None
) -> None:
    """Methods and headers that need no permission are not asked for."""
    _, explanation = asked(file, capsys, method, "/mcp/open", origin="https://app.example", **more)
    assert (explanation["preflight"] is None) == (names is None)
    if names is not None:
        step = explanation["preflight"]["steps"][2]
        assert (step["rule"], step["outcome"]) == ("cors", "answered")
        allowed = [line for line in explanation["preflight"]["answerHeaders"] if "allow-headers" in line]
        assert set(names.split(",")) <= set(re.split(r": |, ", allowed[0]))


def test_the_gateways_own_pages_ask_for_nothing(file: Path, capsys: Shell) -> None:
    """Their requests are not those of another origin."""
    more = {**ALICE, "origin": "http://127.0.0.1:8000", "message": MESSAGE}
    code, explanation = asked(file, capsys, "POST", "/mcp/time", **more)
    assert (code, explanation["preflight"]) == (FINE, None)


def test_what_a_trusted_proxy_says_is_told(tmp_path: Path, capsys: Shell) -> None:
    """From its address the client behind it is seen; from any other the same headers mean nothing."""
    file = tmp_path / "gateway.yaml"
    block = {"trustedProxies": ["192.0.2.1"], "publicUrl": "https://gate.example/base"}
    file.write_text(config("http://127.0.0.1:9/mcp", gateway=block), "utf-8")
    headers = ("X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: gate.example")
    told_by = {"192.0.2.1": "the client is 198.51.100.7 (https, asked for gate.example)"}
    for source in ("192.0.2.1", "192.0.2.2"):
        _, explanation = asked(file, capsys, "GET", "http://gate.example/base/mcp/one", source=source, headers=headers)
        expected = told_by.get(source, f"the client is {source} (http)")
        assert explanation["steps"][0]["reason"] == expected
        assert explanation["steps"][1]["rule"] == "route"


def test_what_people_read(file: Path, capsys: Shell) -> None:
    """Aligned, plain when piped, without addresses' queries and without the token."""
    data_dir = file.parent / "data"
    assert explained(Question("post", "/mcp/time", (file,), token=TOKEN, message=MESSAGE, data_dir=data_dir)) == FINE
    out, err = capsys.readouterr()
    assert out.replace(str(file.parent), "") == (
        "POST http://127.0.0.1:8000/mcp/time from 127.0.0.1\n"
        "  ok           route           time (/gateway.yaml:7), streamable HTTP\n"
        "  ok           host            Host is ours\n"
        "  ok           cors            no Origin\n"
        "  ok           csrf            no Origin: not a browser\n"
        "  ok           authn           a valid token\n"
        "  ok           request         its form is fine, without a session\n"
        "  ok           message         tools/call moonrise (revisions with sessions)\n"
        "  ok           localRateLimit  within the limit for each caller: 1 at once, 1 more every 60 s\n"
        "  forwarded    server          time at http://127.0.0.1:9/mcp\n"
        "goes on to the server\n"
    )
    assert err == ""
    question = Question("DELETE", "/mcp/open", (file,), origin="https://evil.example", data_dir=data_dir)
    assert explained(question) == REFUSED
    out, _ = capsys.readouterr()
    assert out.startswith("A browser asks first: OPTIONS http://127.0.0.1:8000/mcp/open from 127.0.0.1\n")
    assert "\nThe browser does not send the request itself. Without a browser:\n\nDELETE " in out
    assert out.endswith("\nrefused: 403 denied\n")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"url": "mcp/time"}, "URL: must be an address"),
    ({"url": "ftp://127.0.0.1/mcp/time"}, "URL: must be an address"),
    ({"url": "http://[/mcp"}, "URL: is not an address"),
    ({"url": "http://127.0.0.1:99999/mcp"}, "URL: is not an address"),
    ({"url": "http://127.0.0.1:7999/mcp/time"}, "URL: nothing listens on port 7999; the ports are: 8000"),
    ({"method": "P OST"}, "METHOD: must be an HTTP method"),
    ({"headers": ("no colon",)}, "--header: must be a name, a colon and a value"),
    ({"headers": ("A: b\r\nC: d",)}, "--header: holds a control character"),
    ({"token": "a\nb"}, "--header: holds a control character"),
    ({"origin": "a\nb"}, "--header: holds a control character"),
    ({"host": "a\r\nb"}, "--host: holds a control character"),
    ({"method": "GET", "message": "{}"}, "--message: only a POST has a message"),
    ({"message": "@no-such-file"}, "--message: no-such-file: No such file"),
]


@pytest.mark.parametrize(("change", "text"), WRONG)
def test_a_wrong_question_is_exit_code_2(file: Path, capsys: Shell, change: dict[str, Any], text: str) -> None:
    """On standard error, and nothing on standard output."""
    question = Question("POST", "/mcp/time", (file,), data_dir=file.parent / "data")
    assert explained(replace(question, **change)) == USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(text)


def test_a_wrong_file_is_exit_code_2(tmp_path: Path, capsys: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its errors; without any file the words say how to give one."""
    file = tmp_path / "gateway.yaml"
    file.write_text("mcpServers: {time: {ulr: x}}\n", "utf-8")
    assert explained(Question("GET", "/mcp/time", (file,))) == USAGE
    assert "unknown key 'ulr'" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert explained(Question("GET", "/mcp/time")) == USAGE
    assert "-f" in capsys.readouterr().err


def test_a_message_may_stand_in_a_file(file: Path, capsys: Shell) -> None:
    """Byte for byte."""
    message = file.parent / "message.json"
    message.write_bytes(call(1).replace(b"moonrise", "m\u00f6nd".encode()))
    code, explanation = asked(file, capsys, "POST", "/mcp/open", message=f"@{message}")
    assert code == FINE
    assert "tools/call m\u00f6nd" in str(explanation["steps"])


def test_no_server_is_called_and_nothing_is_written(tmp_path: Path) -> None:
    """As a process of its own, in front of a backend that would notice; the data directory stays empty."""

    async def story() -> None:
        async with Backend(polite) as backend:
            file = tmp_path / "gateway.yaml"
            file.write_text(config(backend.url), "utf-8")
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "moongate", "explain", "-f", str(file), "POST", "/mcp/one"),
                *("--message", MESSAGE, "--data-dir", str(tmp_path / "data")),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await process.communicate()
            assert (process.returncode, err) == (FINE, b"")
            assert out.endswith(b"goes on to the server\n")
            assert b"\x1b" not in out
            assert not backend.connections

    run(story())
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.yaml"]


def test_a_session_of_the_running_gateway_is_known(tmp_path: Path, capsys: Shell) -> None:
    """With its data directory, whose key opens the id; without it the id is nobody's."""

    async def story() -> tuple[str, Path, str]:
        async with Backend(polite) as backend:
            text = config(backend.url)
            async with gateway(text) as gate, connected(gate) as client:
                opened = await client.ask(initialize())
                key = (gate.data_dir / "key").read_text("ascii")
                return opened.fields["mcp-session-id"], gate.data_dir, f"{text}\n{key}"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        session, _, both = runner.run(story())
    text, _, key = both.partition("\n")
    file, data_dir = tmp_path / "gateway.json", tmp_path / "data"
    file.write_text(text, "utf-8")
    data_dir.mkdir()
    (data_dir / "key").write_text(key, "ascii")
    for directory, code in ((data_dir, FINE), (tmp_path / "other", REFUSED)):
        headers = (f"Mcp-Session-Id: {session}",)
        assert explained(Question("GET", "/mcp/one", (file,), headers=headers, data_dir=directory)) == code
        out, _ = capsys.readouterr()
        assert ("a session of revision 2025-06-18" in out) == (code == FINE)


@pytest.mark.requirement("AG-43")
def test_a_recorded_request_is_told_in_words(capsys: Shell) -> None:
    """By the id that the client got: what was asked, why it was refused, and what would change it."""

    async def story() -> None:
        async with Backend(polite) as backend, gateway(config(backend.url)) as gate, connected(gate) as client:
            fine = await client.ask(call())
            refused = await client.ask(call(), {"origin": "https://evil.example"})
            lost = await client.ask(call(), path="/mcp/other")
            records(gate)
            for answer, code in ((fine, FINE), (refused, REFUSED), (lost, REFUSED)):
                assert recorded(answer.fields["x-request-id"], gate.data_dir) == code
            assert recorded(refused.fields["x-request-id"], gate.data_dir, as_json=True) == REFUSED
            assert recorded("0" * 20, gate.data_dir) == USAGE
            assert recorded("../../etc", gate.data_dir) == USAGE

    run(story())
    out, err = capsys.readouterr()
    fine, refused, lost = out.partition("[\n")[0].split("request ")[1:4]
    assert re.search(r"asked +POST /mcp/one\n +route +one\n +call +tools/call moonrise\n", fine)
    assert re.search(r"ended +well\n", fine)
    assert re.search(r"class +denied\n +meaning +\S.+\n +why +cors: pages of https://evil.example may not", refused)
    assert re.search(r"change +set mcpServers.one.cors: {preset: mcp, allowOrigins: \[https://evil.example\]}", refused)
    assert re.search(r"class +not_found\n", lost)
    assert re.search(r"why +no route on port \d+ matches /mcp/other\n +change +Compare path", lost)
    assert json.loads(out[out.index("[\n") :])[0]["failure"] == "denied"
    assert "is not in" in err
    assert "20 hexadecimal digits" in err


def test_the_verb_is_wired(file: Path) -> None:
    """Options of the command line reach the question; a question without METHOD and URL is told so."""
    runner = CliRunner()
    words = ["explain", "-f", str(file), "post", "http://127.0.0.1:8123/mcp/time", "--token", TOKEN, "--port", "8123"]
    done = runner.invoke(app, [*words, "--message", MESSAGE, "--header", "User-Agent: x", "--source", "127.0.0.1"])
    assert (done.exit_code, TOKEN in done.output) == (FINE, False)
    assert (
        runner.invoke(app, [*words, "--origin", "https://evil.example", "--host", "gate.example"]).exit_code == REFUSED
    )
    assert runner.invoke(app, ["explain", "-f", str(file)]).exit_code == USAGE
    assert runner.invoke(app, ["explain", "GET", "/mcp/time", "--request", "0" * 20]).exit_code == USAGE


def test_the_example_of_the_documentation(tmp_path: Path, capsys: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is what comes out."""
    page = (Path(__file__).parents[2] / "docs" / "explain.md").read_text("utf-8")
    (tmp_path / "gateway.yaml").write_text("mcpServers:\n  time: {url: 'http://127.0.0.1:9000/mcp'}\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    question = Question("POST", "/mcp/time", (Path("gateway.yaml"),), origin="https://app.example.com")
    assert explained(replace(question, data_dir=tmp_path)) == REFUSED
    out, _ = capsys.readouterr()
    assert f"```text\n{out}```\n" in page
