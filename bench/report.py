"""The tables, on the terminal and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table as RichTable

from bench import hosted
from bench.outcome import (
    ACCESS,
    BROWSER,
    DIRECT,
    MOONGATE,
    NGINX,
    ONE,
    PLAIN,
    ROUTES,
    ROUTES_ONE_CALLED,
    TOKENS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from bench.load import Result, Sample, Spread
    from bench.outcome import Outcome

LANES = (DIRECT, NGINX, MOONGATE)
_NONE = "-"

METHOD = """\
One run measures everything side by side. *direct* is the load generator (wrk, one thread) on the stub server; *nginx*
is nginx as a plain reverse proxy in between (one worker, HTTP/1.1 keep-alive pool to the stub, access log off;
buffering off for event streams); *moongate* is Moongate in between, with everything on: bearer token and its instances
checked, session ids sealed, every call recorded. nginx and Moongate have one core, wrk and the stub the other one.
The stub is another nginx with fixed answers; only streams that stay open come from a small uvloop server.

Each connection of wrk has a session of revision 2025-06-18 that was initialised through the lane it uses. The lanes
take turns, round by round; figures are medians, in brackets least and greatest; ratios are made within a round. The
answers are compared byte for byte before and after the load, and one error in any round makes the run invalid.
Latencies are what wrk reports. A direct call stays on one core, any proxy makes it cross to the other one and back:
what is *added* includes that for both. *busy* is the share of its core that the process in between used: near 100 %
it was the bottleneck, not the load generator or the stub. Many routes and tokens are compared by calls per CPU second
of the gateway, a figure that other processes on the machine hardly touch, so that a few per cent can be seen.

Servers that speak stdio: the child is a small Python program that answers faster than anything in front of it, and
runs on the core of the load generator. *mcp-proxy* (Python) and *supergateway* (Node.js, stateful, no logging) host the
same child over streamable HTTP, without tokens and records, which they do not have. *mcp-proxy* has one child for all
sessions whatever the scenario, *supergateway* one for each. Each call has an id of its own. The cost of relayed events
is the gateway's processor time: 32 streams, one event at a time on each.

Moongate runs compiled, as it is shipped. Where each microsecond goes is looked at with perf in a run of its own: what
counts of each sample is the innermost function of Moongate, and whether the kernel worked for it. On the loopback,
sending includes what the kernel does to receive on the other side, and to wake whoever waits there.
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A title, column names, and rows of text; the first `left` columns are words, the others figures."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: int = 1

    def print_on(self, console: Console) -> None:
        """Show it on a terminal."""
        table = RichTable(title=self.title, title_justify="left", header_style="bold")
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="left" if index < self.left else "right", no_wrap=index >= self.left)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)

    def markdown(self) -> str:
        """Write it as Markdown."""
        rule = ["---" if index < self.left else "--:" for index in range(len(self.columns))]
        lines = [" | ".join(row) for row in (self.columns, rule, *self.rows)]
        return f"## {self.title}\n\n" + "\n".join(f"| {line} |" for line in lines) + "\n"


def tables(outcome: Outcome) -> list[Table]:
    """Give all tables that have rows."""
    made = [
        _budgets(outcome),
        _rates(outcome),
        _latencies(outcome),
        _added(outcome),
        _hosted(outcome),
        _relay(outcome),
        _rules(outcome),
        _where(outcome),
        _scale(outcome),
        _streams(outcome),
        _footprint(outcome),
    ]
    return [table for table in made if table.rows]


def markdown(outcome: Outcome, machine: Sequence[tuple[str, str]], command: str) -> str:
    """Write the page."""
    facts = "\n".join(f"- **{name}**: {value}" for name, value in machine)
    foreign, stolen = f"{outcome.foreign:.0%}", f"{outcome.stolen:.0%}"
    noise = f"Other processes used {foreign} of the two cores meanwhile, other machines took {stolen}."
    opening = f"# Benchmarks\n\nWritten by `{command}`; run it to get the figures of your machine.\n"
    invalid = "".join(f"\n**Invalid:** {problem}\n" for problem in outcome.problems)
    body = "\n".join(table.markdown() for table in tables(outcome))
    return f"{opening}{invalid}\n{METHOD}\n## Machine\n\n{facts}\n\n{noise}\n\n{body}"


