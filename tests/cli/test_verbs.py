"""Every noun on the store of a data directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.architecture.rules import ROOT
from tests.cli.calling import Line

CONFIGS = ROOT.parent / "shared" / "configs"
URL = "http://127.0.0.1:9000/mcp"


@pytest.fixture
def moongate(tmp_path: Path) -> Line:
    """The command line on an empty store."""
    return Line(tmp_path / "data")


def test_an_instance_is_made_changed_and_deleted(moongate: Line) -> None:
    """What is given changes, the rest stays, also the secrets that nobody sees."""
    made = moongate.json(
        "instance",
        "create",
        "time",
        *("--url", URL, "--tag", "a", "--notes", "n", "--timeout", "5000", "--header", "X-Key: ${KEY}"),
        env={"KEY": "hush-hush"},
    )

    assert made["accessMode"] == "proxy"
    assert made["config"]["headers"]["X-Key"].startswith("[secret ")
    changed = moongate.json("instance", "edit", "time", "--tag", "b", "--auth", "off", "--remove", "timeout")
    assert changed["config"] == {"url": URL, "headers": made["config"]["headers"], "auth": "off"}
    assert (changed["tags"], changed["notes"], changed["revision"]) == (["b"], "n", 2)
    assert moongate("instance", "disable", "time").code == 0
    assert [found["enabled"] for found in moongate.json("instance", "list", "--disabled")] == [False]
    assert moongate.json("instance", "list", "--enabled") == []
    assert moongate("instance", "enable", "time").code == 0
    assert [found["action"] for found in moongate.json("instance", "revisions", "time")][-1] == "created"
    assert moongate("instance", "delete", "time", "-y").code == 0
    assert moongate("instance", "show", "time").code == 1
    assert "There is no instance" in moongate("instance", "list").out


def test_a_command_behind_dashes_is_a_hosted_instance(moongate: Line) -> None:
    """Its words are taken as they are; variables come from the caller's environment."""
    words = ("--env", "KEY", "--env", "LEVEL=${LEVEL}", "--cwd", "/srv", "--", "npx", "-y", "server", "--url", "x")
    made = moongate.json("instance", "create", "files", *words, env={"KEY": "hush-hush", "LEVEL": "7"})

    assert made["accessMode"] == "hosted"
    assert made["config"]["command"] == "npx"
    assert made["config"]["args"] == ["-y", "server", "--url", "x"]
    assert made["config"]["env"].keys() == {"KEY", "LEVEL"}
    reached = moongate.json("instance", "edit", "files", "--url", URL)
    assert reached["config"] == {"url": URL}
    assert reached["accessMode"] == "proxy"


@pytest.mark.requirement("PM-06")
def test_the_printed_configuration_is_pasted_as_it_is(moongate: Line) -> None:
    """From standard input and from a file, byte for byte."""
    file = CONFIGS / "proxy-mode-backend.json"

    [made] = moongate.json("instance", "create", "--paste", "-", stdin=file.read_text("utf-8"))
    again = moongate("instance", "create", "--paste", str(file))

    assert made["config"].keys() == json.loads(file.read_text("utf-8"))["mcpServers"]["your-mcp"].keys()
    assert (again.code, "your-mcp" in again.err) == (1, True)


