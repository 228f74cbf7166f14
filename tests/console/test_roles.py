"""Every route refuses whoever has not the role for it; a new route cannot be forgotten."""

from __future__ import annotations

from tests.console.conftest import ROLES, Api

OPEN = {
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
    ("post", "/api/v1/sign-in"),
}
# What only admins may, whatever else is written here: the table of the design.
ADMINS = ("/operators", "/api-keys", "/sign-in-codes", "/export")
STREAMS = {"/api/v1/audit/tail"}


def _path(path: str) -> str:
    return path.replace("{name}", "no-such").replace("{id}", "no-such").replace("{requestId}", "0" * 20)


def test_only_what_must_be_open_is_open(api: Api) -> None:
    """Monitoring and signing in; everything else names roles."""
    assert {(method, path) for method, path, operation in api.operations() if not operation["x-roles"]} == OPEN


def test_nobody_gets_in_without_a_credential(api: Api) -> None:
    """No key, a wrong key, a wrong cookie: 401 at every route."""
    strangers: tuple[dict[str, str], ...] = (
        {},
        {"authorization": "Bearer mgk_" + "x" * 36},
        {"cookie": "moongate_session=" + "y" * 43, "origin": api.base},
    )
    for headers in strangers:
        with api.client(**headers) as client:
            for method, path, operation in api.operations():
                if operation["x-roles"]:
                    answer = client.request(method, _path(path), json={})
                    assert (method, path, answer.status_code) == (method, path, 401)
                    assert answer.json()["status"] == 401


def test_the_wrong_role_is_refused_everywhere(api: Api) -> None:
    """Each role is refused exactly where the document does not name it."""
    for role in ROLES:
        with api.client(role) as client:
            for method, path, operation in api.operations():
                roles = operation["x-roles"]
                if not roles or path in STREAMS or path.endswith("/sign-out"):
                    continue
                status = client.request(method, _path(path), json={}).status_code
                assert (role, method, path, status == 403) == (role, method, path, role not in roles)


def test_the_roles_are_those_of_the_design(api: Api) -> None:
    """An auditor writes nothing; operators, keys and settings are the admins'."""
    reading = {"/api/v1/explain", "/api/v1/sign-out", "/api/v1/me/password"}
    for method, path, operation in api.operations():
        roles = set(operation["x-roles"])
        if path.removeprefix("/api/v1").startswith(ADMINS) or (method, path) == ("put", "/api/v1/settings"):
            assert (path, roles) == (path, {"admin"})
        elif roles and method != "get" and path not in reading:
            assert (path, roles) == (path, {"admin", "operator"})


def test_hosted_instances_are_for_admins(api: Api) -> None:
    """They run commands: whoever writes or tests one, can do what the gateway's user can."""
    hosted = {"name": "shell", "accessMode": "hosted", "config": {"command": "cat"}}
    with api.client("operator") as client:
        assert client.post("/api/v1/instances", json=hosted).status_code == 403
        assert client.post("/api/v1/instances/test", json=hosted).status_code == 403
        pasted = {"config": {"mcpServers": {"shell": {"command": "cat"}}}}
        assert client.post("/api/v1/instances/paste", json=pasted).status_code == 403
    with api.client("admin") as client:
        assert client.post("/api/v1/instances", json=hosted).status_code == 201
    with api.client("operator") as client:
        disguised = {"accessMode": "proxy", "config": {"url": "http://127.0.0.1:9/"}}
        for method, body in (("put", disguised), ("patch", {"enabled": False}), ("patch", {"notes": "mine"})):
            assert client.request(method, "/api/v1/instances/shell", json=body).status_code == 403
        assert client.delete("/api/v1/instances/shell").status_code == 403
    with api.client("admin") as client:
        assert client.delete("/api/v1/instances/shell").status_code == 204


def test_others_do_not_see_the_history_of_accounts(api: Api) -> None:
    """Operators and keys are in the admins' history alone."""
    for role in ROLES:
        with api.client(role) as client:
            kinds = {item["kind"] for item in client.get("/api/v1/revisions?limit=1000").json()["items"]}
            assert ("api_keys" in kinds) == (role == "admin")
            named = client.get("/api/v1/revisions?kind=operators").json()["items"]
            assert bool(named) == (role == "admin")
