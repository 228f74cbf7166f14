"""The one shape of errors: problem details (RFC 9457). Nothing of our own failures is shown."""

from __future__ import annotations

import http
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from moongate.console.live import NoAnswer
from moongate.control.platform import failures
from moongate.control.sealing import SealBroken
from moongate.errors import Complaint, ConfigError, MoongateError, StartError
from moongate.store.failing import StoreAway

MEDIA = "application/problem+json"
RETRY_SECONDS = 5
_TEXTS = {
    "missing": "is missing",
    "extra_forbidden": "is not a key that is known here",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
_STATUS: dict[type[MoongateError], int] = {
    failures.NotFound: 404,
    failures.Exists: 409,
    failures.ReadOnly: 409,
    failures.Needed: 409,
    failures.Forbidden: 403,
    SealBroken: 409,
    NoAnswer: 503,
    StoreAway: 503,
    StartError: 503,
}


class ProblemError(BaseModel):
    """One thing that was wrong: `where` it stands in what was sent."""

    where: str
    text: str


class Problem(BaseModel):
    """Why a request was not carried out (RFC 9457)."""

    model_config = ConfigDict(json_schema_extra={"description": "Why a request was not carried out (RFC 9457)."})

    type: str = "about:blank"
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    errors: list[ProblemError] = []


class Refused(Exception):
    """A request is not carried out."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def answer(
    status: int, detail: str, complaints: tuple[Complaint, ...] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """A problem as an answer."""
    body = Problem(
        title=http.HTTPStatus(status).phrase,
        status=status,
        detail=_whole(detail),
        errors=[ProblemError(where=_whole(complaint.where), text=_whole(complaint.text)) for complaint in complaints],
    )
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=MEDIA)


def _whole(text: str) -> str:
    """Half a character, which JSON can spell, cannot be sent back."""
    return text.encode("utf-8", "replace").decode()


def install(app: FastAPI, methods_of: Callable[[str], list[str]]) -> None:
    """Every failure of the app in this shape. `methods_of` says what an address takes."""

    @app.exception_handler(MoongateError)
    def moongate_error(request: Request, error: MoongateError) -> Response:
        return _known(request, error)

    @app.exception_handler(Refused)
    def refused(_: Request, error: Refused) -> Response:
        return answer(error.status, error.detail, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        return _invalid(error.errors())

    @app.exception_handler(UnicodeEncodeError)
    def halved(_: Request, __: UnicodeEncodeError) -> Response:
        return answer(422, "what was sent holds half a character (a lone surrogate), which is no text")

    @app.exception_handler(HTTPException)
    def http_exception(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            allowed = ", ".join(methods_of(request.url.path))
            return answer(405, f"this address takes {allowed}", headers={"allow": allowed})
        return answer(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(Exception)
    def failed(_: Request, __: Exception) -> Response:
        return answer(500, "an internal failure; the gateway's log says more")


def _known(request: Request, error: MoongateError) -> Response:
    match error:
        case ConfigError():
            return answer(422, "what was sent cannot be used; see errors", error.complaints)
        case failures.Stale():
            return answer(412 if "if-match" in request.headers else 409, str(error))
        case failures.TooMany():
            return answer(429, str(error), headers={"retry-after": str(max(1, round(error.retry_after)))})
        case StoreAway() | NoAnswer():
            return answer(503, str(error), headers={"retry-after": str(RETRY_SECONDS)})
        case _:
            status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
            return answer(status, str(error) if status < 500 else "an internal failure; the gateway's log says more")


def _invalid(errors: Any) -> Response:  # noqa: ANN401 - pydantic's own
    complaints = tuple(Complaint(_where(error["loc"]), text_of(error)) for error in errors)
    if any(error["type"] == "json_invalid" for error in errors):
        return answer(400, "the body is not JSON")
    return answer(422, "what was sent cannot be used; see errors", complaints)


def _where(loc: tuple[int | str, ...]) -> str:
    place, *rest = loc
    path = ".".join(map(str, rest))
    return path if place == "body" and path else f"{place} {path}".strip()


def text_of(error: Mapping[str, Any]) -> str:
    """What is wrong with an input, from what pydantic says of it."""
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "moongate":
        return str(context.get("text", "")).replace(", found {found}", "").replace("{found}", "it")
    if kind == "literal_error":
        return f"must be {context['expected']}".replace("'", "")
    return _TEXTS.get(kind) or str(error["msg"])
