"""What users give to verbs: secrets from the environment, files and prompts; JSON from files and standard input.

`${NAME}` is a variable of the caller's environment, `${file:PATH}` the content of a file, `${prompt}` what is typed
unseen; `$${` is a literal `${`. What was put in is never printed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import typer

from moongate.cli.flags import usage

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SPAN = re.compile(r"(\d+)(m|h|d|w)\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MAX_BYTES = 16 * 1024 * 1024


def put_in(text: str, environ: Mapping[str, str], option: str) -> str:
    """A value with its references replaced. Exits with 2 if one cannot be."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match[1]
        if name == "prompt":
            return str(typer.prompt(f"Value for {option}", hide_input=True, err=True))
        if name.startswith("file:"):
            return read_text(name[5:], option).strip()
        if not _NAME.match(name):
            usage("a reference is written ${NAME}, ${file:PATH} or ${prompt}; write $${ for a literal ${", option)
        if name not in environ:
            usage(f"${{{name}}}: this environment variable is not set", option)
        return environ[name]

    return _REFERENCE.sub(one, text)


def put_in_all(value: Any, environ: Mapping[str, str]) -> Any:  # noqa: ANN401 - JSON
    """The same at any depth, for variables alone: files must not be able to read other files or to ask."""
    if isinstance(value, dict):
        return {key: put_in_all(inner, environ) for key, inner in value.items()}
    if isinstance(value, list):
        return [put_in_all(inner, environ) for inner in value]
    if not isinstance(value, str):
        return value
    return _REFERENCE.sub(lambda match: "${" if match[1] is None else environ.get(match[1], match[0]), value)


def headers(lines: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Header lines such as `X-Key: ${KEY}`."""
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            # Not shown: it may be the value alone.
            usage("must be a name, a colon and a value, such as 'X-Key: ${KEY}'", "--header")
        found[name.strip()] = put_in(value.strip(), environ, "--header")
    return found


def variables(pairs: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Variables of a hosted server: `NAME=VALUE`, or `NAME` alone for the caller's own."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals and name not in environ:
            usage("must be NAME=VALUE, or the NAME of a variable that is set here", "--env")
        found[name] = put_in(value, environ, "--env") if equals else environ[name]
    return found


def read_text(place: str, option: str) -> str:
    """A file, or standard input for `-`. Exits with 2 if it cannot be read."""
    try:
        data = sys.stdin.buffer.read(MAX_BYTES + 1) if place == "-" else _head(Path(place))
        if len(data) > MAX_BYTES:
            usage(f"{place} is larger than {MAX_BYTES} bytes", option)
        return data.decode("utf-8-sig")
    except OSError as error:
        usage(f"{place} cannot be read: {error.strerror or error}", option)
    except UnicodeDecodeError:
        usage(f"{place} is not UTF-8 text", option)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def read_object(place: str, option: str) -> dict[str, Any]:
    """A JSON object from a file or standard input."""
    try:
        value = json.loads(read_text(place, option))
    except ValueError as error:
        usage(f"{place} is not JSON: {error}", option)
    if not isinstance(value, dict):
        usage(f"{place} must hold a JSON object", option)
    return value


def secret(place: str | None, label: str, option: str) -> str:
    """A secret from a file or standard input (`-`), otherwise typed unseen, twice."""
    if place is not None:
        return read_text(place, option).removesuffix("\n").removesuffix("\r")
    if not sys.stdin.isatty():
        usage("give a file, or - for standard input: there is no terminal to type it on", option)
    return str(typer.prompt(label, hide_input=True, confirmation_prompt=True, err=True))


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is lost; exits with 2 where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        usage("is needed where nobody can be asked", "--yes")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def moment(text: str | None) -> str | None:
    """A time as the API has it: RFC 3339, a date, or a span from now such as 90d, 12h. `never` is None."""
    if text is None or text == "never":
        return None
    span = _SPAN.match(text)
    if span is not None:
        return (datetime.now(UTC) + timedelta(**{_UNITS[span[2]]: int(span[1])})).isoformat(timespec="seconds")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        usage(f"{text!r} is not a time; write 2027-01-31, 2027-01-31T12:00:00Z, 90d, 12h or never", "--expires")
    return (found if found.tzinfo is not None else found.astimezone()).isoformat(timespec="seconds")
