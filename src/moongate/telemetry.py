"""Counters of what was carried: a read-only view of an `Exchange`, taken when its record is made.

The methods are those that MCP knows: whatever else clients write counts as `other`, so that nobody can make the number
of counters grow. Instances are those of the configuration.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from typing import Any, Final

from moongate.errors import FailureClass
from moongate.model.exchange import Exchange

# Upper bounds in seconds, as Prometheus has them ("le"); what takes longer stands in one more.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FIRST: Final = 0.001
OTHER = "other"
_HTTP = ("POST", "GET", "DELETE", "OPTIONS")


class Tally:
    """The requests of one instance with one method. `buckets`: how many took how long (see BOUNDS); streams, which are
    in no bucket, stand in `streams`.
    """

    __slots__ = ("buckets", "bytes_in", "bytes_out", "failures", "seconds", "streams")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.streams = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.failures: dict[FailureClass, int] = {}


class Telemetry:
    """All counters of a data plane. `methods`: the JSON-RPC methods that are counted by name."""

    def __init__(self, methods: Collection[str]) -> None:
        self._known = frozenset({*methods, *_HTTP})
        self._tallies: dict[str, dict[str, Tally]] = {}

    def count(self, exchange: Exchange, now: float, phase: str = "") -> None:
        """One record is made of `exchange`, at `now` (of its own clock). A stream is a request when it opens; how long
        it lasts is nobody's latency.
        """
        of_instance = self._tallies.get(exchange.route)
        tally = None if of_instance is None else of_instance.get(exchange.rpc_method or exchange.method)
        if tally is None:
            tally = self._tally(exchange.route, exchange.rpc_method or exchange.method)
        if phase:
            self._count_stream(tally, exchange, phase)
            return
        seconds = now - exchange.started
        tally.seconds += seconds
        tally.buckets[0 if seconds < _FIRST else bisect_left(BOUNDS, seconds)] += 1
        tally.bytes_in += exchange.bytes_in
        tally.bytes_out += exchange.bytes_out
        if exchange.failure is not None:
            tally.failures[exchange.failure] = tally.failures.get(exchange.failure, 0) + 1

    def _count_stream(self, tally: Tally, exchange: Exchange, phase: str) -> None:
        if phase == "open":
            tally.streams += 1
            return
        tally.bytes_in += exchange.bytes_in
        tally.bytes_out += exchange.bytes_out
        if exchange.failure is not None:
            tally.failures[exchange.failure] = tally.failures.get(exchange.failure, 0) + 1

    def _tally(self, instance: str, method: str) -> Tally:
        of_instance = self._tallies.setdefault(instance, {})
        return of_instance.setdefault(method if method in self._known else OTHER, Tally())

    def keep(self, instances: Collection[str]) -> None:
        """Forget the counters of instances that are gone."""
        kept = {"", *instances}
        self._tallies = {instance: tallies for instance, tallies in self._tallies.items() if instance in kept}

    def plain(self) -> list[dict[str, Any]]:
        """For JSON, by instance and method."""
        return [
            {
                "instance": instance,
                "method": method,
                "requests": sum(tally.buckets) + tally.streams,
                "seconds": tally.seconds,
                "buckets": list(tally.buckets),
                "bytesIn": tally.bytes_in,
                "bytesOut": tally.bytes_out,
                "failures": {failure.value: count for failure, count in tally.failures.items()},
            }
            for instance, tallies in sorted(self._tallies.items())
            for method, tally in sorted(tallies.items())
        ]
