"""Golden cases: a configuration on top, the compiled result or the exact complaints below.

`python -m tests.control.golden` writes the lower part of every case anew; read the difference before you keep it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import load_texts
from moongate.errors import ConfigError
from moongate.model.snapshot import (
    AuditSettings,
    Command,
    Limits,
    Match,
    PlatformSettings,
    ProcessLimits,
    Route,
    Snapshot,
    Target,
)
from moongate.policies.access_rules import AccessConfig
from moongate.policies.answers import DirectResponseConfig, RedirectConfig
from moongate.policies.cors import CorsConfig
from moongate.policies.csrf import CsrfConfig
from moongate.policies.headers import HeaderModifier
from moongate.policies.rate import RateLimitConfig

CASES = Path(__file__).with_name("cases")
RESULT = "=== result\n"
_SECTION = re.compile(r"^=== (\S+)(?: (\S+))?\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Case:
    """What one file says."""

    files: list[tuple[str, str]]
    environment: dict[str, str]
    options: CompileOptions
    expected: str


def read(name: str) -> Case:
    """Sections: `file NAME`, `environment` (NAME=value), `options` (host=..., port=...), `result`."""
    text = (CASES / f"{name}.txt").read_text("utf-8")
    parts = _SECTION.split(text)[1:]
    sections = list(zip(parts[0::3], parts[1::3], parts[2::3], strict=True))
    pairs = {
        kind: dict(line.split("=", 1) for line in body.splitlines() if line)
        for kind, _, body in sections
        if kind in {"environment", "options"}
    }
    options = pairs.get("options", {})
    return Case(
        files=[(file, body) for kind, file, body in sections if kind == "file"],
        environment=pairs.get("environment", {}),
        options=CompileOptions(options.get("host"), int(options["port"]) if "port" in options else None),
        expected=next(body for kind, _, body in sections if kind == "result"),
    )


def run(case: Case) -> str:
    """The compiled result in words, or the complaints."""
    try:
        snapshot = compile_documents(load_texts(case.files, case.environment), case.options)
    except ConfigError as error:
        return "".join(f"error {complaint}\n" for complaint in error.complaints)
    return "".join(f"{line}\n" for line in render(snapshot))


def render(snapshot: Snapshot) -> Iterator[str]:
    """Everything that differs from a default, in a form for people."""
    for bind in snapshot.binds:
        yield f"bind {' '.join(bind.hosts)} port {bind.port}"
        for listener in bind.listeners:
            tls = f" tls {listener.tls.cert} {listener.tls.key}" if listener.tls else ""
            yield f"  listener {listener.name} for {listener.hostname or 'any host'}{tls}"
            for route in listener.routes:
                yield from (f"    {line}" for line in _route(route))
    for token in snapshot.tokens:
        only = "all" if token.instances is None else ",".join(sorted(token.instances))
        who = f"{token.name} of {token.principal.name} {sorted(token.groups)}"
        yield f"token {who} sha256 {token.sha256.hex()[:8]}... for {only} until {token.expires or 'ever'}"
    if snapshot.limits != Limits():
        yield f"limits {snapshot.limits}"
    if snapshot.prefix != "/mcp":
        yield f"prefix {snapshot.prefix}"
    if snapshot.public_url:
        yield f"public url {snapshot.public_url}"
    if snapshot.hosts:
        yield f"hosts {' '.join(sorted(snapshot.hosts))}"
    if snapshot.trusted_proxies:
        yield f"trusts {' '.join(snapshot.trusted_proxies)}"
    if snapshot.max_processes != Snapshot(()).max_processes:
        yield f"at most {snapshot.max_processes} processes"
    for settings, usual in ((snapshot.platform, PlatformSettings()), (snapshot.audit, AuditSettings())):
        if settings != usual:
            yield str(settings)
    if snapshot.secrets:
        yield f"secrets {' | '.join(sorted(snapshot.secrets))}"
    yield from (f"warning {warning}" for warning in snapshot.warnings)


def _route(route: Route) -> Iterator[str]:
    key = "" if route.key == route.name else f" (key {route.key})"
    yield f"route {route.name}{key} from {route.where}: token {'needed' if route.auth else 'not needed'}"
    for match in route.matches:
        yield f"  when {_match(match)}"
    yield from (f"  {line}" for line in _target(route.target))
    if isinstance(route.target, Command) and route.secrets:
        yield f"  secrets {' | '.join(sorted(route.secrets))}"
    for policy in route.policies:
        if isinstance(policy, HeaderModifier):
            yield f"  {policy.direction} headers: remove {policy.remove} set {policy.set} add {policy.add}"
        elif isinstance(policy, RateLimitConfig):
            yield from (f"  at most {bucket} ({bucket.setting})" for bucket in policy.buckets)
        elif isinstance(policy, DirectResponseConfig | RedirectConfig):
            yield f"  {policy}"
        elif isinstance(policy, AccessConfig):
            yield f"  {policy.setting}{' (shadow)' if policy.shadow else ''}:"
            yield from (f"    {rule}" for rule in policy.rules)
        elif isinstance(policy, CorsConfig) and policy.written:
            yield from (f"  {line}" for line in _cors(policy))
        elif isinstance(policy, CsrfConfig) and policy.written:
            yield f"  {policy.setting}: lets {' '.join(policy.additional_origins) or 'nobody else'} change something"
    if route.keepalive is not None:
        yield f"  comment every {route.keepalive:g} s"
    if route.body_bytes != Limits().body_bytes:
        yield f"  bodies up to {route.body_bytes}"


def _cors(policy: CorsConfig) -> Iterator[str]:
    preset, origins = " (preset)" if policy.preset else "", " ".join(policy.allow_origins)
    yield f"{policy.setting}{preset}: lets {origins or 'nobody'} call"
    yield f"  methods {policy.allow_methods} headers {policy.allow_headers} exposes {policy.expose_headers}"
    if policy.allow_credentials or policy.max_age is not None:
        yield f"  credentials {policy.allow_credentials} for {policy.max_age} s"


def _match(match: Match) -> str:
    words = [f"path {match.path.kind} {match.path.value!r}"]
    words += [f"method {match.method}"] if match.method else []
    for kind, conditions in (("header", match.headers), ("query", match.query)):
        words += [f"{kind} {item.name} {'like' if item.regex else 'is'} {item.value!r}" for item in conditions]
    return ", ".join(words)


def _command(command: Command) -> Iterator[str]:
    folder = "" if command.cwd is None else f" in {command.cwd}"
    yield f"to {command.name} ({command.isolation}) from {command.where}: {list(command.argv)}{folder}"
    answer, silence = command.timeouts.first_byte, command.timeouts.silence
    yield f"  waits {command.start_seconds:g} s to start, {answer:g} s to answer, {silence:g} s in silence"
    yield from _whole(command)
    yield f"  kept {command.idle_seconds:g} s, at most {command.max_processes}, lines up to {command.line_bytes}"
    if command.limits != ProcessLimits():
        yield f"  {command.limits}"
    withheld = f" without {' '.join(sorted(command.withheld))}" if command.withheld else ""
    yield f"  variables: {'none' if command.clear_env else 'inherited' + withheld}"
    yield from (f"  variable {name}={value}" for name, value in command.env)


def _whole(target: Target | Command) -> Iterator[str]:
    request, total = target.timeouts.request, target.timeouts.total
    if request is not None or total is not None:
        yield f"  the whole request {request} s, at the backend {total} s"


def _target(target: Target | Command) -> Iterator[str]:
    if isinstance(target, Command):
        yield from _command(target)
        return
    address = f"{target.scheme}://{target.authority}{target.path}"
    yield f"to {target.name} ({target.transport}): {address} at {target.host} port {target.port}"
    connect, answer, silence = target.timeouts.connect, target.timeouts.first_byte, target.timeouts.silence
    yield f"  waits {connect:g} s to connect, {answer:g} s to answer, {silence:g} s in silence"
    yield from _whole(target)
    if target.host_header is not None:
        yield f"  called {target.host_header}"
    for name, value in target.headers:
        yield f"  header {name}: {value}"
    if target.tls.ca or target.tls.cert:
        yield f"  tls ca {target.tls.ca} cert {target.tls.cert} key {target.tls.key}"


def _write() -> None:
    for file in sorted(CASES.glob("*.txt")):
        text = file.read_text("utf-8")
        head = text.split(RESULT)[0]
        file.write_text(head + RESULT, "utf-8")
        file.write_text(head + RESULT + run(read(file.stem)), "utf-8")


if __name__ == "__main__":
    _write()
