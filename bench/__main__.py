"""`python -m bench [--quick] [--check] [--write FILE]`: run everything, print the tables, say whether budgets hold."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench import footprint, hosted, machine, nginx, outcome, plan, relay, report, streams, where
from bench.gateway import Gateway, Setup
from bench.lanes import Lane, WrongAnswerError
from bench.load import Result, Wrk
from bench.processes import BenchError, Child, cores, free_port

EXIT_FAILED = 1
EXIT_CANNOT_RUN = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands while the benchmark runs: the servers behind, nginx in front, and how to start gateways."""

    setup: Setup
    wrk: Wrk
    load_core: int
    nginx_port: int
    nginx_worker: int

    @property
    def plain_lanes(self) -> tuple[Lane, Lane]:
        """Give the two lanes without Moongate."""
        return Lane(outcome.DIRECT, self.setup.fixed), self._nginx

    @property
    def plain_stream_lanes(self) -> tuple[Lane, Lane]:
        """Give the same two for streams that stay open, which come from the other stub."""
        return Lane(outcome.DIRECT, self.setup.streams), self._nginx

    @property
    def _nginx(self) -> Lane:
        return Lane(outcome.NGINX, self.nginx_port, pid=self.nginx_worker)


def set_stage(stack: contextlib.ExitStack) -> Stage:
    """Start both stubs and nginx; `stack` ends them."""
    gateway_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moongate-bench-")))
    for name in ("stub", "proxy", "gateways", "wrk"):
        (home / name).mkdir()
    fixed, stream_port, proxy_port = free_port(), free_port(), free_port()
    stack.enter_context(nginx.start_stub(home / "stub", load_core, fixed))
    argv = [sys.executable, "-m", "bench.event_stub", str(stream_port)]
    stack.enter_context(Child(argv, load_core, home / "stub" / "events.log")).wait_for_port(stream_port)
    proxy = stack.enter_context(nginx.start_proxy(home / "proxy", gateway_core, proxy_port, fixed, stream_port))
    setup = Setup(home / "gateways", gateway_core, fixed, stream_port)
    return Stage(setup, Wrk(load_core, home / "wrk"), load_core, proxy_port, proxy.wait_for_worker())


def measure_plain(stage: Stage, chosen: plan.Plan, found: outcome.Outcome, console: Console) -> None:
    """Measure direct and nginx only."""
    for scenario in chosen.scenarios:
        found.results.append(_run(stage, scenario, stage.plain_lanes, console))
    found.first_events = streams.first_events(stage.plain_stream_lanes, chosen.first_events)
    found.stream_costs = _stream_costs(stage, stage.plain_stream_lanes, chosen.streams, found)


def measure(stage: Stage, chosen: plan.Plan, found: outcome.Outcome, console: Console) -> None:
    """Measure all three lanes, then what concerns Moongate alone."""
    with contextlib.ExitStack() as stack:
        gateway = _start(stage.setup, "ordinary", stage.setup.ordinary(), stack)
        lane = gateway.lane(outcome.MOONGATE)
        console.print("event streams ...")
        found.first_events = streams.first_events((*stage.plain_stream_lanes, lane), chosen.first_events)
        found.stream_costs = _stream_costs(stage, (*stage.plain_stream_lanes, lane), chosen.streams, found)
        written = gateway.recorded_bytes()
        for scenario in chosen.scenarios:
            found.results.append(_run(stage, scenario, (*stage.plain_lanes, lane), console))
        calls = sum(sample.calls for result in found.results for sample in result.samples.get(lane.name, []))
        found.bytes_per_call = (gateway.recorded_bytes() - written) / max(1, calls)
        gateway.child.check()
    measure_hosted(stage, chosen, found, console)
    console.print("events over HTTP+SSE ...")
    with contextlib.ExitStack() as stack:
        gateway = _start(stage.setup, "relay", stage.setup.relay(), stack)
        found.relay = relay.measure(gateway.lane(outcome.MOONGATE), stage.setup.streams, chosen)
    console.print("policies ...")
    with contextlib.ExitStack() as stack:
        lanes = _rules_lanes(stage.setup, stack)
        found.rules = _run(stage, chosen.rules, (stage.plain_lanes[1], *lanes), console)
        found.where = where.measure(stage.wrk, lanes[-1], chosen.where)
    console.print("many routes, many tokens ...")
    with contextlib.ExitStack() as stack:
        found.scale = _run(stage, chosen.scale, _scale_lanes(stage.setup, chosen, stack), console)
    console.print("start and memory ...")
    found.footprint = footprint.measure(stage.setup, chosen.starts)


def measure_hosted(stage: Stage, chosen: plan.Plan, found: outcome.Outcome, console: Console) -> None:
    """Measure children over stdio: Moongate and the peers that are installed."""
    hosting = hosted.Hosting(stage.setup, stage.wrk, stage.load_core)
    for scenario in chosen.hosted:
        result = hosting.measure(scenario, found.hosted)
        _say(result, (hosted.MOONGATE, *hosted.PEERS), console)
    for peer, reason in found.hosted.absent.items():
        console.print(f"not measured: {peer}: {reason}")
    found.problems.extend(found.hosted.problems)


