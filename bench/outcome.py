"""Everything that one run found, and whether the budgets hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import hosted, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.footprint import Footprint
    from bench.load import Result, Spread
    from bench.relay import Relay
    from bench.streams import FirstEvent, StreamCost

DIRECT, NGINX, MOONGATE = "direct", "nginx", "moongate"
ONE, ROUTES, ROUTES_ONE_CALLED, TOKENS = "one", "routes", "routes-one-called", "tokens"
PLAIN, BROWSER, ACCESS = "plain", "browser", "access"


@dataclass(frozen=True, slots=True)
class Check:
    """One budget: what was found, what is allowed; `kept` is None if it was not measured."""

    name: str
    found: str
    allowed: str
    kept: bool | None


@dataclass(slots=True)
class Outcome:
    """Filled in as the run goes on. `problems` make the whole run invalid."""

    results: list[Result] = field(default_factory=list)
    scale: Result | None = None
    rules: Result | None = None
    where: list[tuple[str, float]] = field(default_factory=list)
    footprint: Footprint | None = None
    first_events: dict[str, FirstEvent] = field(default_factory=dict)
    stream_costs: dict[str, StreamCost] = field(default_factory=dict)
    hosted: hosted.Found = field(default_factory=hosted.Found)
    relay: Relay | None = None
    bytes_per_call: float | None = None
    foreign: float = 0.0
    stolen: float = 0.0
    problems: list[str] = field(default_factory=list)

    def result(self, answer: plan.Answer, connections: int) -> Result | None:
        """Find a scenario's result."""
        wanted = (answer, connections)
        return next((one for one in self.results if (one.scenario.answer, one.scenario.connections) == wanted), None)

    def checks(self) -> list[Check]:
        """Judge all budgets."""
        speed = (*self._speed(), *self._full_path(), *self._hosted(), self._relayed(), *self._scale())
        return [*speed, *self._memory(), self._recorded()]

    def added_ratio(self, result: Result | None) -> float | None:
        """Divide the median latency that Moongate adds by what nginx adds."""
        if result is None:
            return None
        ours, theirs = result.added_p50(MOONGATE), result.added_p50(NGINX)
        return ours / theirs if ours is not None and theirs else None

    def _speed(self) -> Iterator[Check]:
        allowed = f">= {plan.MIN_SHARE_OF_NGINX} x nginx"
        for connections in (32, 256):
            result = self.result(plan.SMALL, connections)
            ratio = result.ratio(MOONGATE, NGINX) if result else None
            name = f"Calls/s, {plan.SMALL.label}, {connections} connections"
            if ratio:
                yield Check(name, f"{ratio.median:.2f} x", allowed, ratio.median >= plan.MIN_SHARE_OF_NGINX)
            else:
                yield Check(name, "-", allowed, kept=None)
        added = self.added_ratio(self.result(plan.SMALL, 1))
        yield _at_most("Added p50, 1 connection", added, plan.MAX_ADDED_P50_OVER_NGINX, "{:.2f} x what nginx adds")

    def _full_path(self) -> Iterator[Check]:
        ratio = self.rules.ratio(ACCESS, NGINX) if self.rules else None
        name = "Calls/s, token, 20 access rules (2 with arguments) and record, 32 connections"
        allowed = f">= {plan.MIN_SHARE_OF_NGINX} x nginx"
        kept = None if ratio is None else ratio.median >= plan.MIN_SHARE_OF_NGINX
        yield Check(name, "-" if ratio is None else f"{ratio.median:.2f} x", allowed, kept)

    def _hosted(self) -> Iterator[Check]:
        for (answer, connections), least in plan.MIN_HOSTED_CALLS.items():
            where = f"stdio, {answer.label}, {connections} connections"
            rate = self.hosted.rate(answer, connections, hosted.MOONGATE)
            allowed = f">= {least:,} calls/s"
            if rate is None:
                yield Check(f"Calls/s, {where}", "-", allowed, kept=None)
            else:
                yield Check(f"Calls/s, {where}", f"{rate.median:,.0f} calls/s", allowed, rate.median >= least)
            yield self._beside_peers(answer, connections, where)

    def _beside_peers(self, answer: plan.Answer, connections: int, where: str) -> Check:
        name, allowed = f"Beside the better peer, {where}", f">= {plan.MIN_TIMES_A_PEER} x"
        better = self.hosted.better_peer(answer, connections)
        ratio = self.hosted.times(answer, connections, better) if better else None
        if ratio is None:
            return Check(name, "-", allowed, kept=None)
        # one peer alone is not the better of two
        kept = None if self.hosted.absent else ratio.median >= plan.MIN_TIMES_A_PEER
        return Check(name, f"{ratio.median:.1f} x {better}", allowed, kept)

    def _relayed(self) -> Check:
        ratio = self.relay.ratio(self.relay.events) if self.relay else None
        form = "{:.2f} x streamable HTTP"
        return _at_most("An event through HTTP+SSE", ratio.median if ratio else None, plan.MAX_RELAY_RATIO, form)

    def _scale(self) -> Iterator[Check]:
        for lane, name in (
            (ROUTES, "1,000 routes instead of 1, calls spread over 32"),
            (TOKENS, "10,000 tokens instead of 1, calls spread over 32"),
        ):
            loss = self.loss(lane)
            yield _at_most(name, loss.median if loss else None, plan.MAX_SCALE_LOSS, "{:.1%} slower")

    def loss(self, lane: str) -> Spread | None:
        """Give the share of calls per processor second that many routes or tokens cost; below 0 it was faster."""
        return _loss(self.scale, lane, ONE)

    def rules_loss(self, lane: str) -> Spread | None:
        """The same for policies."""
        return _loss(self.rules, lane, PLAIN)

    def _memory(self) -> Iterator[Check]:
        foot, cost = self.footprint, self.stream_costs.get(MOONGATE)
        yield _at_most("Idle memory (RSS)", foot.rss / 1e6 if foot else None, plan.MAX_IDLE_BYTES / 1e6, "{:.1f} MB")
        heavier = max(cost.rss, cost.pss) / 1e3 if cost else None
        yield _at_most("An open event stream", heavier, plan.MAX_STREAM_BYTES / 1e3, "{:.1f} KB")
        seconds = foot.start.median if foot else None
        yield _at_most("Start to first answered call", seconds, plan.MAX_START_SECONDS, "{:.2f} s")

    def _recorded(self) -> Check:
        found = self.bytes_per_call
        text = "-" if found is None else f"{found:.0f} bytes"
        return Check("Record written per call", text, "> 0 bytes", None if found is None else found >= 1)


def _loss(result: Result | None, lane: str, other: str) -> Spread | None:
    ratio = result.thrift(lane, other) if result else None
    return type(ratio)(1 - ratio.median, 1 - ratio.high, 1 - ratio.low) if ratio else None


def _at_most(name: str, found: float | None, limit: float, form: str) -> Check:
    allowed = "<= " + form.format(limit)
    if found is None:
        return Check(name, "-", allowed, kept=None)
    return Check(name, form.format(found), allowed, found <= limit)
