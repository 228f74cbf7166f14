"""Servers from the files of clients and of another gateway: what comes, what changes, what is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moongate.control.compile import compile_documents
from moongate.control.files import load_texts
from moongate.control.imports.found import Imported
from moongate.control.imports.read import read_import
from moongate.control.imports.references import names
from moongate.errors import ConfigError
from tests.architecture.rules import ROOT

CONFIGS = ROOT.parent / "shared" / "configs"

VSCODE = """{
  // servers of this folder
  "inputs": [{"type": "promptString", "id": "gh-token", "password": true}],
  "servers": {
    "git hub": {"type": "http", "url": "https://api.example/mcp//x",
                "headers": {"Authorization": "Bearer ${input:gh-token}"}},
    "fs": {"command": "npx", "args": ["-y", "server", "${workspaceFolder}"], "envFile": ".env", /* and */
           "env": {"KEY": "${env:A_KEY}"}},
  },
}
"""
CODEX = """model = "x"

[mcp_servers.docs]
url = "https://docs.example/mcp"
bearer_token_env_var = "DOCS_TOKEN"
http_headers = { "X-Team" = "${not a variable}" }
env_http_headers = { "X-Key" = "TEAM_KEY" }
tool_timeout_sec = 60
enabled_tools = ["a"]

[mcp_servers."local one"]
command = "npx"
args = ["-y", "thing"]
env_vars = ["KEY"]
enabled = false
startup_timeout_sec = 20
"""
BINDS = """binds:
- port: 3000
  listeners:
  - hostname: tools.example
    routes:
    - name: all
      matches: [{path: {pathPrefix: /x}}]
      policies:
        cors: {allowOrigins: ["https://app.example"]}
        mcpAuthorization: {rules: []}
        timeout: {requestTimeout: 5s}
      backends:
      - mcp:
          statefulMode: stateless
          targets:
          - {name: every, stdio: {cmd: npx, args: ["@mcp/everything"], env: {K: "$KEY"}}}
          - {name: remote, sse: {host: example.com, port: 443, path: /sse}}
          - {name: plain, mcp: {host: "http://127.0.0.1:9000/mcp"}}
          - {name: api, openapi: {schema: {file: x}}}
    - backends: [{ai: {}}]
"""


def servers(imported: Imported) -> dict[str, dict[str, Any]]:
    """The configurations by name."""
    return {server.name: server.config for server in imported.servers}


def lost(imported: Imported) -> list[str]:
    """What was not taken over: line and text."""
    return [f"{note.where.rpartition(':')[2]} {note.text}" for note in imported.notes if note.lost]


def can_be_used(imported: Imported) -> bool:
    """Whether the gateway's own judge takes all of it, given the variables that it names."""
    document = {"mcpServers": servers(imported)}
    environment = dict.fromkeys(names(document), "value")
    snapshot = compile_documents(load_texts([("imported.json", json.dumps(document))], environment))
    return bool(snapshot.binds)


def test_servers_of_vs_code() -> None:
    """`servers` with comments, spare commas, inputs and the editor's variables."""
    imported = read_import(VSCODE, "mcp.json")

    assert imported.kind == "VS Code"
    assert servers(imported) == {
        "git-hub": {
            "type": "streamable-http",
            "url": "https://api.example/mcp//x",
            "headers": {"Authorization": "Bearer ${GH_TOKEN}"},
        },
        "fs": {"command": "npx", "args": ["-y", "server", "$${workspaceFolder}"], "env": {"KEY": "${A_KEY}"}},
    }
    assert [server.where for server in imported.servers] == ["mcp.json:5", "mcp.json:7"]
    assert lost(imported) == [
        "7 envFile is not read; set the variables under env; it is left out",
        "7 ${workspaceFolder} is the editor's and means nothing here; write the path itself",
    ]
    assert names(servers(imported)) == ["GH_TOKEN", "A_KEY"]
    assert can_be_used(imported)


def test_servers_of_codex() -> None:
    """TOML: only what is named as a variable is one; times are seconds there; tools are filtered by the client."""
    imported = read_import(CODEX, "config.toml")

    assert imported.kind == "Codex"
    assert servers(imported) == {
        "docs": {
            "url": "https://docs.example/mcp",
            "headers": {
                "X-Team": "$${not a variable}",
                "X-Key": "${TEAM_KEY}",
                "Authorization": "Bearer ${DOCS_TOKEN}",
            },
            "timeout": 60_000,
        },
        "local-one": {"command": "npx", "args": ["-y", "thing"], "env": {"KEY": "${KEY}"}, "startTime": "20s"},
    }
    assert [(server.where, server.enabled) for server in imported.servers] == [
        ("config.toml:3", True),
        ("config.toml:11", False),
    ]
    assert len(lost(imported)) == 1
    assert "access rules" in lost(imported)[0]
    assert can_be_used(imported)


