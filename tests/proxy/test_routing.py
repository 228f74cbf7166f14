"""Listeners by hostname, routes by path: which one a request gets."""

from __future__ import annotations

import json
import socket

import pytest

from moongate.testing import Backend, gateway
from tests.proxy.talk import call, connected, log_lines, polite, run

LISTENERS = {
    "exact": "api.moon.example",
    "wild": "*.moon.example",
    "longer": "*.eu.moon.example",
}


def document(url: str, port: int, *, fallback: bool) -> str:
    """Each listener's route leads to a path of its own name."""
    listeners: list[dict[str, object]] = [
        {"name": name, "hostname": hostname, "routes": [route(name, "/mcp", url)]}
        for name, hostname in LISTENERS.items()
    ]
    if fallback:
        listeners.append({"name": "none", "routes": [route("none", "/mcp", url)]})
    return json.dumps({"binds": [{"port": port, "listeners": listeners}]})


def route(name: str, path: str, url: str, *, kind: str = "pathPrefix") -> dict[str, object]:
    """A route to `url`/name."""
    target = {"name": name, "mcp": {"host": f"{url}/{name}"}}
    return {"name": name, "matches": [{"path": {kind: path}}], "backends": [{"mcp": {"targets": [target]}}]}


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


HOSTS = {
    "api.moon.example": "exact",
    "API.Moon.Example:9999": "exact",
    "api.moon.example.": "exact",
    "x.moon.example": "wild",
    "x.y.moon.example:1": "wild",
    "eu.moon.example": "wild",
    "x.eu.moon.example": "longer",
    "a.b.eu.moon.example": "longer",
    "moon.example": None,
    "xmoon.example": None,
    "api.moon.example.evil": None,
    "127.0.0.1": None,
    "localhost": None,
}


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.requirement("AG-03", "AG-42")
def test_the_listener_is_chosen_by_hostname(fallback: bool) -> None:
    """Exact, then longest wildcard, then none; the port in Host is ignored; no match is 404, and the log says why."""

    async def story() -> None:
        with log_lines() as log:
            port = free_port()
            async with (
                Backend(polite) as backend,
                gateway(document(backend.url, port, fallback=fallback), port=None) as gate,
                connected(gate) as client,
            ):
                for host, name in HOSTS.items():
                    answer = await client.ask(call(), path="/mcp", host=host)
                    if name is not None:
                        assert (answer.status, backend.seen[-1].target) == (200, f"/mcp/{name}"), host
                    elif not fallback:
                        assert answer.failure == (404, "not_found"), host
                    elif host in {"127.0.0.1", "localhost"}:
                        assert (answer.status, backend.seen[-1].target) == (200, "/mcp/none")
                    else:
                        assert answer.failure == (403, "denied"), host
        assert "xmoon.example" in log.getvalue()
        assert ("hostname" if not fallback else "gateway.hosts") in log.getvalue()

    run(story())


PATHS = {
    "/mcp/prometheus": "short",
    "/mcp/prometheus/": "short",
    "/mcp/prometheus/mcp": "short",
    "/mcp/prometheus2": None,
    "/mcp/prometheu": None,
    "/mcp/prometheus-x": None,
    "/mcp/prometheus/exact": "exact",
    "/mcp/prometheus/exact/": None,
    "/mcp/prometheus/deep": "long",
    "/mcp/prometheus/deep/v1/stream": "long",
    "/mcp/prometheus/deeper": None,
    "/mcp/prometheus//deep": None,
    "/MCP/prometheus": None,
    "/mcp/%70rometheus": None,
    "/mcp/prometheus/../prometheus": None,
    "/other/42": "regex",
    "/other/42x": None,
    "/x/other/42": None,
    "/": None,
}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.requirement("AG-04")
def test_routes_are_told_apart_by_path(order: int) -> None:
    """Segment borders; exact before prefix, longer before shorter, whatever the order in the file."""

    async def story() -> None:
        port = free_port()
        async with Backend(polite) as backend:
            routes = [
                route("short", "/mcp/prometheus", backend.url),
                route("long", "/mcp/prometheus/deep", backend.url),
                route("exact", "/mcp/prometheus/exact", backend.url, kind="exact"),
                route("shadow", "/mcp/prometheus/exact", backend.url),
                route("regex", "/other/[0-9]+", backend.url, kind="regex"),
            ][::order]
            text = json.dumps({"binds": [{"port": port, "listeners": [{"routes": routes}]}]})
            async with gateway(text, port=None) as gate, connected(gate) as client:
                for path, name in {**PATHS, "/mcp/prometheus/exact/": "shadow"}.items():
                    answer = await client.ask(call(), path=path)
                    if name is None:
                        assert answer.failure == (404, "not_found"), path
                    else:
                        assert (answer.status, backend.seen[-1].target) == (200, f"/mcp/{name}"), path

    run(story())


@pytest.mark.requirement("AG-04", "AG-20")
def test_method_header_and_query_matches() -> None:
    """All parts must hold; the more specific wins; else the next route, else 404."""

    async def story() -> None:
        port = free_port()
        async with Backend(polite) as backend:
            routes = [route(name, "/m", backend.url) for name in ("plain", "header", "query", "method")]
            matches: list[dict[str, object]] = [
                {"path": {"pathPrefix": "/m"}, "method": "POST"},
                {
                    "path": {"pathPrefix": "/m"},
                    "method": "POST",
                    "headers": [{"name": "X-Tide", "value": {"exact": "high"}}],
                },
                {
                    "path": {"pathPrefix": "/m"},
                    "method": "POST",
                    "query": [{"name": "v", "value": {"regex": "[0-9]+"}}],
                },
                {"path": {"pathPrefix": "/m"}, "method": "DELETE"},
            ]
            for one, match in zip(routes, matches, strict=True):
                one["matches"] = [match]
            text = json.dumps({"binds": [{"port": port, "listeners": [{"routes": routes}]}]})
            async with gateway(text, port=None) as gate, connected(gate) as client:
                for path, headers, method, name in (
                    ("/m", {}, "POST", "plain"),
                    ("/m", {"x-tide": "high"}, "POST", "header"),
                    ("/m", {"x-tide": "higher"}, "POST", "plain"),
                    ("/m?v=12", {}, "POST", "query"),
                    ("/m?v=12x", {}, "POST", "plain"),
                    ("/m?v=1", {"x-tide": "high"}, "POST", "header"),
                    ("/m", {}, "DELETE", "method"),
                    ("/m", {}, "GET", None),
                ):
                    answer = await client.ask(call() if method == "POST" else None, headers, method=method, path=path)
                    if name is None:
                        assert answer.status == 404
                    else:
                        assert (answer.status, backend.seen[-1].target) == (200, f"/mcp/{name}"), (path, headers)

    run(story())
