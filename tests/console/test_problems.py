"""Errors have one shape, whoever makes them, and what is dangerous about browsers is refused."""

from __future__ import annotations

import socket

import httpx
import pytest

from tests.console.conftest import Api

PROBLEM = {"type", "title", "status", "detail", "errors"}


def _is_problem(answer: httpx.Response, status: int) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    body = answer.json()
    assert set(body) == PROBLEM
    assert body["status"] == status
    assert all(set(error) == {"where", "text"} and all(error.values()) for error in body["errors"])


def test_every_error_has_one_shape(api: Api) -> None:
    """Unknown address, method, body, query, name; too large; not signed in."""
    with api.client("admin") as client:
        _is_problem(client.get("/api/v1/nothing"), 404)
        _is_problem(client.get("/nothing"), 404)
        _is_problem(client.put("/api/v1/users"), 405)
        assert client.put("/api/v1/users").headers["allow"] == "GET, POST"
        _is_problem(client.get("/api/v1/users/nobody"), 404)
        _is_problem(client.get("/api/v1/users?limit=none"), 422)
        _is_problem(client.get("/api/v1/users?colour=red"), 422)
        _is_problem(client.get("/api/v1/users?cursor=never-given"), 422)
        _is_problem(client.get("/api/v1/audit/records?outcome=splendid"), 422)
        _is_problem(client.get("/api/v1/audit/records?since=yesterday"), 422)
        _is_problem(client.post("/api/v1/users", json={}), 422)
        _is_problem(client.post("/api/v1/users", json={"name": "a", "shoe": 42}), 422)
        _is_problem(client.post("/api/v1/users", content=b"{", headers={"content-type": "application/json"}), 400)
        _is_problem(client.post("/api/v1/users", json={"name": "a", "notes": "n" * 9_000_000}), 413)
        _is_problem(client.patch("/api/v1/access", json={}), 405)
        _is_problem(client.delete("/api/v1/instances/filed"), 409)
        _is_problem(client.post("/api/v1/instances", json={"name": "filed", "config": {"url": "http://h/"}}), 409)
        stale = client.put("/api/v1/settings", json={}, headers={"if-match": '"99"'})
        _is_problem(stale, 412)
        _is_problem(client.put("/api/v1/settings", json={}, headers={"if-match": "newest"}), 400)


def test_errors_say_where_and_what(api: Api) -> None:
    """In the words of the same judge as for files."""
    with api.client("admin") as client:
        config = {"url": "gopher://127.0.0.1", "timeout": -1}
        errors = client.post("/api/v1/instances", json={"name": "odd", "config": config}).json()["errors"]
    assert {error["where"].rpartition(".")[2].split(":")[-1].strip() for error in errors} >= {"url", "timeout"}
    assert any("http" in error["text"] for error in errors)


@pytest.mark.requirement("PM-04", "PM-05", "PM-11")
def test_proxy_instances_speak_two_protocols(api: Api) -> None:
    """Anything else is refused with their names; stdio with the advice to host it."""
    with api.client("admin") as client:

        def said(**config: object) -> str:
            answer = client.post("/api/v1/instances", json={"name": "odd", "config": config})
            assert answer.status_code == 422
            return " ".join(error["text"] for error in answer.json()["errors"])

        text = said(url="http://127.0.0.1/", type="websocket")
        assert "sse" in text
        assert "streamable-http" in text
        assert "hosted" in said(command="cat")
        assert "hosted" in said(url="http://127.0.0.1/", type="stdio")


def test_a_body_without_an_end_is_cut_off(api: Api) -> None:
    """Chunked, so that no length tells before."""
    host, port = api.base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as wire:
        head = f"POST /api/v1/users HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {api.keys['admin']}\r\n"
        wire.sendall(head.encode() + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            for _ in range(200):
                wire.sendall(piece)
        except OSError:
            pass  # it has hung up, as it should
        assert wire.recv(100).startswith(b"HTTP/1.1 413 ")


def test_other_sites_pages_are_refused(api: Api) -> None:
    """By Origin, by Sec-Fetch-Site, by Host (DNS rebinding); a session without any word of a browser is refused too."""
    with api.client("admin") as client:
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:1"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            _is_problem(client.post("/api/v1/users", json={"name": "eve"}, headers=headers), 403)
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "@127.0.0.1"):
            _is_problem(client.get("/api/v1/users", headers={"host": host}), 403)
        for host in ("localhost:1", "127.0.0.1", "[::1]:8001", "10.0.0.1"):
            assert client.get("/healthz", headers={"host": host}).status_code == 200
        assert client.get("/api/v1/users/eve").status_code == 404


def test_answers_are_dressed_for_browsers(api: Api) -> None:
    """No sniffing, no framing, no caching, no scripts, no foreign readers: answers and errors alike."""
    with api.client() as client:
        for path in ("/healthz", "/nothing", "/sign-in", "/api/v1/users", "/api/v1/openapi.json"):
            headers = client.get(path, headers={"origin": "https://evil.example"}).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            # With `no-referrer` browsers would send `Origin: null` with the forms of pages.
            assert headers["referrer-policy"] == ("same-origin" if path == "/sign-in" else "no-referrer")
            assert headers["cache-control"] == "no-store"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "server" not in headers
            assert not any(name.startswith("access-control-") for name in headers)


def test_no_pages_that_load_from_elsewhere(api: Api) -> None:
    """FastAPI's own pages would; the sign-in page does not."""
    with api.client() as client:
        for path in ("/docs", "/redoc", "/api/v1/docs"):
            assert client.get(path).status_code == 404
        page = client.get("/sign-in").text
    assert "http://" not in page
    assert "https://" not in page
