"""What the API keeps back, whoever asks: secrets of files, paths of addresses; and what it does not take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import load_texts
from moongate.control.platform.masks import mask, masked
from moongate.reporting import around
from tests.console.conftest import Api
from tests.console.test_resources import within
from tests.platform.stage import PASSWORD

HALF = "\\ud800"
RANDOM = "abcd1234efgh" + "5678ijkl"
VARIABLES = {
    "TENANT": "tenantpw9",
    "ODD": "hunter2 pw/ä?",
    "BASE": "https://Host.example:443/part-of-it/",
    "KEY": "key-" + "k" * 8,
    "PORT": "9",
    "CODE": "code",
}


def shown(entry: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the platform process is told of a file's instance: as it may be shown, and with all values."""
    text = json.dumps({"mcpServers": {"filed": entry}})
    snapshot = compile_documents(load_texts([("gate.json", text)], VARIABLES), CompileOptions())
    (found,) = around(snapshot, {})["instances"]
    return masked(found["config"]), found["entry"]


@pytest.mark.parametrize(
    ("entry", "key", "expected"),
    [
        (
            {"url": "http://127.0.0.1:${PORT}/${TENANT}/mcp?tenant=${TENANT}"},
            "url",
            "http://127.0.0.1:9/${TENANT}/mcp?tenant=${TENANT}",
        ),
        (
            {"url": "http://127.0.0.1:9/?${CODE}=abcdef&page=2"},
            "url",
            f"http://127.0.0.1:9/?${{CODE}}={mask('abcdef')}&page=2",
        ),
        ({"url": "${BASE}mcp"}, "url", "https://${BASE}/${BASE}/mcp"),
        ({"url": "http://127.0.0.1:9/", "headers": {"X-Key": "${KEY}"}}, "headers", {"X-Key": "${KEY}"}),
        (
            {"url": "http://127.0.0.1:9/", "headers": {"X-Key": "a ${KEY}!", "Authorization": "Bearer ${KEY}"}},
            "headers",
            {"X-Key": mask("a ${KEY}!"), "Authorization": "Bearer ${KEY}"},
        ),
        (
            {"command": "sh", "args": ["-c", "run ${ODD} now", "--token", "${TENANT}"], "env": {"A": "${ODD}"}},
            "args",
            ["-c", "run ${ODD} now", "--token", "${TENANT}"],
        ),
        ({"command": "sh", "args": ["${TENANT}"], "env": {"A": "${ODD}"}, "cwd": "/${TENANT}"}, "cwd", "/${TENANT}"),
    ],
)
@pytest.mark.requirement("PM-57")
def test_a_file_is_shown_as_it_is_written(entry: dict[str, Any], key: str, expected: object) -> None:
    """With the names of its variables in place of what they hold, wherever in the entry; a test gets the values."""
    config, values = shown(entry)
    assert config[key] == expected
    assert "${" not in json.dumps(values)
    for value in ("tenantpw9", "hunter2", "art-of-it", VARIABLES["KEY"]):
        assert value not in json.dumps(config)


def test_a_known_secret_is_hidden_wherever_it_stands() -> None:
    """What a file calls a secret in one place is none the less one in another."""
    secret = "pa55" + "word"
    url = f"http://127.0.0.1:9/{secret}/x?api_key={secret}&page={secret}"
    config, _ = shown({"url": url, "headers": {"X-Key": secret}})
    assert secret not in json.dumps(config)
    assert config["headers"] == {"X-Key": mask(secret)}
    assert config["url"].startswith(f"http://127.0.0.1:9/{mask(secret)}/x?api_key=[secret ")


@pytest.mark.requirement("PM-57")
def test_an_explanation_shows_where_a_server_is_and_no_more(api: Api) -> None:
    """Who may read may ask; paths can be secrets, in an address as in its rewriting."""
    rewritten = {"url": "http://127.0.0.1:9/x", "auth": "off", "urlRewrite": {"path": {"full": f"/{RANDOM}/z"}}}
    configs = {
        "explained-path": {"url": f"http://user:{RANDOM}@127.0.0.1:9/a,b/{RANDOM}/mcp?key={RANDOM}", "auth": "off"},
        "explained-rewrite": rewritten,
        "explained-name": {**rewritten, "urlRewrite": {"authority": {"full": "other.example"}}},
    }
    with api.client("admin") as admin, api.client("auditor") as auditor:
        for name, config in configs.items():
            assert admin.post("/api/v1/instances", json={"name": name, "config": config}).status_code == 201
        message = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
        for name in configs:
            assert RANDOM not in auditor.get(f"/api/v1/instances/{name}").text
            within(5, lambda: auditor.get(f"/api/v1/instances/{name}/state").json()["inForce"])  # noqa: B023 - called at once
            answer = auditor.post("/api/v1/explain", json={"url": f"/mcp/{name}", "message": message})
            assert RANDOM not in answer.text
            last = answer.json()["steps"][-1]["reason"]
            called = ", called other.example" if name == "explained-name" else ""
            assert last == f"{name} at http://127.0.0.1:9{called}"
        for name in configs:
            admin.delete(f"/api/v1/instances/{name}")