@pytest.mark.requirement("PM-21")
def test_addresses_are_shown_ready_to_copy(moongate: Line, tmp_path: Path) -> None:
    """Public base, prefix and name, as the gateway's file says; in the list, in one instance, in every snippet."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        f"gateway: {{publicUrl: https://gate.example, prefix: /team/x}}\nmcpServers: {{a: {{url: {URL}}}}}\n"
    )
    base = "https://gate.example/team/x/time"
    moongate("instance", "create", "time", "--url", URL)

    assert base in moongate("instance", "list", "-f", str(file)).out
    assert {found["source"] for found in moongate.json("instance", "list", "-f", str(file))} == {"store", "file"}
    shown = moongate("instance", "show", "time", "-f", str(file)).out
    assert f"{base}/v1/stream\n" in shown
    assert f"{base}/events\n" in shown
    for snippet in moongate.json("instance", "client-config", "time", "-f", str(file)):
        assert f"{base}/v1/stream" in snippet["text"]
    refused = moongate("instance", "edit", "a", "--tag", "x", "-f", str(file))
    assert (refused.code, "file" in refused.err) == (1, True)


def test_the_gateways_secrets_are_not_needed(moongate: Line, tmp_path: Path) -> None:
    """Its file may name variables that only it has; what must be known to go on is said."""
    file = tmp_path / "gateway.yaml"
    file.write_text(f"""
gateway:
  publicUrl: https://gate.example
  tokens: [{{name: a, token: "${{NOT_SET_1}}"}}, {{name: b, token: "${{NOT_SET_2}}"}}]
