"""What the data plane tells the platform process about itself: counters and live facts, and the instances in force.

All is read when it is asked for; only the counters of `telemetry` are kept up with each request.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from moongate.audit.journal import Journal
from moongate.audit.redact import MIN_SECRET, Redactor
from moongate.control.addresses import route_addresses, server_base
from moongate.control.nodes import STORE
from moongate.control.platform.masks import secrets_in
from moongate.explaining import HERE, Asked
from moongate.model.snapshot import Command, Route, Snapshot, Target, Transport
from moongate.proxy.handle import DataPlane
from moongate.telemetry import BOUNDS, Telemetry
from moongate.upstreams.bridge import Bridge
from moongate.upstreams.processes import Processes
from moongate.upstreams.watcher import has_proc
from moongate.wire.server import Server

_PAGE = os.sysconf("SC_PAGE_SIZE")
_STARTED = time.time()
# Every value below these is masked as a whole.
_MASKED = frozenset({"headers", "env"})
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_PARTS = re.compile(r"[/?&=#:@\s]+")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class Running(Protocol):
    """What of a running data plane is looked at."""

    @property
    def plane(self) -> DataPlane: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def processes(self) -> Processes: ...
    @property
    def telemetry(self) -> Telemetry: ...
    @property
    def servers(self) -> tuple[Server, ...]: ...
    @property
    def ports(self) -> dict[int, int]: ...


async def facts(running: Running) -> dict[str, Any]:
    """Counters since the start, and what is open now; for JSON."""
    plane, journal = running.plane, running.journal
    return {
        "version": version("moongate"),
        "started": _STARTED,
        "pid": os.getpid(),
        "bounds": BOUNDS,
        "requests": running.telemetry.plain(),
        "connections": sum(len(server.connections) for server in running.servers),
        "refusedConnections": sum(server.refused_connections for server in running.servers),
        "streams": dict(plane.streams.counts),
        "sessions": dict(_sessions(plane)),
        "journal": {
            "written": journal.written,
            "lost": journal.lost,
            "removedSegments": journal.removed_segments,
            "failing": journal.failing,
        },
        "children": await _children(running.processes),
    }


def _sessions(plane: DataPlane) -> Counter[str]:
    """Those that live in this process: of bridged servers, and of open HTTP+SSE clients. Sealed ones are nowhere."""
    found: Counter[str] = Counter()
    for routes in plane.plan.routes.values():
        upstream = routes[0].upstream
        if isinstance(upstream, Bridge):
            found[routes[0].route.name] += upstream.sessions
    return found + plane.doors.counts


async def _children(processes: Processes) -> list[dict[str, Any]]:
    now = asyncio.get_running_loop().time()
    live = processes.live
    memory = await asyncio.to_thread(_memory, [process.pid for process in live if process.pid])
    found: dict[str, dict[str, Any]] = {
        name: {"instance": name, "starts": count, "exits": processes.ended[name], "processes": []}
        for name, count in processes.started.items()
    }
    for process in live:
        entry = found.setdefault(process.name, {"instance": process.name, "starts": 0, "exits": 0, "processes": []})
        state = "ending" if process.retired or process.exited.done() else "running" if process.pid else "starting"
        entry["processes"].append(
            {
                "pid": process.pid,
                "state": state,
                "seconds": round(now - process.began, 3),
                "memory": memory.get(process.pid, 0),
            }
        )
    return [found[name] for name in sorted(found)]


def _memory(leaders: Iterable[int]) -> dict[int, int]:
    """Resident bytes of process trees, by their leader, whose session all of it belongs to (proc(5): stat)."""
    wanted = dict.fromkeys(leaders, 0)
    if not wanted or not has_proc():
        return wanted
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            fields = stat[stat.rfind(b")") + 2 :].split(b" ")
            session = int(fields[3])
            if session in wanted:
                wanted[session] += int(fields[21]) * _PAGE
    return wanted


def asked(question: Mapping[str, Any]) -> Asked:
    """The request that is to be explained, as it came over the pair."""
    message = question.get("message")
    return Asked(
        method=question["method"],
        url=question["url"],
        host=question.get("host"),
        headers=tuple((name, value) for name, value in question.get("headers") or ()),
        source=question.get("source") or HERE,
        body=None if message is None else str(message).encode("utf-8", "surrogateescape"),
    )


def gateway(running: Running) -> dict[str, Any]:
    """What is in force: the base of addresses, the names it goes by, and the instances that are not the store's."""
    return around(running.plane.plan.snapshot, running.ports)