def test_testing_a_hosted_instance_is_for_admins(api: Api) -> None:
    """It runs the command."""
    hosted = {"name": "tested", "accessMode": "hosted", "config": {"command": "false"}}
    with api.client("admin") as admin, api.client("operator") as operator:
        assert admin.post("/api/v1/instances", json=hosted).status_code == 201
        refused = operator.post("/api/v1/instances/tested/test")
        assert (refused.status_code, "only an admin" in refused.json()["detail"]) == (403, True)
        assert operator.post("/api/v1/instances/filed/test").status_code == 200
        assert admin.post("/api/v1/instances/tested/test").json()["fine"] is False
        assert admin.delete("/api/v1/instances/tested").status_code == 204


def test_files_of_the_machine_are_for_admins(api: Api) -> None:
    """An operator learns nothing about them, and cannot make one a condition of every later change."""
    with api.client("admin") as admin, api.client("operator") as operator:
        for file in ("/etc/hostname", "/no/such/file"):
            new = {"name": "filing", "config": {"url": "https://127.0.0.1:9/", "tls": {"ca": file}}}
            for path in ("/api/v1/instances", "/api/v1/instances/test"):
                answer = operator.post(path, json=new)
                assert (answer.status_code, file in answer.text) == (403, False)
            refused = admin.post("/api/v1/instances", json=new)
            assert (refused.status_code, refused.json()["errors"][0]["where"]) == (422, "instance filing: tls.ca")


def test_a_name_of_a_file_is_taken(api: Api) -> None:
    """As one of the store is."""
    with api.client("operator") as client:
        answer = client.post("/api/v1/instances", json={"name": "filed", "config": {"url": "http://127.0.0.1:9/"}})
        assert (answer.status_code, "in a file" in answer.json()["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "/users", '{"name": "%s"}'),
        ("post", "/users", '{"name": "half", "groups": ["%s"]}'),
        ("post", "/users", '{"name": "half", "notes": "%s"}'),
        ("post", "/tokens", '{"user": "%s"}'),
        ("put", "/access", '{"access": {"rules": [{"allow": true, "users": ["%s"]}]}}'),
        ("post", "/instances", '{"name": "half", "tags": ["%s"], "config": {"url": "http://127.0.0.1:9/"}}'),
        ("post", "/instances", '{"name": "half", "config": {"url": "http://127.0.0.1:9/", "%s": 1}}'),
        ("post", "/instances/paste", '{"config": "%s"}'),
        ("post", "/instances/paste", '{"config": {"mcpServers": {"%s": {"url": "http://127.0.0.1:9/"}}}}'),
        ("post", "/import", '{"document": {"%s": 1}}'),
        ("post", "/operators", '{"name": "%s", "role": "admin", "password": "xxxxxxxxxxxxxxx"}'),
        ("post", "/operators", '{"name": "half", "role": "admin", "password": "xxxxxxxxxxxxxxx%s"}'),
        ("post", "/api-keys", '{"name": "%s", "role": "admin"}'),
        ("put", "/settings", '{"auditKeep": "%s"}'),
        ("post", "/explain", '{"url": "/mcp/filed", "headers": {"%s": "a"}}'),
        ("post", "/sign-in", '{"code": "%s"}'),
        ("post", "/sign-in", '{"name": "%s", "password": "x"}'),
    ],
)
def test_half_a_character_is_refused(api: Api, method: str, path: str, body: str) -> None:
    """JSON can spell a lone surrogate; no database and no answer can hold it."""
    with api.client("admin") as client:
        content = (body % HALF).encode()
        answer = client.request(method, f"/api/v1{path}", content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["status"]) == (422, 422)


def test_the_cookie_is_for_the_api_alone(api: Api) -> None:
    """And goes when one signs out."""
    with api.client(origin=api.base) as browser:
        answer = browser.post("/api/v1/sign-in", json={"name": "first", "password": PASSWORD})
        assert "Path=/api/v1;" in answer.headers["set-cookie"]
        assert browser.get("/api/v1/me").status_code == 200
        assert "Path=/api/v1;" in browser.post("/api/v1/sign-out").headers["set-cookie"]
        assert browser.get("/api/v1/me").status_code == 401


def test_nobody_signs_in_as_who_has_no_account(api: Api) -> None:
    """A one-time link makes no account whose name the history uses for others."""
    with api.client("admin") as client, api.client(origin=api.base) as browser:
        code = client.post("/api/v1/sign-in-codes", json={"role": "auditor"}).json()["code"]
        for name in ("local", "one-time code", "ci (key_1)"):
            body = {"code": code, "name": name, "password": PASSWORD}
            answer = browser.post("/api/v1/sign-in", json=body)
            assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, "name")