mcpServers: {{a: {{url: {URL}, headers: {{Authorization: "Bearer ${{NOT_SET_3}}"}}}}}}
""")
    assert "https://gate.example/mcp/a" in moongate("instance", "list", "-f", str(file)).out
    file.write_text("store: {url: '${NOT_SET_4}'}\n")
    refused = moongate("instance", "list", "-f", str(file))

    assert refused.code in {1, 2}
    assert "store.url" in refused.err


def test_users_and_tokens(moongate: Line) -> None:
    """A value is shown once, with what goes into a client; afterwards there is its fingerprint."""
    moongate("instance", "create", "time", "--url", URL)
    moongate("user", "create", "alice", "--group", "readers", "--group", "makers")
    made = moongate("token", "create", "alice", "--instance", "time", "--expires", "90d", "--client", "codex")
    value = next(line for line in made.out.splitlines() if line.startswith("mg_"))
    [token] = moongate.json("token", "list", "--user", "alice")

    assert made.out.count(value) == 2
    assert f'"Bearer {value}"' in made.out
    assert value not in moongate("token", "list").out
    assert value not in moongate("user", "show", "alice").out
    assert token["instances"] == ["time"]
    assert token["expires"] is not None
    assert moongate("token", "disable", token["id"]).code == 0
    assert "disabled" in moongate("token", "list").out
    edited = moongate.json("token", "edit", token["id"], "--all-instances", "--expires", "never", "--name", "laptop")
    assert (edited["instances"], edited["expires"], edited["name"]) == (None, None, "laptop")
    assert moongate("token", "delete", token["id"], "-y").code == 0
    assert moongate.json("user", "edit", "alice", "--group", "")["groups"] == []
    assert moongate("user", "delete", "alice", "-y").code == 0
    assert moongate.json("user", "list") == []


def test_operators_and_keys(moongate: Line) -> None:
    """A password comes from standard input and is never shown; a key is shown once."""
    password = "correct horse " + "battery"
    made = moongate("operator", "create", "bob", "--role", "admin", "--password-file", "-", stdin=f"{password}\n")
    changed = moongate("operator", "password", "bob", "--password-file", "-", stdin="another " + password)
    short = moongate("operator", "create", "eve", "--role", "auditor", "--password-file", "-", stdin="short")
    key = moongate("apikey", "create", "ci", "--role", "operator")

    assert (made.code, changed.code, short.code) == (0, 0, 1)
    assert password not in made.all + changed.all
    last = moongate("operator", "edit", "bob", "--role", "auditor")
    assert (last.code, "last admin" in last.err) == (1, True)
    assert key.out.startswith("mgk_")
    [listed] = moongate.json("apikey", "list")
    assert key.out.strip() not in json.dumps(listed)
    assert moongate("apikey", "delete", listed["id"], "-y").code == 0
    moongate("operator", "create", "ann", "--role", "admin", "--password-file", "-", stdin=password)
    assert moongate.json("operator", "edit", "bob", "--role", "auditor")["role"] == "auditor"
    assert moongate("operator", "delete", "bob", "-y").code == 0
    assert [found["name"] for found in moongate.json("operator", "list")] == ["ann"]


def test_access_rules_are_set_and_shown(moongate: Line) -> None:
    """What is shown can be set again; rules that make no sense are refused with their place."""
    rules = 'access: {mode: shadow, rules: [{deny: ["tool:delete_*"], users: [alice]}]}'
    assert moongate("access", "set", "-", stdin=rules).code == 0
    shown = moongate("access", "show").out

    assert moongate("access", "set", "-", stdin=shown).code == 0
    assert moongate.json("access", "show")["access"]["mode"] == "shadow"
    wrong = moongate("access", "set", "-", stdin="rules: [{permit: true}]")
    assert (wrong.code, "permit" in wrong.err) == (1, True)
    assert moongate("access", "set", "--none").code == 0
    assert "no rules" in moongate("access", "show").out


def test_a_login_link_is_good_once(moongate: Line) -> None:
    """Without a gateway there is the code, and what to do with it."""
    first, second = moongate("login-link"), moongate.json("login-link", "--role", "auditor", "--minutes", "5")

    assert first.out.startswith("/sign-in#code=")
    assert second["role"] == "auditor"
    assert second["code"] not in first.out


def test_a_server_is_tried_before_it_is_an_instance(moongate: Line) -> None:
    """With an address or a command; nothing is kept."""
    reached = moongate("instance", "test", "draft", "--url", "http://127.0.0.1:9/mcp")
    hosted = moongate("instance", "test", "draft", "--json", "--", "no-such-program-anywhere")

    assert (reached.code, "upstream_connect" in reached.out) == (1, True)
    assert (hosted.code, hosted.json["failure"]) == (1, "process_start")
    assert moongate.json("instance", "list") == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("instance", "show", "nobody"), 1, "no instance 'nobody'"),
        (("instance", "create", "x", "--url", "ftp://a"), 1, "http"),
        (("instance", "create", "x", "--url", URL, "--transport", "stdio"), 1, "hosted"),
        (("instance", "create", "x"), 2, "--url"),
        (("instance", "create", "--url", URL), 2, "NAME"),
        (("instance", "create", "x", "--url", URL, "--header", "X: ${NOT_SET_ANYWHERE}"), 2, "NOT_SET_ANYWHERE"),
        (("instance", "create", "x", "--url", URL, "--header", "the-secret-alone"), 2, "colon"),
        (("instance", "edit", "x"), 1, "no instance"),
        (("instance", "delete", "x"), 2, "--yes"),
        (("instance", "client-config", "x", "--client", "emacs"), 2, "cursor"),
        (("user", "edit", "x"), 2, "nothing is changed"),
        (("user", "list", "--api-key", "x"), 2, "--server"),
        (("user", "list", "--server", "ftp://x"), 2, "--server"),
        (("user", "list", "--server", "http://127.0.0.1:1", "-f", "x.yaml"), 2, "-f"),
        (("user", "list", "--server", "http://127.0.0.1:1"), 1, "cannot be reached"),
        (("token", "create", "nobody"), 1, "nobody"),
        (("token", "create", "x", "--expires", "soon"), 2, "90d"),
        (("operator", "create", "x", "--role", "admin"), 2, "terminal"),
        (("operator", "create", "x", "--role", "king", "--password-file", "-"), 1, "admin"),
        (("import", "not-there.json"), 2, "cannot be read"),
        (("export", "--format", "xml"), 2, "yaml"),
    ],
)
def test_exit_codes_and_reasons(moongate: Line, words: tuple[str, ...], code: int, said: str) -> None:
    """1: refused, not found, not reachable; 2: the question is wrong. The reason says what is allowed."""
    found = moongate(*words, stdin="correct horse battery")

    assert (found.code, found.out) == (code, "")
    assert said in found.err, found.err
    assert "the-secret-alone" not in found.err