def around(snapshot: Snapshot, ports: Mapping[int, int]) -> dict[str, Any]:
    """The same of a configuration that need not be in force. `ports`: what became of those that were left open."""
    addresses = route_addresses(snapshot, ports)
    redactor = Redactor(snapshot.secrets)
    return {
        "base": server_base(snapshot, ports),
        "prefix": snapshot.prefix,
        "hosts": sorted(snapshot.hosts | _public_host(snapshot)),
        "secrets": sorted(snapshot.secrets),
        "doors": {address.route.name: address.route.auth for address in addresses},
        "instances": [
            {
                "name": address.route.name,
                "where": address.route.where,
                "address": address.url,
                "entry": (entry := _written(address.route)),
                "config": _shown(entry, address.route, redactor),
            }
            for address in addresses
            if address.route.where != STORE
        ],
    }


def _public_host(snapshot: Snapshot) -> set[str]:
    if snapshot.public_url is None:
        return set()
    authority = snapshot.public_url.partition("://")[2].partition("/")[0]
    return {authority.rpartition(":")[0] if authority.rpartition(":")[2].isdecimal() else authority}


def _written(route: Route) -> dict[str, Any]:
    """A route in the form of an `mcpServers` entry, with its secrets: whoever shows it masks them."""
    target = route.target
    if isinstance(target, Command):
        command: dict[str, Any] = {"command": target.argv[0], "args": list(target.argv[1:])}
        if target.env:
            command["env"] = dict(target.env)
        return {**command, "isolation": target.isolation.value} | ({"cwd": target.cwd} if target.cwd else {})
    return _address(target)


def _shown(entry: dict[str, Any], route: Route, redactor: Redactor) -> dict[str, Any]:
    """The same as it may be shown, but for what is secret by its place: with `${NAME}` as it stands in the file, and
    without known secrets. What a variable held is no secret by its form; it may be a part of an address.
    """
    names = {spelt: name for name, value in sorted(route.inserted) for spelt in _spellings(value)}
    longest = sorted(names, key=len, reverse=True)
    held = re.compile("|".join(map(re.escape, longest))) if names else None

    def written(text: str) -> str:
        return text if held is None else held.sub(lambda match: f"${{{names[match[0]]}}}", text)

    # The name that makes a value a secret may have come from a variable, too.
    placed = {written(secret) for loc, secret in secrets_in(entry) if loc[0] not in _MASKED}
    by_place = Redactor(secret for secret in placed if not _REFERENCE.fullmatch(secret))

    def clean(value: object, key: str) -> object:
        if isinstance(value, dict):
            return {name: clean(item, key) for name, item in value.items()}
        if isinstance(value, list):
            return [clean(item, key) for item in value]
        if not isinstance(value, str):
            return value
        text = written(value)
        return text if key in _MASKED else redactor.clean(by_place.clean(text))

    return {key: clean(value, key) for key, value in entry.items()}


def _spellings(value: str) -> Iterator[str]:
    """What of a variable's value may be found in an entry: all of it, or parts of an address, as they are spelt."""
    for part in (value, *_PARTS.split(value)):
        if len(part) >= MIN_SECRET and part.lower() not in {"http", "https"}:
            yield from (part, part.lower(), quote(part), quote(part, safe=""), quote(part, safe=_PRINTABLE))


def _address(target: Target) -> dict[str, Any]:
    written: dict[str, Any] = {"url": f"{target.scheme}://{target.authority}{target.path}"}
    if target.transport is not Transport.AUTO:
        written["type"] = target.transport.value
    if target.headers:
        written["headers"] = dict(target.headers)
    written["timeout"] = round(target.timeouts.first_byte * 1000)
    written["sseReadTimeout"] = round(target.timeouts.silence * 1000)
    return written