def test_targets_of_agentgateway() -> None:
    """Each target is an instance; everything that has no place at one is listed with its line."""
    imported = read_import(BINDS, "config.yaml")
    rest = {"cors": {"allowOrigins": ["https://app.example"]}, "requestTimeout": "5s"}

    assert imported.kind == "agentgateway"
    assert servers(imported) == {
        "every": {"command": "npx", "args": ["@mcp/everything"], "env": {"K": "${KEY}"}, **rest},
        "remote": {"url": "https://example.com:443/sse", "type": "sse", **rest},
        "plain": {"url": "http://127.0.0.1:9000/mcp", "type": "streamable-http", **rest},
    }
    assert lost(imported) == [
        "10 the policy mcpAuthorization is not taken over; write access rules for the instance",
        "6 matches: instances are told apart by their address, <prefix>/<name>",
        "13 mcp.statefulMode is left out: each target is an instance of its own",
        "19 openapi turns an OpenAPI description into tools, which is not there",
        "20 a backend of the kind ai is no MCP server; it is left out",
    ]
    assert can_be_used(imported)


@pytest.mark.requirement("PM-06")
def test_the_printed_configuration_comes_unchanged() -> None:
    """The file of the acceptance list, byte for byte: every key has its meaning, nothing is lost."""
    text = (CONFIGS / "proxy-mode-backend.json").read_text("utf-8")

    imported = read_import(text, "proxy-mode-backend.json")

    assert servers(imported) == json.loads(text)["mcpServers"]
    assert imported.notes == []


@pytest.mark.parametrize("name", ["article-stdio.yaml", "article-streamable.yaml"])
def test_configurations_from_an_article_come(name: str) -> None:
    """One server each; what is of the listener is noted."""
    imported = read_import((CONFIGS / name).read_text("utf-8"), name)

    assert len(imported.servers) == 1
    assert can_be_used(imported)


@pytest.mark.parametrize(
    ("entry", "config"),
    [
        ({"url": "http://a/mcp", "type": "http"}, {"url": "http://a/mcp", "type": "streamable-http"}),
        ({"url": "http://a/mcp", "transport": "streamableHttp"}, {"url": "http://a/mcp", "type": "streamable-http"}),
        ({"serverUrl": "http://a/sse", "type": "sse"}, {"url": "http://a/sse", "type": "sse"}),
        ({"httpUrl": "http://a/mcp"}, {"url": "http://a/mcp", "type": "streamable-http"}),
        ({"url": "http://a/mcp", "timeout": 5000}, {"url": "http://a/mcp", "timeout": 5000}),
        ({"command": "x", "type": "stdio", "disabled": True}, {"command": "x"}),
        ({"url": "http://a/mcp", "command": ""}, {"url": "http://a/mcp"}),
        ({"url": "http://a/${KEY}"}, {"url": "http://a/${KEY}"}),
        ({"url": "http://a/${userHome}", "auth": "off"}, {"url": "http://a/${HOME}", "auth": "off"}),
    ],
)
def test_spellings_of_clients_mean_the_same(entry: dict[str, Any], config: dict[str, Any]) -> None:
    """Clients write types and addresses in several ways."""
    imported = read_import(json.dumps({"mcpServers": {"a": entry}}), "mcp.json")

    assert servers(imported) == {"a": config}
    assert lost(imported) == []


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"url": "http://a/mcp", "timeout": 60}, "seconds"),
        ({"url": "http://a/mcp", "type": "carrier-pigeon"}, "not known"),
        ({"url": "http://a/mcp", "headersHelper": "./x"}, "headersHelper"),
        ({"url": "http://a/${KEY:-otherwise}"}, "KEY"),
        ({"url": "http://a/mcp", "newKey": 1}, "newKey"),
        ({"args": ["x"]}, "neither"),
        ("npx", "block"),
    ],
)
def test_what_is_lost_is_said(entry: object, word: str) -> None:
    """Nothing is dropped silently, and a default value is not repeated in the note."""
    imported = read_import(json.dumps({"mcpServers": {"a": entry}}), "mcp.json")

    assert any(word in text for text in lost(imported)), imported.notes
    assert "otherwise" not in str(imported.notes)


