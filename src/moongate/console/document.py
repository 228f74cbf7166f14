"""The OpenAPI document: what FastAPI knows of the routes, with the one shape of errors and the roles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from moongate.console.guard import Allowed
from moongate.console.problems import MEDIA, Problem

_METHODS = ("get", "post", "put", "patch", "delete")
_ALWAYS = {"400": "Cannot be read.", "403": "Not allowed.", "500": "The gateway's own failure.", "503": "Not now."}
_OF_GUARDED = {"401": "Nobody is signed in, and there is no API key."}
_OF_NAMED = {"404": "There is no such thing."}
_OF_QUESTIONS = {"422": "Cannot be used; `errors` says why."}
_OF_CHANGES = {
    "409": "Does not fit to what is there.",
    "412": "Somebody else changed it since.",
    "413": "Too large.",
    "429": "Too many wrong guesses.",
}


Routers = Sequence[tuple[str, APIRouter]]


def describe(app: FastAPI, routers: Routers) -> None:
    """Let the app give this document. `routers` with their prefixes are what it includes."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, routers)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # the way that FastAPI names for it


def methods_of(routers: Routers, path: str) -> list[str]:
    """What may be asked of an address."""
    found: set[str] = set()
    for prefix, router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and _is_at(route, prefix, path):
                found |= route.methods or set()
    return sorted(found)


def _is_at(route: APIRoute, prefix: str, path: str) -> bool:
    return path.startswith(prefix) and route.path_regex.match(path.removeprefix(prefix)) is not None


def _document(app: FastAPI, routers: Routers) -> dict[str, Any]:
    found = get_openapi(
        title="Moongate",
        version=version("moongate"),
        summary="The admin API of the gateway.",
        description="Errors are problem details (RFC 9457). Lists are `{items, next}`; `next` is the next `cursor`.",
        routes=app.routes,
    )
    schemas = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}))
    schemas["Problem"] = problem
    roles = dict(_roles(routers))
    for path, operations in found["paths"].items():
        for method in _METHODS:
            if method in operations:
                _complete(path, method, operations[method], roles.get((path, method), ()))
    return found


def _complete(path: str, method: str, operation: dict[str, Any], roles: tuple[str, ...]) -> None:
    operation["x-roles"] = list(roles)
    if not roles:
        operation.pop("security", None)
    responses = operation["responses"]
    responses.pop("422", None)
    wanted = dict(_ALWAYS)
    if roles or path == "/metrics":
        wanted |= _OF_GUARDED
    if "{" in path or path.endswith("/records"):
        wanted |= _OF_NAMED
    if "requestBody" in operation or operation.get("parameters"):
        wanted |= _OF_QUESTIONS
    if method != "get":
        wanted |= _OF_CHANGES
    if path.endswith("/sign-in"):
        wanted |= _OF_GUARDED
    for status, text in wanted.items():
        if status not in responses:
            content = {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            responses[status] = {"description": text, "content": content}


def _roles(routers: Routers) -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    for prefix, router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                for method in route.methods or ():
                    yield (prefix + route.path, method.lower()), _allowed(route.dependant)


def _allowed(dependant: Dependant) -> tuple[str, ...]:
    if isinstance(dependant.call, Allowed):
        return dependant.call.roles
    return next((roles for inner in dependant.dependencies if (roles := _allowed(inner))), ())
