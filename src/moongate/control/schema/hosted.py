"""What both dialects say about a local server that the gateway runs and speaks to over stdio."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from moongate.control.schema.durations import parse_duration
from moongate.control.schema.values import Duration, Flag, Strict, bounded, integer, refusal
from moongate.model.snapshot import Command

OWN_VARIABLES = "MOONGATE_"
MAX_PROCESSES = 100_000
MIN_MEMORY, MAX_MEMORY = 1_000_000, 2**50
_DEFAULTS = Command("", ())
_UNITS = {
    "": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KIB": 1024,
    "MIB": 1024**2,
    "GIB": 1024**3,
}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?([KMG]I?B)", re.IGNORECASE)
_SIZE_FORMS = "a number of bytes from 1 MB on, such as 536870912, 512MB or 2GiB"


def _text(value: str) -> str:
    """What a process can be given: no NUL (execve), and text that has bytes."""
    if "\0" in value:
        raise refusal("cannot hold the character NUL")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise refusal("holds a character that is not text") from error
    return value


def _path(value: str) -> str:
    if value.startswith("~"):
        raise refusal("~ is not replaced; write the whole path, or ${HOME} instead of ~")
    return _text(value)


def _program(value: object) -> object:
    if isinstance(value, list):
        raise refusal("must be the program alone; its arguments go into args, found a list")
    if isinstance(value, str) and (not value or value != value.strip()):
        # Not shown: a whole command line may stand here.
        raise refusal("is empty, or has spaces at its ends; write the name or path of a program")
    return value


def _folder(value: str) -> str:
    if not value:
        raise refusal("is empty; write the folder to run in, or leave the key out")
    return _path(value)


def _variable(value: str) -> str:
    if not value or "=" in value:
        # Not shown: someone may have written NAME=value where a name belongs.
        raise refusal("this is not the name of a variable: it stands before the colon, and the value after it, no =")
    if value.startswith(OWN_VARIABLES):
        raise refusal(f"variables that begin with {OWN_VARIABLES} are the gateway's own; choose another name")
    return _text(value)


def parse_size(value: object) -> int:
    """Bytes: a number, or text with a unit. Raises a refusal."""
    number = integer(value)
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        number = math.floor(float(found[1]) * _UNITS[found[2].upper()])
    if not isinstance(number, int) or isinstance(number, bool) or not MIN_MEMORY <= number <= MAX_MEMORY:
        raise refusal(f"must be {_SIZE_FORMS}, found {{found}}")
    return number


def _whole_seconds(value: str) -> str:
    if parse_duration(value) < 1:
        raise refusal("must be at least 1s, found {found}")
    return value


Program = Annotated[
    str, BeforeValidator(_program), AfterValidator(_path), WithJsonSchema({"type": "string", "x-kind": "program"})
]
Argument = Annotated[str, AfterValidator(_text)]
VariableName = Annotated[str, AfterValidator(_variable), WithJsonSchema({"type": "string", "pattern": "^[^=]+$"})]
Folder = Annotated[str, AfterValidator(_folder), WithJsonSchema({"type": "string", "x-kind": "folder"})]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kind": "size"}),
]


class ProcessLimitsBlock(Strict):
    """What each process of a hosted server may use. Without a key: what the gateway itself may."""

    memory: Size | None = Field(
        None, description="Private memory: bytes, or with a unit (`512MB`, `2GiB`). A process that wants more fails."
    )
    open_files: Annotated[int, bounded(16, 2**20)] | None = Field(
        None, description="Files and connections that are open at once."
    )
    cpu_time: Annotated[Duration, AfterValidator(_whole_seconds)] | None = Field(
        None, description="Processor time, in whole seconds; a process that has used it up is ended."
    )


class Hosted(Strict):
    """How a local server is run."""

    args: list[Argument] | None = Field(
        None, description="With a command: its arguments. They reach it exactly as written, without a shell."
    )
    env: dict[VariableName, Argument] | None = Field(
        None,
        description="With a command: variables beside those it inherits: the gateway's own, but for `MOONGATE_*` and "
        "for those that a configuration names in `${...}`. Never shown again.",
    )
    clear_env: Flag = Field(default=False, description="With a command: `true` gives it the variables of `env` alone.")
    cwd: Folder | None = Field(
        None,
        description="With a command: the folder to run in. Relative to this file. Without it: the gateway's own.",
    )
    isolation: Literal["session", "principal", "shared"] = Field(
        "session",
        description="With a command: who shares a process. `session`: nobody, each client session has its own "
        "(clients without sessions: one for each caller). `principal`: the sessions of one caller. `shared`: all.",
    )
    start_time: Duration = Field(
        "60s",
        description="With a command: time from the start of a process to its answer to `initialize`. Leave room for "
        "what `npx`, `uvx` and `docker` fetch first.",
    )
    idle_time: Duration = Field("30m", description="With a command: how long a process that nobody uses is kept.")
    max_processes: Annotated[int, bounded(1, MAX_PROCESSES)] = Field(
        _DEFAULTS.max_processes, description="With a command: how many of its processes may run at once."
    )
    process_limits: ProcessLimitsBlock | None = Field(
        None, description="With a command: what each of its processes may use."
    )