def _rules_lanes(setup: Setup, stack: contextlib.ExitStack) -> tuple[Lane, ...]:
    plain = _start(setup, outcome.PLAIN, setup.single(), stack).lane(outcome.PLAIN)
    config, doors = setup.browser()
    browser = _start(setup, outcome.BROWSER, config, stack).lane(outcome.BROWSER, doors)
    return plain, browser, _start(setup, outcome.ACCESS, setup.access(), stack).lane(outcome.ACCESS)


def _scale_lanes(setup: Setup, chosen: plan.Plan, stack: contextlib.ExitStack) -> tuple[Lane, ...]:
    one = _start(setup, outcome.ONE, setup.single(), stack)
    config, doors = setup.many_routes(chosen.scale_routes)
    many = _start(setup, outcome.ROUTES, config, stack)
    routes = (many.lane(outcome.ROUTES, doors), many.lane(outcome.ROUTES_ONE_CALLED, doors[-1:]))
    config, doors = setup.many_tokens(chosen.scale_tokens)
    tokens = _start(setup, outcome.TOKENS, config, stack).lane(outcome.TOKENS, doors)
    return one.lane(outcome.ONE), *routes, tokens


def _start(setup: Setup, name: str, config: dict[str, object], stack: contextlib.ExitStack) -> Gateway:
    gateway = setup.start(name, config)
    stack.enter_context(gateway.child)
    gateway.child.wait_for_port(gateway.port)
    return gateway


def _run(stage: Stage, scenario: plan.Scenario, lanes: tuple[Lane, ...], console: Console) -> Result:
    result = stage.wrk.take_turns(scenario, lanes)
    _say(result, tuple(lane.name for lane in lanes), console)
    return result


def _say(result: Result, lanes: tuple[str, ...], console: Console) -> None:
    rates = {lane: result.spread(lane, lambda sample: sample.rate) for lane in lanes}
    figures = ", ".join(f"{name} {spread.median:,.0f}/s" for name, spread in rates.items() if spread)
    console.print(f"{result.scenario.answer.label}, {result.scenario.connections} connections: {figures}")


def _stream_costs(
    stage: Stage, lanes: tuple[Lane, ...], count: int, found: outcome.Outcome
) -> dict[str, streams.StreamCost]:
    costs = {lane.name: streams.cost(lane, count, stage.setup.streams) for lane in lanes if lane.pid}
    for name, cost in costs.items():
        if min(cost.opened, cost.delivered) < count:
            found.problems.append(f"{name}: of {count} streams {cost.opened} opened and {cost.delivered} were served")
    return costs


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, print, write; give the exit code."""
    chosen = plan.quick() if options.quick else plan.full()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found, facts = outcome.Outcome(), machine.description()
    pair, began = cores(), time.monotonic()
    before = machine.Clock.read(pair)
    with contextlib.ExitStack() as stack:
        stage = set_stage(stack)
        (measure_plain if options.without_gateway else measure)(stage, chosen, found, console)
    found.foreign, found.stolen = machine.foreign_share(before, machine.Clock.read(pair), len(pair))
    for result in [*found.results, *found.hosted.results, *filter(None, (found.rules, found.scale))]:
        where = f"{result.scenario.answer.label}, {result.scenario.connections} connections"
        found.problems.extend(f"{where}: {problem}" for problem in result.problems)
    show(found, facts, console)
    console.print(f"It took {time.monotonic() - began:.0f} s.")
    if options.write:
        command = f'make bench ARGS="{"--quick " if options.quick else ""}--write docs/benchmarks.md"'
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(report.markdown(found, facts, command), encoding="utf-8")
        console.print(f"Written: {options.write}")
    missed = [check for check in found.checks() if not check.kept]
    return EXIT_FAILED if found.problems or (options.check and missed) else 0


def show(found: outcome.Outcome, facts: list[tuple[str, str]], console: Console) -> None:
    """Print everything."""
    for name, value in facts:
        console.print(f"{name}: {value}", highlight=False)
    for table in report.tables(found):
        console.print()
        table.print_on(console)
    console.print(f"\nOther processes used {found.foreign:.0%} of the two cores, other machines {found.stolen:.0%}.")
    for problem in found.problems:
        console.print(f"INVALID: {problem}", style="bold red", markup=False)


def main() -> int:
    """Read the command line and run; 0 fine, 1 wrong answers or (with --check) a missed budget, 2 it cannot run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute, rough figures")
    parser.add_argument("--check", action="store_true", help="exit 1 when a budget is missed")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables to FILE as Markdown")
    parser.add_argument("--without-gateway", action="store_true", help="measure direct and nginx only")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_CANNOT_RUN))
    console = Console(width=None if sys.stdout.isatty() else 200)
    try:
        return run(options, console)
    except (BenchError, WrongAnswerError, OSError) as error:
        console.print(f"The benchmark stopped: {error}", style="bold red", markup=False)
        return EXIT_FAILED if isinstance(error, WrongAnswerError) else EXIT_CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main())