def _budgets(outcome: Outcome) -> Table:
    words = {True: "kept", False: "MISSED", None: "not measured"}
    rows = [(check.name, words[check.kept], check.found, check.allowed) for check in outcome.checks()]
    return Table("Budgets", ("Budget", "Verdict", "Found", "Allowed"), rows, left=2)


def _rates(outcome: Outcome) -> Table:
    columns = ("Answer", "Conns", *(f"{lane} calls/s" for lane in LANES))
    rows = []
    for result in outcome.results:
        rates = [_spread(result.spread(lane, lambda sample: sample.rate), _count) for lane in LANES]
        ratios = [_spread(result.ratio(*pair), "{:.2f}".format) for pair in ((MOONGATE, NGINX), (NGINX, DIRECT))]
        busy = [_median(result, lane, lambda sample: sample.busy, "{:.0%}") for lane in (NGINX, MOONGATE)]
        rows.append((result.scenario.answer.label, str(result.scenario.connections), *rates, *ratios, " / ".join(busy)))
    return Table("Calls per second", (*columns, "moongate/nginx", "nginx/direct", "busy nginx / moongate"), rows)


def _latencies(outcome: Outcome) -> Table:
    names = [f"{lane} {point}" for point in ("p50", "p99") for lane in LANES]
    rows = []
    for result in outcome.results:
        halves = [_spread(result.spread(lane, lambda sample: sample.p50), _count) for lane in LANES]
        tails = [_spread(result.spread(lane, lambda sample: sample.p99), _count) for lane in LANES]
        rows.append((result.scenario.answer.label, str(result.scenario.connections), *halves, *tails))
    return Table("Latency in microseconds", ("Answer", "Conns", *names), rows)


def _added(outcome: Outcome) -> Table:
    rows = []
    for result in outcome.results:
        theirs, ours = result.added_p50(NGINX), result.added_p50(MOONGATE)
        if result.scenario.connections == 1 and theirs is not None:
            ratio = outcome.added_ratio(result)
            figures = (_or_none(theirs, "{:,.0f}"), _or_none(ours, "{:,.0f}"), _or_none(ratio, "{:.2f}"))
            rows.append((result.scenario.answer.label, *figures))
    return Table("Added p50 over direct at one connection, microseconds", ("Answer", NGINX, MOONGATE, "ratio"), rows)


def _hosted(outcome: Outcome) -> Table:
    lanes = (hosted.MOONGATE, *hosted.PEERS)
    rows = []
    for result in outcome.hosted.results:
        answer, connections = result.scenario.answer, result.scenario.connections
        better = outcome.hosted.better_peer(answer, connections)
        times = outcome.hosted.times(answer, connections, better) if better else None
        rates = [_hosted_rate(outcome, result, lane) for lane in lanes]
        halves = [_median(result, lane, lambda sample: sample.p50, "{:,.0f}") for lane in lanes]
        busy = _median(result, hosted.MOONGATE, lambda sample: sample.busy, "{:.0%}")
        thrift = _median(result, hosted.MOONGATE, lambda sample: sample.calls_per_cpu_second, "{:,.0f}")
        rows.append(
            (answer.label, str(connections), *rates, _spread(times, "{:.1f}".format), " / ".join(halves), busy, thrift)
        )
    columns = ("Child", "Conns", *(f"{lane} calls/s" for lane in lanes), "times the better peer")
    return Table(
        "Servers over stdio (240 B JSON)",
        (*columns, "p50 of these, us", "busy moongate", "its calls per CPU second"),
        rows,
    )


def _hosted_rate(outcome: Outcome, result: Result, lane: str) -> str:
    if lane in outcome.hosted.absent:
        return "not measured"
    return _spread(result.spread(lane, lambda sample: sample.rate), _count)


def _relay(outcome: Outcome) -> Table:
    rows = []
    if relay := outcome.relay:
        for name, figures in (("an event on an open stream", relay.events), ("a call and its event", relay.calls)):
            costs = [
                _spread(relay.spread(figures, transport), "{:.1f}".format) for transport in ("streamable-http", "sse")
            ]
            rows.append((name, *costs, _spread(relay.ratio(figures), "{:.2f}".format)))
    columns = ("What", "streamable HTTP", "HTTP+SSE", "HTTP+SSE / streamable HTTP")
    return Table("Relayed events, microseconds of Moongate's processor time", columns, rows)


