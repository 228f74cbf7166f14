"""From what is written about a local server to a `Command`, and the secrets that are in it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator

from moongate.control.environment import is_ordinary
from moongate.control.findings import Findings
from moongate.control.nodes import Loc
from moongate.control.schema.backend import Policies, Reach
from moongate.control.schema.durations import parse_duration
from moongate.control.schema.hosted import Hosted, ProcessLimitsBlock
from moongate.model.snapshot import MIB, Command, Isolation, ProcessLimits, Timeouts

MIN_LINE_BYTES = 64 * MIB
NO_HEADERS = "a local server is spoken to over stdio, which has no headers; "
_SECRET_NAME = re.compile(
    r"key|token|secret|pass(w|phrase)|auth(?!or)|authoriz|cred|cookie|bearer|jwt|signature"
    r"|(?<![a-z])(pass|pwd|pat|dsn|sig)(?![a-z])",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"://[^/?#\s@]*:([^/?#\s@]+)@")
# `--token=...`, `API_KEY=...` (as docker's -e has it), `Authorization: Bearer ...`
_NAMED = re.compile(r"-{0,2}([A-Za-z][A-Za-z0-9_.-]*)(?:=|:\s*)(.+)\Z", re.DOTALL)
_FLAG = re.compile(r"--?([A-Za-z][A-Za-z0-9_-]*)\Z")
_SCHEME = re.compile(r"(?:bearer|basic|token)\s+(\S.*)\Z", re.IGNORECASE | re.DOTALL)
# What is too ordinary to be a secret, and would make every log unreadable.
_ORDINARY_VALUE = re.compile(r"true|false|none|null|debug|info|warning|error|[0-9]{1,5}", re.IGNORECASE)
_CONTAINERS = frozenset({"docker", "podman", "nerdctl"})


def build_command(
    name: str, program: str, hosted: Hosted, timeouts: Timeouts, line_bytes: int, at: tuple[Findings, Loc]
) -> Command:
    """`at`: where complaints go, and the path of the program's key; the keys of `hosted` stand beside it."""
    findings, program_loc = at
    loc = program_loc[:-1]
    folder = None if hosted.cwd is None else findings.file_path((*loc, "cwd"), hosted.cwd)
    argv = (_located(program, program_loc, findings) if folder is None else str(program), *map(str, hosted.args or ()))
    _warn_container(argv, findings, (*loc, "args"))
    return Command(
        name=name,
        argv=argv,
        env=tuple((str(key), str(value)) for key, value in (hosted.env or {}).items()),
        cwd=folder,
        clear_env=hosted.clear_env,
        withheld=findings.variables,
        isolation=Isolation(hosted.isolation),
        timeouts=timeouts,
        start_seconds=parse_duration(hosted.start_time),
        idle_seconds=parse_duration(hosted.idle_time),
        max_processes=hosted.max_processes,
        line_bytes=max(MIN_LINE_BYTES, line_bytes),
        limits=_limits(hosted.process_limits or ProcessLimitsBlock()),
        where=str(findings.place(program_loc)),
    )


def _located(program: str, loc: Loc, findings: Findings) -> str:
    """A path is relative to the file that names it; a bare name is left to the PATH."""
    if "/" not in program:
        return str(program)
    folder = os.path.dirname(findings.place(loc).file) or "."  # noqa: PTH120 - pathlib would drop the . that makes it a path
    return os.path.join(folder, program.removeprefix("./"))  # noqa: PTH118 - the same


def _limits(written: ProcessLimitsBlock) -> ProcessLimits:
    return ProcessLimits(
        memory=written.memory,
        open_files=written.open_files,
        cpu_seconds=None if written.cpu_time is None else math.ceil(parse_duration(written.cpu_time)),
    )


def _warn_container(argv: tuple[str, ...], findings: Findings, loc: Loc) -> None:
    program, *arguments = argv
    if program.rpartition("/")[2] not in _CONTAINERS or "run" not in arguments:
        return
    options = arguments[arguments.index("run") + 1 :]
    short = "".join(option[1:] for option in options if re.fullmatch(r"-[a-zA-Z]+", option))
    if "i" not in short and "--interactive" not in options:
        findings.warn(loc, "docker run needs -i to talk over stdio; without it the server ends at once")
    if "t" in short or "--tty" in options:
        findings.warn(loc, "docker run -t gives the server a terminal, which mangles messages; leave -t out")


def refuse_http_keys(reach: Reach, policies: Policies, at: tuple[Findings, Loc, Loc]) -> None:
    """Complain about what only a server with an address can have. `at`: the paths of what holds the two blocks."""
    findings, reach_loc, policies_loc = at
    if reach.headers:
        findings.complain((*reach_loc, "headers"), NO_HEADERS + "give it its credentials under env")
    if reach.tls is not None:
        findings.complain(
            (*reach_loc, "tls"), "a local server is spoken to over stdio, which has no certificates; remove this"
        )
    if policies.forward_headers:
        findings.complain((*policies_loc, "forwardHeaders"), NO_HEADERS + "remove this")
    modifier = policies.request_header_modifier
    if modifier is not None and (modifier.add or modifier.set or modifier.remove):
        findings.complain((*policies_loc, "requestHeaderModifier"), NO_HEADERS + "remove this")


def inserted_secrets(findings: Findings, loc: Loc) -> frozenset[str]:
    """What environment variables put into the arguments and variables of the server at `loc`."""
    return frozenset(
        value
        for key in ("args", "env")
        for name, value in findings.inserted((*loc, key))
        if _SECRET_NAME.search(name) or not (is_ordinary(name) or _ORDINARY_VALUE.fullmatch(value))
    )


def command_secrets(command: Command) -> Iterator[str]:
    """What its arguments and variables hold under names that sound like secrets, and passwords in addresses."""
    for name, value in command.env:
        if _SECRET_NAME.search(name) and not is_ordinary(name):
            yield from _credential(value)
        yield from _USERINFO.findall(value)
    before = ""
    for argument in command.argv[1:]:
        named = _NAMED.match(argument)
        if named is not None and _SECRET_NAME.search(named[1]):
            yield from _credential(named[2])
        flag = _FLAG.match(before)
        if flag is not None and _SECRET_NAME.search(flag[1]) and not argument.startswith("-"):
            yield from _credential(argument)
        yield from _USERINFO.findall(argument)
        before = argument


def _credential(value: str) -> Iterator[str]:
    """A value whole, and without its scheme."""
    yield value
    scheme = _SCHEME.match(value)
    if scheme is not None:
        yield scheme[1]
