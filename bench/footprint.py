"""Start time and memory of the gateway: one that was just started and has answered one call."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import plan
from bench.lanes import open_sessions, verify
from bench.load import Spread
from bench.processes import memory, pause, workers

if TYPE_CHECKING:
    from bench.gateway import Setup

_SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """Seconds from the start of the process to its first answered call; memory in bytes of the data-plane process."""

    start: Spread
    rss: int
    pss: int
    others: int


def measure(setup: Setup, starts: int) -> Footprint:
    """Start gateways one after the other; each must answer a call rightly."""
    _start_once(setup, "start-warm-up")  # compiles what is not compiled yet
    times = [_start_once(setup, f"start-{number}") for number in range(starts)]
    return Footprint(Spread.of([seconds for seconds, *_ in times]), *times[-1][1:])


def _start_once(setup: Setup, name: str) -> tuple[float, int, int, int]:
    began = time.perf_counter()
    gateway = setup.start(name, setup.ordinary())
    with gateway.child as child:
        child.wait_for_port(gateway.port)
        session = open_sessions(gateway.lane(name), plan.SMALL.location, 1)[0]
        verify(session, plan.SMALL.body)
        seconds = time.perf_counter() - began
        pause(_SETTLE_SECONDS)
        rss, pss = memory(child.pid)
        return seconds, rss, pss, len(workers(child.pid))
