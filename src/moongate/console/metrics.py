"""`/metrics`: the Prometheus text format, version 0.0.4.

Nothing that a client chooses becomes a label: instances are those of the configuration, methods those of the protocol,
classes those of the failure table.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from moongate.console.guard import READ, Bearer, Cookie
from moongate.console.live import NoAnswer
from moongate.console.services import Given, Services

router = APIRouter(tags=["monitoring"])
MEDIA = "text/plain; version=0.0.4; charset=utf-8"
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
Labels = Mapping[str, str]
Sample = tuple[Labels, float]


@router.get("/metrics", response_class=PlainTextResponse)
async def get_metrics(services: Given, request: Request, bearer: Bearer, cookie: Cookie) -> PlainTextResponse:
    """Counters for Prometheus. Open to programs on this machine; from elsewhere any role is needed."""
    if not _is_local(request):
        await READ(request, bearer, cookie)
    return PlainTextResponse(await render(services), media_type=MEDIA)


def _is_local(request: Request) -> bool:
    """Asked on this machine, and not for somebody elsewhere by a proxy."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


async def render(services: Services) -> str:
    """All of it. What the gateway does not tell now is left out."""
    found = _Text()
    try:
        facts = await services.live.facts()
    except NoAnswer:
        found.add("up", "gauge", "Whether the gateway answers.", [({}, 0)])
    else:
        found.add("up", "gauge", "Whether the gateway answers.", [({}, 1)])
        _gateway(found, facts)
    backing = services.backing
    found.add("store_up", "gauge", "Whether the store can be used.", [({}, float(backing.reachable))])
    published = backing.unpublished is None and services.live.in_force
    text = "Whether what the store holds, but for what cannot be served, is in force."
    found.add("publication_in_force", "gauge", text, [({}, float(published))])
    text = "Instances of the store that cannot be served."
    found.add("publication_left_out", "gauge", text, [({}, services.live.left_out)])
    if backing.ingester is not None:
        counts = backing.ingester.counts
        found.add("audit_ingested_total", "counter", "Records brought into the store.", [({}, counts.ingested)])
        found.add("audit_damaged_total", "counter", "Journal lines that could not be read.", [({}, counts.damaged)])
        found.add("audit_ingest_failures_total", "counter", "Batches that failed.", [({}, counts.failures)])
        found.add("audit_behind_bytes", "gauge", "Journal bytes not in the store yet.", [({}, counts.behind_bytes)])
    return found.text


def _gateway(found: _Text, facts: dict[str, Any]) -> None:
    requests = facts["requests"]
    found.add("info", "gauge", "The version that runs.", [({"version": facts["version"]}, 1)])
    found.add("start_time_seconds", "gauge", "When the gateway was started.", [({}, facts["started"])])
    counted = [(_where(tally), tally["requests"]) for tally in requests]
    found.add("requests_total", "counter", "Requests, refused ones too.", counted)
    classes: Counter[tuple[str, str]] = Counter()
    for tally in requests:
        for failure, count in tally["failures"].items():
            classes[tally["instance"], failure] += count
    failed = [
        ({"instance": instance, "class": failure}, count) for (instance, failure), count in sorted(classes.items())
    ]
    found.add("failures_total", "counter", "Requests that did not succeed, by the class of the failure.", failed)
    for way in ("In", "Out"):
        sizes: Counter[str] = Counter()
        for tally in requests:
            sizes[tally["instance"]] += tally[f"bytes{way}"]
        name = "request_bytes_total" if way == "In" else "response_bytes_total"
        found.add(
            name, "counter", "Bytes of bodies.", [({"instance": key}, size) for key, size in sorted(sizes.items())]
        )
    found.histogram("request_duration_seconds", "From a request's head to its record.", facts["bounds"], requests)
    found.add("connections", "gauge", "Open client connections.", [({}, facts["connections"])])
    found.add("connections_refused_total", "counter", "Beyond the limit.", [({}, facts["refusedConnections"])])
    for name, text in (("streams", "Open event streams."), ("sessions", "Sessions that live in the gateway.")):
        found.add(name, "gauge", text, [({"instance": key}, count) for key, count in sorted(facts[name].items())])
    journal = facts["journal"]
    found.add("journal_written_total", "counter", "Records in the journal.", [({}, journal["written"])])
    found.add("journal_lost_total", "counter", "Records that could not be kept.", [({}, journal["lost"])])
    found.add(
        "journal_removed_segments_total", "counter", "Removed for want of room.", [({}, journal["removedSegments"])]
    )
    found.add("journal_failing", "gauge", "Whether the last write was in vain.", [({}, float(journal["failing"]))])
    _children(found, facts["children"])


def _children(found: _Text, children: list[dict[str, Any]]) -> None:
    def samples(values: Iterable[tuple[str, float]]) -> list[Sample]:
        return [({"instance": name}, value) for name, value in values]

    starts = samples((child["instance"], child["starts"]) for child in children)
    exits = samples((child["instance"], child["exits"]) for child in children)
    memory = samples((child["instance"], sum(one["memory"] for one in child["processes"])) for child in children)
    states = [
        ({"instance": child["instance"], "state": state}, sum(one["state"] == state for one in child["processes"]))
        for child in children
        for state in ("starting", "running", "ending")
    ]
    found.add("child_processes", "gauge", "Processes of hosted servers.", states)
    found.add("child_starts_total", "counter", "Starts of hosted servers.", starts)
    found.add("child_exits_total", "counter", "Ends of hosted servers.", exits)
    found.add("child_memory_bytes", "gauge", "Resident memory of their process trees.", memory)


def _where(tally: Mapping[str, Any]) -> Labels:
    return {"instance": tally["instance"], "method": tally["method"]}


class _Text:
    """The text as it grows. Every name begins with `moongate_`."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def add(self, name: str, kind: str, text: str, samples: Iterable[Sample]) -> None:
        """One metric with all its samples."""
        self._lines += [f"# HELP moongate_{name} {text}", f"# TYPE moongate_{name} {kind}"]
        self._lines += [_line(name, labels, value) for labels, value in samples]

    def histogram(self, name: str, text: str, bounds: list[float], tallies: list[dict[str, Any]]) -> None:
        """A histogram by instance and method; streams are not in it."""
        self._lines += [f"# HELP moongate_{name} {text}", f"# TYPE moongate_{name} histogram"]
        for tally in tallies:
            labels, total = _where(tally), 0
            for bound, count in zip([*map(_number, bounds), "+Inf"], tally["buckets"], strict=True):
                total += count
                self._lines.append(_line(f"{name}_bucket", {**labels, "le": bound}, total))
            self._lines.append(_line(f"{name}_sum", labels, tally["seconds"]))
            self._lines.append(_line(f"{name}_count", labels, total))


def _line(name: str, labels: Labels, value: float) -> str:
    written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"moongate_{name}{{{written}}} {_number(value)}" if written else f"moongate_{name} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
