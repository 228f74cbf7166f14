"""wrk, one run at a time; lanes take turns, so that a change of the machine's mood meets all of them."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import payloads
from bench.lanes import Lane, Session, WrongAnswerError, open_sessions, verify
from bench.processes import HOST, cpu_seconds, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bench.plan import Scenario

_WARM_UP_SECONDS = 0.4
_GIVE = "return requests[turn]"
_GIVE_NUMBERED = "number = number + 1; return requests[turn][1] .. number .. requests[turn][2]"
_LUA = """
local requests = {{
{requests}
}}
local count, turn, number = #requests, 0, {number}
request = function()
  turn = turn % count + 1
  {give}
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\nBENCH {{"calls":%d,"micros":%d,"p50":%d,"p99":%d,"errors":%d}}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of wrk; latencies in microseconds, `cpu` the processor seconds of the process between in `seconds`."""

    rate: float
    p50: float
    p99: float
    calls: int
    errors: int
    cpu: float
    seconds: float

    @property
    def busy(self) -> float:
        """How busy the process between was; 1.0 is a whole core."""
        return self.cpu / self.seconds

    @property
    def calls_per_cpu_second(self) -> float:
        """What a full core would carry: unlike `rate` hardly touched by other processes on the same core."""
        return self.calls / self.cpu if self.cpu else 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of some figures."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up; there must be at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(slots=True)
class Result:
    """All rounds of a scenario, by lane name; `problems` make it invalid."""

    scenario: Scenario
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def spread(self, lane: str, figure: Callable[[Sample], float]) -> Spread | None:
        """Sum up one figure of a lane; None if the lane did not run."""
        samples = self.samples.get(lane)
        return Spread.of([figure(sample) for sample in samples]) if samples else None

    def ratio(self, lane: str, other: str) -> Spread | None:
        """Compare calls per second round by round: neighbours in time saw the same machine."""
        return self._compare(lane, other, lambda sample: sample.rate)

    def thrift(self, lane: str, other: str) -> Spread | None:
        """Compare calls per processor second round by round."""
        return self._compare(lane, other, lambda sample: sample.calls_per_cpu_second)

    def _compare(self, lane: str, other: str, figure: Callable[[Sample], float]) -> Spread | None:
        pairs = zip(self.samples.get(lane, []), self.samples.get(other, []), strict=False)
        ratios = [figure(one) / figure(two) for one, two in pairs if figure(two)]
        return Spread.of(ratios) if ratios else None

    def added_p50(self, lane: str) -> float | None:
        """Give the microseconds that a lane adds to the median latency of `direct`."""
        ours, bare = self.spread(lane, lambda sample: sample.p50), self.spread("direct", lambda sample: sample.p50)
        return ours.median - bare.median if ours and bare else None


@dataclass(frozen=True, slots=True)
class Wrk:
    """The load generator on its core, with a directory for its scripts."""

    core: int
    directory: Path

    def take_turns(self, scenario: Scenario, lanes: Sequence[Lane]) -> Result:
        """Run a scenario on all lanes, round by round, and check the answers before and after."""
        result = Result(scenario)
        ready: list[tuple[Lane, Session, Path]] = []
        for lane in lanes:
            try:
                sessions = open_sessions(lane, scenario.answer.location, scenario.connections)
                verify(sessions[0], scenario.answer.body)
            except WrongAnswerError as error:
                result.problems.append(str(error))
                continue
            script = self._script(lane, sessions, numbered=scenario.numbered)
            self._run(lane, script, scenario.connections, _WARM_UP_SECONDS)
            ready.append((lane, sessions[0], script))
        for number in range(scenario.rounds):
            first = number % max(1, len(ready))
            for lane, _, script in [*ready[first:], *ready[:first]]:
                sample = self._run(lane, script, scenario.connections, scenario.seconds)
                result.samples.setdefault(lane.name, []).append(sample)
                if sample.errors or not sample.calls:
                    result.problems.append(f"{lane.name}: {sample.errors} errors in {sample.calls} calls")
        result.problems.extend(self._recheck(ready, scenario))
        return result

    def _recheck(self, ready: Sequence[tuple[Lane, Session, Path]], scenario: Scenario) -> Iterator[str]:
        for _, session, _ in ready:
            try:
                verify(session, scenario.answer.body)
            except WrongAnswerError as error:
                yield f"after the load: {error}"

    def _script(self, lane: Lane, sessions: Sequence[Session], *, numbered: bool) -> Path:
        # JSON's escapes of an ASCII text are Lua's
        give, call = (_GIVE_NUMBERED, payloads.NUMBERED_CALL) if numbered else (_GIVE, payloads.CALL)
        requests = [json.dumps(session.request(body=call).decode("ascii")) for session in sessions]
        number = payloads.NUMBER.decode()
        if numbered:
            requests = ['{"' + '","'.join(text.strip('"').rsplit(number, 1)) + '"}' for text in requests]
        path = self.directory / f"{lane.name}.lua"
        path.write_text(_LUA.format(requests=",\n".join(requests), number=number, give=give), encoding="ascii")
        return path

    def _run(self, lane: Lane, script: Path, connections: int, seconds: float) -> Sample:
        argv = [tool("taskset"), "-c", str(self.core), tool("wrk"), "-t1", f"-c{connections}", "--timeout", "20s"]
        # wrk takes whole seconds only; SIGINT ends it early and leaves the summary intact
        argv += ["-d60s", "-s", str(script), f"http://{HOST}:{lane.port}/"]
        used, began = cpu_seconds(lane.pid) if lane.pid else 0.0, time.monotonic()
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            try:
                output = process.communicate(timeout=seconds)[0]
            except subprocess.TimeoutExpired:
                process.send_signal(2)
                output = process.communicate(timeout=60)[0]
        took = time.monotonic() - began
        used = cpu_seconds(lane.pid) - used if lane.pid else 0.0
        line = next((line for line in output.decode().splitlines() if line.startswith("BENCH ")), None)
        if line is None:
            return Sample(rate=0, p50=0, p99=0, calls=0, errors=1, cpu=used, seconds=took)
        got = json.loads(line.removeprefix("BENCH "))
        rate = got["calls"] / got["micros"] * 1e6
        return Sample(rate, got["p50"], got["p99"], got["calls"], got["errors"], used, took)