def _rules(outcome: Outcome) -> Table:
    rows = []
    names = (
        (NGINX, "nginx"),
        (PLAIN, "token and record"),
        (BROWSER, "and CORS, CSRF, a rate limit; called from a page"),
        (ACCESS, "and 20 access rules, 2 of them look at arguments"),
    )
    for lane, name in names if outcome.rules else ():
        rate = outcome.rules.spread(lane, lambda sample: sample.rate) if outcome.rules else None
        ratio = outcome.rules.ratio(lane, NGINX) if outcome.rules else None
        loss = _NONE if lane in {NGINX, PLAIN} else _spread(outcome.rules_loss(lane), "{:.1%}".format)
        rows.append((name, _spread(rate, _count), _spread(ratio, "{:.2f}".format), loss))
    return Table("What policies cost (32 connections, 240 B JSON)", ("What", "calls/s", "/ nginx", "slower by"), rows)


def _where(outcome: Outcome) -> Table:
    total = sum(micros for _, micros in outcome.where)
    rows = [(name, f"{micros:.1f}", f"{micros / total:.0%}") for name, micros in outcome.where]
    if rows:
        rows.append(("all of it", f"{total:.1f}", "100%"))
    columns = ("What for", "microseconds", "share")
    return Table("Where each microsecond of a call goes (32 connections, token, record, 20 rules)", columns, rows)


def _scale(outcome: Outcome) -> Table:
    rows = []
    columns = ("What", "calls/s", "calls per CPU second", "slower by")
    names = (
        (ONE, "1 route, 1 token"),
        (ROUTES, "1,000 routes, 32 of them called"),
        (ROUTES_ONE_CALLED, "1,000 routes, 1 of them called"),
        (TOKENS, "10,000 tokens, 32 of them used"),
    )
    for lane, name in names:
        if outcome.scale:
            rate = outcome.scale.spread(lane, lambda sample: sample.rate)
            thrift = outcome.scale.spread(lane, lambda sample: sample.calls_per_cpu_second)
            loss = _spread(outcome.loss(lane), "{:.1%}".format) if lane != ONE else _NONE
            rows.append((name, _spread(rate, _count), _spread(thrift, _count), loss))
    return Table("Many routes, many tokens (32 connections, 240 B JSON)", columns, rows)


def _streams(outcome: Outcome) -> Table:
    rows = []
    for lane in LANES:
        first, cost = outcome.first_events.get(lane), outcome.stream_costs.get(lane)
        if first:
            weight = (_pair(cost.rss / 1e3, cost.pss / 1e3), f"{cost.delivered:,}") if cost else (_NONE, _NONE)
            rows.append((lane, _spread(first.get, _count), _spread(first.post, _count), *weight))
    firsts = ("first event of a GET stream, us", "first event of a streamed POST, us")
    columns = ("Lane", *firsts, "KB per open stream (RSS / PSS)", "streams open and served")
    return Table("Event streams", columns, rows)


def _footprint(outcome: Outcome) -> Table:
    rows = []
    if outcome.footprint:
        foot = outcome.footprint
        rows.append(("Start of the process to its first answered call, s", _spread(foot.start, "{:.2f}".format)))
        rows.append(("Memory of the idle data-plane process, MB (RSS / PSS)", _pair(foot.rss / 1e6, foot.pss / 1e6)))
        rows.append(("Further processes that it started", str(foot.others)))
    if outcome.bytes_per_call is not None:
        rows.append(("Written to journal and log per call, bytes", f"{outcome.bytes_per_call:.0f}"))
    return Table("Footprint of Moongate", ("What", "Found"), rows)


def _pair(one: float, two: float) -> str:
    return f"{one:.1f} / {two:.1f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _spread(spread: Spread | None, form: Callable[[float], str]) -> str:
    if spread is None:
        return _NONE
    if spread.low == spread.high:
        return form(spread.median)
    return f"{form(spread.median)} ({form(spread.low)} to {form(spread.high)})"


def _median(result: Result, lane: str, figure: Callable[[Sample], float], form: str) -> str:
    spread = result.spread(lane, figure)
    return form.format(spread.median) if spread else _NONE


def _or_none(value: float | None, form: str) -> str:
    return _NONE if value is None else form.format(value)
