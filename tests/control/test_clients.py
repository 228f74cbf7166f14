"""What the users of an instance copy into their clients."""

from __future__ import annotations

import json
import shlex
import tomllib

import pytest

from moongate.control.clients import CLIENTS, TOKEN_VARIABLE, Door, snippet, snippets

BASE = "https://gate.example/team/mcp/time"
TOKEN = "mg_" + "a1" * 18
OPEN = Door("time", f"{BASE}/v1/stream", f"{BASE}/events")
GUARDED = Door("time", f"{BASE}/v1/stream", f"{BASE}/events", token_needed=True)
FRESH = Door("time", f"{BASE}/v1/stream", f"{BASE}/events", token_needed=True, token=TOKEN)


def test_every_client_gets_the_gateways_address() -> None:
    """Each snippet holds it, says where it goes, and has a form that its client can parse."""
    assert [one.client for one in snippets(OPEN)] == list(CLIENTS)
    for one in snippets(OPEN):
        assert OPEN.streamable_http in one.text, one.client
        assert one.title
        assert one.place
        assert TOKEN_VARIABLE not in one.text, one.client
        if one.language == "json":
            json.loads(one.text)
        elif one.language == "toml":
            tomllib.loads(one.text)
        else:
            shlex.split(one.text.replace("\\\n", " "))


def test_a_tokens_place_is_held_by_a_variable() -> None:
    """In the spelling of each client; VS Code asks for it instead."""
    texts = {client: snippet(client, GUARDED).text for client in CLIENTS}

    assert f'"Authorization: Bearer ${TOKEN_VARIABLE}"' in texts["claude-code"]
    assert json.loads(texts["cursor"])["mcpServers"]["time"]["headers"] == {
        "Authorization": f"Bearer ${{env:{TOKEN_VARIABLE}}}"
    }
    assert tomllib.loads(texts["codex"])["mcp_servers"]["time"]["bearer_token_env_var"] == TOKEN_VARIABLE
    assert json.loads(texts["vscode"])["inputs"][0]["password"] is True
    assert f"${{{TOKEN_VARIABLE}}}" in texts["mcpServers"]
    desktop = json.loads(texts["claude-desktop"])["mcpServers"]["time"]
    assert desktop["command"] == "moongate"
    assert desktop["args"] == [
        "connect",
        GUARDED.streamable_http,
        "--header",
        f"Authorization: Bearer ${{{TOKEN_VARIABLE}}}",
    ]


def test_a_token_is_written_out_only_when_it_is_given() -> None:
    """At the moment it is made; also then not into VS Code's file, which is often shared."""
    for client in CLIENTS:
        assert TOKEN not in snippet(client, GUARDED).text
        assert (TOKEN in snippet(client, FRESH).text) == (client != "vscode"), client
    assert TOKEN not in repr(FRESH)
    assert TOKEN not in repr(snippet("codex", FRESH))


@pytest.mark.parametrize("name", ["a.b", "über", "-", "a b"])
def test_names_are_such_that_all_clients_take_them(name: str) -> None:
    """Some refuse dots; no name can bring shell or TOML along."""
    door = Door(name, f"{BASE}/v1/stream", f"{BASE}/events")

    assert door.local_name.replace("-", "a").isalnum()
    assert door.local_name.isascii()
    assert tomllib.loads(snippet("codex", door).text)["mcp_servers"].keys() == {door.local_name}


def test_what_stands_in_a_shell_is_quoted() -> None:
    """An address or a token cannot run anything."""
    door = Door("a", "http://x/$(touch y)';&", "http://x/", token="t'$(x)`")
    words = shlex.split(snippet("claude-code", door).text.replace("\\\n", " "))

    assert words[6:] == [door.streamable_http, "--header", f"Authorization: Bearer {door.token}"]


def test_an_unknown_client_is_a_key_error() -> None:
    """The caller says which ones there are."""
    with pytest.raises(KeyError):
        snippet("emacs", OPEN)


def test_the_plain_form_is_the_rest_apis() -> None:
    """Every member is there under its name."""
    plain = snippet("codex", GUARDED).plain()

    assert plain.keys() == {"client", "title", "place", "language", "text", "notes"}
    assert json.loads(json.dumps(plain)) == plain