def test_names_that_are_taken_are_numbered() -> None:
    """Two names may become the same one; neither is lost. Projects of Claude Code are read too."""
    text = json.dumps(
        {
            "mcpServers": {"a b": {"url": "http://x"}, "a-b": {"url": "http://y"}},
            "projects": {"/p": {"mcpServers": {"a-b": {"url": "http://z"}}}, "/q": {}},
        }
    )

    assert list(servers(read_import(text, "claude.json"))) == ["a-b", "a-b-2", "a-b-3"]


def test_a_bare_block_of_servers_is_understood() -> None:
    """What people paste without `mcpServers` around it."""
    assert list(servers(read_import('{"a": {"command": "x"}}', "paste"))) == ["a"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "a.json"),
        ("[1]", "a.json"),
        ('{"a": 1}', "a.json"),
        ('{"a": ', "a.json"),
        ("a: [", "a.yaml"),
        ("[mcp_servers.x\n", "config.toml"),
        ("just words", "x"),
    ],
)
def test_what_is_no_configuration_is_refused(text: str, name: str) -> None:
    """With the file, and the line where there is one; never with what was in it."""
    with pytest.raises(ConfigError) as caught:
        read_import(text, name)

    assert caught.value.complaints[0].where.startswith(name)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
ANY = st.recursive(
    SCALARS | st.sampled_from(["${X}", "${env:Y}", "${input:z z}", "$V", "${", "npx", "http://a/mcp", "sse"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["host", "a", "b"]), inner, max_size=3),
    max_leaves=6,
)


def block(*keys: str, **known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any of these keys with anything, or what is `known` of them; sometimes something else altogether."""
    fields = {**dict.fromkeys(keys, ANY), **known}
    return st.fixed_dictionaries({}, optional=fields) | ANY


def several(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A list, or something else."""
    return st.lists(items, max_size=3) | ANY


ENTRY = block("url", "command", "args", "env", "headers", "type", "transport", "timeout", "disabled", "serverUrl", "x")
SERVERS = st.dictionaries(st.text(max_size=6), ENTRY, max_size=3) | ANY
HOST = block("host", "port", "path")
TARGET = block("name", "openapi", "timeout", mcp=HOST, sse=HOST, stdio=block("cmd", "args", "env", "x"))
BACKEND = block("ai", "weight", mcp=block("statefulMode", targets=several(TARGET)))
POLICIES = block("cors", "mcpAuthorization", timeout=block("requestTimeout", "x"))
ROUTE = block("name", "matches", "hostnames", policies=POLICIES, backends=several(BACKEND))
LISTENER = block("hostname", "tls", "policies", routes=several(ROUTE))
FILE = st.one_of(
    block("gateway", mcpServers=SERVERS),
    block("inputs", servers=SERVERS),
    block("projects", mcp=block(servers=SERVERS)),
    block(projects=st.dictionaries(st.text(max_size=3), block(mcpServers=SERVERS), max_size=2)),
    block("config", binds=several(block("port", listeners=several(LISTENER)))),
)
CODEX_ENTRY = block(
    *("url", "command", "args", "env", "cwd", "env_vars", "http_headers", "env_http_headers", "bearer_token_env_var"),
    *("enabled", "startup_timeout_sec", "startup_timeout_ms", "tool_timeout_sec", "enabled_tools", "x"),
)


@settings(max_examples=150, deadline=None)
@given(FILE, st.sampled_from(["a.json", "a.yaml", "a"]))
def test_any_document_is_read_or_refused(document: object, name: str) -> None:
    """Whatever stands where: no other failure than the one that has a place."""
    try:
        imported = read_import(json.dumps(document), name)
    except ConfigError:
        return

    assert all(isinstance(server.config.get("url", server.config.get("command")), str) for server in imported.servers)
    assert all("\n" not in note.text for note in imported.notes)
    names(json.loads(json.dumps(servers(imported))))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=6), CODEX_ENTRY, max_size=3))
def test_any_table_of_codex_is_read_or_refused(tables: dict[str, Any]) -> None:
    """The same for TOML, which is written here as far as JSON's values are TOML's."""
    lines = [f"[mcp_servers.{json.dumps(name)}]\n" + _toml(table) for name, table in tables.items()]
    try:
        imported = read_import("\n".join(["[mcp_servers]", *lines]), "config.toml")
    except ConfigError:
        return

    assert all(isinstance(server.config.get("url", server.config.get("command")), str) for server in imported.servers)
    json.dumps(servers(imported))


def _toml(table: object) -> str:
    if not isinstance(table, dict):
        return ""
    return "".join(f"{key} = {_inline(value)}\n" for key, value in table.items() if value is not None)


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(inner)}" for key, inner in value.items() if inner is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(inner) for inner in value if inner is not None) + "]"
    return json.dumps(value)
