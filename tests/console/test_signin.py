"""Getting in, staying in, and being kept out."""

from __future__ import annotations

import httpx

from tests.console.conftest import Api
from tests.platform.stage import PASSWORD


def _code(api: Api, role: str = "admin") -> str:
    with api.client("admin") as client:
        return str(client.post("/api/v1/sign-in-codes", json={"role": role}).json()["code"])


def test_a_link_works_once(api: Api) -> None:
    """It makes an account with the role of the link, and a session."""
    code = _code(api, "operator")
    body = {"code": code, "name": "second", "password": PASSWORD}
    with api.client(origin=api.base) as browser:
        answer = browser.post("/api/v1/sign-in", json=body)
        assert (answer.status_code, answer.json()) == (200, {"name": "second", "role": "operator", "how": "session"})
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Path=/" in cookie
        assert browser.get("/api/v1/me").json()["role"] == "operator"
        assert browser.post("/api/v1/sign-in", json={**body, "name": "third"}).status_code == 401
        assert browser.post("/api/v1/sign-out").status_code == 204
        assert browser.get("/api/v1/me").status_code == 401


def test_a_link_is_not_used_up_by_a_bad_password(api: Api) -> None:
    """Who mistypes can try again."""
    code = _code(api)
    with api.client(origin=api.base) as browser:
        short = browser.post("/api/v1/sign-in", json={"code": code, "name": "fourth", "password": "short"})
        assert short.status_code == 422
        assert "12" in short.json()["errors"][0]["text"]
        assert browser.post("/api/v1/sign-in", json={"code": code}).status_code == 200
        assert browser.get("/api/v1/me").json() == {"name": "one-time code", "role": "admin", "how": "session"}


def test_a_lost_password_is_replaced_by_an_admins_link(api: Api) -> None:
    """The account keeps its role; a link of a lesser role cannot take over an account."""
    lost, found = PASSWORD + "-lost", PASSWORD + "-found"
    with api.client("admin") as client:
        body = {"name": "forgetful", "role": "auditor", "password": lost}
        assert client.post("/api/v1/operators", json=body).status_code == 201
    with api.client(origin=api.base) as browser:
        taking = {"code": _code(api, "operator"), "name": "forgetful", "password": found}
        assert browser.post("/api/v1/sign-in", json=taking).status_code == 409
        answer = browser.post("/api/v1/sign-in", json={**taking, "code": _code(api)})
        assert answer.json() == {"name": "forgetful", "role": "auditor", "how": "session"}
        assert browser.post("/api/v1/sign-in", json={"name": "forgetful", "password": lost}).status_code == 401
        assert browser.post("/api/v1/sign-in", json={"name": "forgetful", "password": found}).status_code == 200


def test_a_password_is_changed_by_who_knows_it(api: Api) -> None:
    """Other sessions of the account end; this one goes on."""
    with api.client("admin") as client:
        body = {"name": "careful", "role": "auditor", "password": PASSWORD}
        assert client.post("/api/v1/operators", json=body).status_code == 201
    signing = {"name": "careful", "password": PASSWORD}
    with api.client(origin=api.base) as browser, api.client(origin=api.base) as other:
        assert browser.post("/api/v1/sign-in", json=signing).status_code == 200
        assert other.post("/api/v1/sign-in", json=signing).status_code == 200
        wrong = {"current": PASSWORD + "?", "password": PASSWORD + "-2"}
        assert browser.put("/api/v1/me/password", json=wrong).status_code == 403
        right = {**wrong, "current": PASSWORD}
        assert browser.put("/api/v1/me/password", json=right).status_code == 204
        assert (browser.get("/api/v1/me").status_code, other.get("/api/v1/me").status_code) == (200, 401)
        assert other.post("/api/v1/sign-in", json=signing).status_code == 401


def test_a_session_is_for_pages_of_this_port(api: Api) -> None:
    """Without Origin or Sec-Fetch-Site nothing is changed with it; over https its cookie is secure."""
    code = _code(api)
    host = api.base.removeprefix("http://")
    with api.client() as browser:
        answer = browser.post("/api/v1/sign-in", json={"code": code}, headers={"origin": f"https://{host}"})
        assert "Secure" in answer.headers["set-cookie"]
        cookie = answer.headers["set-cookie"].partition(";")[0]
        for headers, status in (({}, 403), ({"origin": api.base}, 201), ({"sec-fetch-site": "same-origin"}, 409)):
            made = browser.post("/api/v1/users", json={"name": "page"}, headers={"cookie": cookie, **headers})
            assert made.status_code == status
        assert browser.delete("/api/v1/users/page", headers={"cookie": cookie, "origin": api.base}).status_code == 204


def test_guessing_is_slowed_down(api: Api) -> None:
    """Wrong passwords for one name end in 429 with Retry-After, also for the right one."""
    with api.client("admin") as client:
        client.post("/api/v1/operators", json={"name": "guessed", "role": "auditor", "password": PASSWORD})
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")  # which is slowed down, too
    with httpx.Client(base_url=api.base, transport=elsewhere) as browser:
        statuses = []
        for number in range(30):
            answer = browser.post("/api/v1/sign-in", json={"name": "guessed", "password": f"wrong-guess-{number}"})
            statuses.append(answer.status_code)
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) > 0
                break
        assert statuses[-1] == 429
        assert set(statuses[:-1]) == {401}


def test_who_is_disabled_is_out_at_once(api: Api) -> None:
    """With the session that is open, too."""
    with api.client("admin") as client:
        code = client.post("/api/v1/sign-in-codes", json={"role": "auditor"}).json()["code"]
        with api.client(origin=api.base) as browser:
            body = {"code": code, "name": "leaving", "password": PASSWORD}
            assert browser.post("/api/v1/sign-in", json=body).status_code == 200
            assert browser.get("/api/v1/me").status_code == 200
            assert client.patch("/api/v1/operators/leaving", json={"enabled": False}).status_code == 200
            assert browser.get("/api/v1/me").status_code == 401


def test_a_disabled_or_expired_key_is_refused(api: Api) -> None:
    """At once."""
    with api.client("admin") as client:
        made = client.post("/api/v1/api-keys", json={"name": "brief", "role": "auditor"}).json()
        key = {"authorization": f"Bearer {made['value']}"}
        with api.client(**key) as holder:
            assert holder.get("/api/v1/me").json()["how"] == "key"
            client.patch(f"/api/v1/api-keys/{made['apiKey']['id']}", json={"enabled": False})
            assert holder.get("/api/v1/me").status_code == 401
        assert client.delete(f"/api/v1/api-keys/{made['apiKey']['id']}").status_code == 204
