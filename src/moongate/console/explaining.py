"""`/console/explain`: what became of a request that was recorded, and what would become of one that is described."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from pydantic import ValidationError

from moongate.audit.redact import Redactor
from moongate.console.forms import fields
from moongate.console.frame import EXPLAIN, page_router, sentence, show
from moongate.console.guard import Reader
from moongate.console.live import NoAnswer
from moongate.console.platform import Question, explained
from moongate.console.problems import RETRY_SECONDS, Refused, text_of
from moongate.console.recorded import Recorded, recorded
from moongate.console.services import Given, Services
from moongate.console.verdicts import Found, found
from moongate.control.platform.shapes import Actor
from moongate.errors import ConfigError

router = page_router()
METHODS = ("POST", "GET", "DELETE", "OPTIONS", "HEAD", "PUT", "PATCH")
MAX_HEADERS = 100
HERE = "127.0.0.1"
_TYPED = ("method", "url", "host", "origin", "source", "headers", "message")
_FIELDS = (*_TYPED, "token", "request")
# Where the gateway finds something wrong: the field of the form.
_PLACES = {"URL": "url", "METHOD": "method", "--host": "host", "--header": "headers", "--message": "message"}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110 section 5.6.2
_CREDENTIALS = re.compile(r"(?i)auth|cookie|token|secret|passw|key|credential|session")
_ONE_LINE = ("host", "origin", "source", "token", "url")
_NO_TEXT = "holds a character that cannot be seen"


@dataclass(frozen=True, slots=True)
class Form:
    """What the form shows: as it was typed, but never with a token. `withheld`: values of headers were taken out."""

    method: str = "POST"
    url: str = ""
    host: str = ""
    origin: str = ""
    source: str = HERE
    headers: str = ""
    message: str = ""
    withheld: bool = False


@dataclass(slots=True)
class _Page:
    """What one answer shows. `errors` by field, `wrong` above all fields."""

    form: Form = field(default_factory=Form)
    request_id: str = ""
    records: list[Recorded] = field(default_factory=list)
    found: Found | None = None
    errors: dict[str, str] = field(default_factory=dict)
    wrong: str = ""
    status: int = 200

    def show(self, actor: Actor) -> Response:
        """As HTML."""
        errors = {name: self.errors.get(name, "") for name in _FIELDS}
        page = show(
            "explain.html",
            actor,
            EXPLAIN,
            status=self.status,
            form=asdict(self.form),
            methods=METHODS if self.form.method in METHODS else (self.form.method, *METHODS),
            request_id=self.request_id,
            records=self.records,
            found=self.found,
            errors=errors,
            wrong=self.wrong,
        )
        if self.status == 503:
            page.headers["retry-after"] = str(RETRY_SECONDS)
        return page


@router.get(EXPLAIN)
async def explain_page(services: Given, actor: Reader, request: Request) -> Response:
    """The form; with `request` also what became of that one. Other fields begin with what the address says."""
    asked = request.query_params
    page = _Page(_form(asked), asked.get("request", "").strip())
    if page.request_id:
        try:
            page.records, again = await recorded(services, actor, page.request_id)
            page.form = _form(again)
        except Refused as refused:
            page.status = refused.status
            page.errors["request"] = sentence(f"{refused.detail}: compare it with X-Request-Id of the answer")
    return page.show(actor)


@router.post(EXPLAIN)
async def explain(services: Given, actor: Reader, request: Request) -> Response:
    """What would become of the request that the form describes. What was typed comes back, but for credentials."""
    sent = await fields(request)
    page = _Page(_form(sent))
    asked = _read(sent, page.errors)
    if asked is not None:
        await _ask(services, page, *asked)
    if page.found is None and page.status == 200:
        page.status, page.wrong = 422, "This cannot be explained; see below what is wrong."
    return page.show(actor)


async def _ask(services: Services, page: _Page, question: Question, headers: list[tuple[str, str]]) -> None:
    """What the gateway says; of a question with mistakes, only which others there are."""
    mistaken = bool(page.errors)
    if question.message is not None:
        _judge_json(question.message, page.errors)
    try:
        answer = await explained(services, question, headers)
    except ConfigError as error:
        _place(error, page)
    except NoAnswer as error:
        page.status, page.wrong = 503, sentence(f"the gateway cannot be asked now: {error}; try again")
    else:
        page.found = None if mistaken else found(answer)


def _place(error: ConfigError, page: _Page) -> None:
    """Each complaint at its field."""
    for complaint in error.complaints:
        place = _PLACES.get(complaint.where)
        if place is None:
            page.status, page.wrong = 422, sentence(f"{complaint.where}: {complaint.text}")
        else:
            page.errors.setdefault(place, sentence(complaint.text))


def _form(sent: Mapping[str, str]) -> Form:
    typed = {name: sent.get(name, "").strip() for name in _TYPED}
    lines = typed["headers"].split("\n")
    kept = [_without_credential(line) for line in lines]
    return Form(
        method=typed["method"].upper() or "POST",
        url=typed["url"],
        host=typed["host"],
        origin=typed["origin"],
        source=typed["source"] or HERE,
        headers="\n".join(kept),
        message=typed["message"],
        withheld=kept != lines,
    )


def _without_credential(line: str) -> str:
    """A header line as it may be shown again."""
    name, colon, value = line.partition(":")
    if not colon:
        return Redactor().clean(line)
    known = _CREDENTIALS.search(name) is not None or Redactor().clean(value) != value
    return f"{name}: " if known and value.strip() else line


def _read(sent: Mapping[str, str], errors: dict[str, str]) -> tuple[Question, list[tuple[str, str]]] | None:
    """The question and its headers, as far as they can be used; None if they leave nothing to ask."""
    values = {name: sent.get(name, "").strip() for name in _FIELDS}
    for name in _ONE_LINE:
        if not values[name].isprintable():
            errors[name] = sentence(_NO_TEXT)
    headers = _headers(values, errors)
    source = values["source"] or HERE
    try:
        ipaddress.ip_address(source)
    except ValueError:
        errors["source"] = "This is no IP address, such as 192.0.2.7 or 2001:db8::7."
    method = (values["method"] or "POST").upper()
    message = values["message"] or None
    if message is not None and method != "POST":
        errors["message"] = "Only a POST has a message."
    given: dict[str, Any] = {"method": method, "url": values["url"], "source": source, "message": message}
    try:
        question = Question(**given, host=values["host"] or None)
    except ValidationError as error:
        for each in error.errors():
            errors.setdefault(str(each["loc"][0]), sentence(_said(each)))
        return None
    return question, headers


def _said(error: Mapping[str, Any]) -> str:
    if error["loc"][0] == "method":
        return "an HTTP method is needed, such as POST"
    if error["loc"][0] == "url" and error["type"] == "string_too_short":
        return "an address is needed, such as /mcp/time"
    return text_of(error)


def _headers(values: Mapping[str, str], errors: dict[str, str]) -> list[tuple[str, str]]:
    found = []
    for number, line in enumerate(values["headers"].split("\n"), 1):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or _NAME.fullmatch(name.strip()) is None:
            errors["headers"] = f"Line {number} must be a name, a colon and a value, such as X-Team: blue."
        elif not value.strip().isprintable():
            errors["headers"] = f"Line {number} {_NO_TEXT}."
        else:
            found.append((name.strip(), value.strip()))
    if len(found) > MAX_HEADERS:
        errors["headers"] = f"There may be at most {MAX_HEADERS} of them."
        found.clear()
    if values["token"] and "token" not in errors:
        found.append(("Authorization", f"Bearer {values['token']}"))
    if values["origin"] and "origin" not in errors:
        found.append(("Origin", values["origin"]))
    return found


def _judge_json(message: str, errors: dict[str, str]) -> None:
    """What is wrong with it, by line and column; what the gateway makes of it is shown nevertheless."""
    try:
        json.loads(message)
    except json.JSONDecodeError as error:
        errors["message"] = f"This is not JSON: {error.msg.lower()}, in line {error.lineno}, column {error.colno}."
    except RecursionError:
        errors["message"] = "This is nested too deeply."
