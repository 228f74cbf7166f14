"""`moongate explain`: what becomes of a request, and what became of one that was recorded."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from moongate.audit.finding import find_records
from moongate.audit.meanings import MEANINGS
from moongate.cli.places import default_data_dir, default_files
from moongate.cli.serve import NO_FILE
from moongate.control.compile import CompileOptions
from moongate.control.source import Source
from moongate.errors import Complaint, ConfigError, FailureClass, StartError
from moongate.explaining import Asked, Explanation, Outcome, Step, explain

FINE, REFUSED, USAGE = 0, 1, 2
_METHOD = re.compile(r"[A-Z]{1,20}")
_STYLES = {
    Outcome.OK: "green",
    Outcome.FORWARDED: "bold green",
    Outcome.ANSWERED: "bold green",
    Outcome.NOT_GRANTED: "bold red",
    Outcome.REFUSED: "bold red",
    Outcome.NOT_REACHED: "dim",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What the command line says. `files` empty: one of DEFAULT_FILES. `message`: JSON, or @ and a file name."""

    method: str
    url: str
    files: tuple[Path, ...] = ()
    host: str | None = None
    origin: str | None = None
    token: str | None = None
    headers: tuple[str, ...] = ()
    source: str = "127.0.0.1"
    message: str | None = None
    port: int | None = None
    data_dir: Path | None = None


def explained(question: Question, *, as_json: bool = False) -> int:
    """Print each verdict in order (standard output); the exit code. What is wrong goes to standard error."""
    files = question.files or default_files()
    if not files:
        print(NO_FILE.partition("\n")[0].replace("serve", "explain") + ": give a file with -f", file=sys.stderr)
        return USAGE
    try:
        asked = _asked(question)
        snapshot = Source(files, CompileOptions(port=question.port), os.environ).read()
        data_dir = question.data_dir or default_data_dir(os.environ)
        explanation = explain(snapshot, asked, data_dir, os.environ)
    except (ConfigError, StartError) as error:
        print(error, file=sys.stderr)
        return USAGE
    if as_json:
        print(json.dumps(explanation.plain(), indent=2))
    else:
        _print(explanation)
    return FINE if explanation.fine else REFUSED


def _asked(question: Question) -> Asked:
    """Raises ConfigError."""
    method = question.method.upper()
    if _METHOD.fullmatch(method) is None:
        raise _wrong("METHOD", "must be an HTTP method, such as POST")
    headers = [_header(text) for text in question.headers]
    if question.token is not None:
        headers.append(("Authorization", f"Bearer {question.token}"))
    if question.origin is not None:
        headers.append(("Origin", question.origin))
    if question.message is not None and method != "POST":
        raise _wrong("--message", "only a POST has a message")
    if question.host is not None and not question.host.isprintable():
        raise _wrong("--host", "holds a control character")
    body = None if question.message is None else _body(question.message)
    return Asked(method, question.url, question.host, tuple(headers), question.source, body)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise _wrong("--header", "must be a name, a colon and a value, such as 'API-Key: ...'")
    return name.strip(), value.strip()


def _body(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise _wrong("--message", f"{text[1:]}: {error.strerror or error}") from None


def _wrong(where: str, text: str) -> ConfigError:
    return ConfigError((Complaint(where, text),))


# -- for people


def _print(explanation: Explanation) -> None:
    out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    preflight = explanation.preflight
    if preflight is not None:
        out.print("A browser asks first: ", style="bold", end="")
        _print_one(out, preflight)
        if not preflight.fine:
            out.print("\nThe browser does not send the request itself. Without a browser:\n", style="bold")
        else:
            out.print("\nThen it sends:", style="bold", end=" ")
    _print_one(out, explanation)


def _print_one(out: Console, explanation: Explanation) -> None:
    out.print(explanation.request)
    width = max(len(step.rule) for step in explanation.steps)
    for step in explanation.steps:
        _print_step(out, step, width)
    if explanation.lines:
        out.print("  the answer carries:", style="dim")
        for line in explanation.lines:
            out.print(f"    {line}", style="dim")
    out.print(_ending(explanation), style=_STYLES[explanation.outcome])


def _print_step(out: Console, step: Step, width: int) -> None:
    out.print(f"  {step.outcome.value:11}  ", style=_STYLES[step.outcome], end="")
    out.print(f"{step.rule:{width}}  ", style="bold", end="")
    out.print(step.reason, style="dim" if step.outcome is Outcome.NOT_REACHED else None)
    if step.setting:
        out.print(f"{' ' * (width + 17)}to change this, set {step.setting}")


def _ending(explanation: Explanation) -> str:
    if explanation.failure is not None:
        return f"refused: {explanation.status} {explanation.failure.value}"
    if explanation.outcome is Outcome.FORWARDED:
        return "goes on to the server"
    if explanation.outcome is Outcome.NOT_GRANTED:
        return f"answered with {explanation.status}, which does not grant what the page needs"
    return f"answered with {explanation.status}"


# -- what was recorded


def recorded(request_id: str, data_dir: Path | None, *, as_json: bool = False) -> int:
    """Print what the journal says about a request, in words; the exit code."""
    directory = (data_dir or default_data_dir(os.environ)) / "journal"
    try:
        found = find_records(directory, request_id)
    except (OSError, ValueError) as error:
        print(f"--request: {error}", file=sys.stderr)
        return USAGE
    if not found:
        text = f"{request_id} is not in {directory} (any more); the store may have it: moongate audit show {request_id}"
        print(text, file=sys.stderr)
        return USAGE
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print_records(found)
    return REFUSED if any(record.get("failure") for record in found) else FINE


def _print_records(records: list[dict[str, Any]]) -> None:
    out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for number, record in enumerate(records):
        if number:
            out.print()
        rows = _rows(record)
        width = max(len(name) for name, _ in rows)
        out.print(f"request {record['requestId']}", style="bold")
        for name, text in rows:
            out.print(f"  {name:{width}}  ", style="bold", end="")
            out.print(text)


def _rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and what there is to say, in the order of the story."""
    principal = record.get("principal", "anonymous")
    token = f", token in {record['tokenHeader']}" if record.get("tokenHeader") else ""
    rows = [
        ("when", time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(record.get("time", 0)))),
        ("from", f"{record.get('source')}, {principal}{token}"),
        ("asked", f"{record.get('httpMethod')} {record.get('path')}"),
        ("route", record.get("instance") or "none was found"),
        ("call", " ".join(filter(None, (record.get("method"), record.get("target"))))),
        ("client", record.get("client", "")),
        ("phase", record.get("phase", "")),
        ("status", f"{record.get('status')} after {record.get('duration', 0):g} ms"),
    ]
    if record.get("shadow"):
        rows.append(("on trial", record["shadow"]))
    failure = record.get("failure")
    if failure is None:
        rows.append(("ended", "well"))
        return [row for row in rows if row[1]]
    known = failure in set(FailureClass)
    rows.append(("class", failure + (f" (JSON-RPC code {record['code']})" if record.get("code") else "")))
    if known:
        rows.append(("meaning", MEANINGS[FailureClass(failure)].what))
    detail, separator, setting = str(record.get("detail", "")).partition("; to change this, set ")
    rows.append(("why", detail))
    rows.append(("change", f"set {setting}" if separator else MEANINGS[FailureClass(failure)].do if known else ""))
    return [row for row in rows if row[1]]
