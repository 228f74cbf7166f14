"""agentgateway: `binds`, each target of which becomes an instance of its own at the gateway's own address.

A file that is to stay as it is needs no import: `moongate serve -f` reads this dialect. Importing moves its servers
into the store; ports, host names and paths do not go along.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moongate.control.imports.found import Imported
from moongate.control.imports.references import bare
from moongate.control.nodes import Loc, Mapping, find, plain, shown

_POLICIES = frozenset({"cors", "csrf", "requestHeaderModifier", "responseHeaderModifier", "localRateLimit"})
_TIMES = frozenset({"requestTimeout", "backendRequestTimeout"})
_ADVICE = {
    "mcpAuthorization": "write access rules for the instance",
    "authorization": "write access rules for the instance",
    "mcpAuthentication": "callers need tokens of the gateway: moongate token create",
    "jwtAuth": "callers need tokens of the gateway: moongate token create",
    "apiKey": "callers need tokens of the gateway: moongate token create",
    "basicAuth": "callers need tokens of the gateway: moongate token create",
    "backendAuth": "give the credential as a header: moongate instance edit NAME --header",
    "backendTLS": "give an authority of your own under tls.ca",
    "urlRewrite": "write the server's own path into its url",
}
_TARGET = frozenset({"name", "mcp", "sse", "stdio", "headers", "timeout", "sseReadTimeout", "tls"})
_HOSTED = frozenset(
    {"args", "env", "cwd", "isolation", "clearEnv", "startTime", "idleTime", "maxProcesses", "processLimits"}
)


def read_binds(root: Mapping, imported: Imported) -> None:
    """Every target of every route."""
    for key, entry in root.entries.items():
        if key not in {"binds", "$schema"} and plain(entry.node) not in (None, {}):
            imported.lose(
                str(entry.place), "", f"{shown(key, quote=False)} is of the whole gateway; it is not taken over"
            )
    for bind_loc, bind in _items(root, ("binds",)):
        for listener_loc, listener in _items(root, (*bind_loc, "listeners")):
            where = str(find(root, listener_loc).place)
            outer = {"port": bind.get("port"), "hostname": listener.get("hostname"), "tls": listener.get("tls")}
            told = ", ".join(f"{name} {value}" for name, value in outer.items() if isinstance(value, int | str))
            imported.note(where, "", f"{told or 'the listener'}: its instances are served at the gateway's own address")
            for key in sorted({"policies", "tcpRoutes", "tls"} & listener.keys()):
                imported.lose(where, "", f"{key} of a listener is not taken over")
            for route_loc, route in _items(root, (*listener_loc, "routes")):
                _route(root, route_loc, route, imported)


def _route(root: Mapping, loc: Loc, route: dict[str, Any], imported: Imported) -> None:
    where = str(find(root, loc).place)
    name = shown(str(route.get("name") or ""), quote=False)
    policies = _policies(root, loc, route, imported)
    if route.get("matches"):
        imported.lose(where, name, "matches: instances are told apart by their address, <prefix>/<name>")
    if route.get("hostnames"):
        imported.lose(where, name, "hostnames: instances answer under the gateway's own name")
    if not route.get("backends"):
        imported.lose(where, name, "a route without backends is no server; it is left out")
    for backend_loc, backend in _items(root, (*loc, "backends")):
        place = str(find(root, backend_loc).place)
        for key in sorted(backend.keys() - {"mcp", "weight"}):
            imported.lose(
                place, name, f"a backend of the kind {shown(key, quote=False)} is no MCP server; it is left out"
            )
        mcp = backend.get("mcp")
        if not isinstance(mcp, dict):
            continue
        for key in sorted(mcp.keys() - {"targets"}):
            imported.lose(
                place, name, f"mcp.{shown(key, quote=False)} is left out: each target is an instance of its own"
            )
        targets = list(_items(root, (*backend_loc, "mcp", "targets")))
        if len(targets) > 1:
            imported.note(
                place, name, f"its {len(targets)} targets were one server; they are instances of their own now"
            )
        for target_loc, target in targets:
            _target(str(find(root, target_loc).place), route, target, policies, imported, alone=len(targets) == 1)


def _policies(root: Mapping, loc: Loc, route: dict[str, Any], imported: Imported) -> dict[str, Any]:
    written = route.get("policies")
    if not isinstance(written, dict):
        return {}
    name = shown(str(route.get("name") or ""), quote=False)
    kept: dict[str, Any] = {}
    for key, value in written.items():
        if key in _POLICIES or key in {"auth", "access", "keepAlive", "forwardHeaders"}:
            kept[key] = value
        elif key == "timeout" and isinstance(value, dict) and value.keys() <= _TIMES:
            kept.update(value)
        else:
            place = str(find(root, (*loc, "policies", key)).place)
            advice = _ADVICE.get(key, "there is nothing like it")
            imported.lose(place, name, f"the policy {shown(key, quote=False)} is not taken over; {advice}")
    return kept


def _target(
    where: str,
    route: dict[str, Any],
    target: dict[str, Any],
    policies: dict[str, Any],
    imported: Imported,
    *,
    alone: bool,
) -> None:
    written = str(target.get("name") or route.get("name") or "server")
    name = shown(str(route.get("name") or written) if alone else written, quote=False)
    config: dict[str, Any] = {
        key: target[key] for key in ("headers", "timeout", "sseReadTimeout", "tls") if key in target
    }
    for key in sorted(target.keys() - _TARGET):
        text = (
            "turns an OpenAPI description into tools, which is not there" if key == "openapi" else "is not taken over"
        )
        imported.lose(where, name, f"{shown(key, quote=False)} {text}")
    stdio = target.get("stdio")
    if isinstance(stdio, dict) and stdio.get("cmd"):
        config["command"] = stdio["cmd"]
        config.update({key: stdio[key] for key in stdio if key in _HOSTED})
        for key in sorted(stdio.keys() - _HOSTED - {"cmd"}):
            imported.lose(where, name, f"stdio.{shown(key, quote=False)} means nothing here")
    else:
        kind = next((key for key in ("mcp", "sse") if isinstance(target.get(key), dict)), None)
        url = None if kind is None else _url(target[kind])
        if url is None and "openapi" in target:
            return
        if url is None:
            imported.lose(where, name, "has no address and no command that could be taken over; it is left out")
            return
        config["url"] = url
        config["type"] = "sse" if kind == "sse" else "streamable-http"
    imported.add(str(route.get("name") or written) if alone else written, bare({**config, **policies}), where)


def _url(host: dict[str, Any]) -> str | None:
    name, port, path = host.get("host"), host.get("port"), host.get("path") or "/"
    if not isinstance(name, str):
        return None
    if "://" in name:
        return name
    scheme = "https" if port == 443 else "http"
    bracketed = f"[{name}]" if ":" in name and not name.startswith("[") else name
    return f"{scheme}://{bracketed}" + (f":{port}" if port else "") + str(path)


def _items(root: Mapping, loc: Loc) -> Iterator[tuple[Loc, dict[str, Any]]]:
    """The blocks of a list, with their paths."""
    node = find(root, loc).node
    items = plain(node) if node is not None else None
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield (*loc, index), item
