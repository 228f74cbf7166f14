"""What is measured, for how long, and what it may cost at most (the budgets of the architecture)."""

from __future__ import annotations

from dataclasses import dataclass

from bench import payloads


@dataclass(frozen=True, slots=True)
class Answer:
    """One kind of answer: where the stub serves it, its exact bytes (chunking undone) and what the tables call it."""

    location: str
    label: str
    body: bytes
    media_type: str = payloads.JSON


SMALL = Answer("small", "240 B JSON", payloads.SMALL)
EVENT = Answer("event", "240 B event stream", payloads.SMALL_EVENT, payloads.EVENT_STREAM)
LARGE = Answer("large", "100 KB JSON", payloads.LARGE)
HUGE = Answer("huge", "10 MB JSON", payloads.HUGE)
ANSWERS = (SMALL, EVENT, LARGE, HUGE)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the table: an answer, a number of connections, rounds of so many seconds on each lane."""

    answer: Answer
    connections: int
    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the benchmark."""

    scenarios: tuple[Scenario, ...]
    scale: Scenario
    scale_routes: int = 1_000
    scale_tokens: int = 10_000
    starts: int = 5
    streams: int = 1_000
    first_events: int = 100


def full() -> Plan:
    """Give the run whose figures are published: under six minutes."""
    return Plan(
        scenarios=(
            *(Scenario(SMALL, connections, rounds=3, seconds=3) for connections in (1, 32, 256)),
            *(Scenario(EVENT, connections, rounds=3, seconds=2) for connections in (1, 32, 256)),
            *(Scenario(LARGE, connections, rounds=3, seconds=2) for connections in (1, 32)),
            *(Scenario(HUGE, connections, rounds=3, seconds=2) for connections in (1, 4)),
        ),
        scale=Scenario(SMALL, 32, rounds=20, seconds=0.8),
    )


def quick() -> Plan:
    """Give a run that shows whether everything works; its figures are rough."""
    return Plan(
        scenarios=(
            *(Scenario(SMALL, connections, rounds=1, seconds=1) for connections in (1, 32, 256)),
            *(Scenario(EVENT, connections, rounds=1, seconds=0.5) for connections in (1, 32, 256)),
            *(Scenario(LARGE, connections, rounds=1, seconds=0.5) for connections in (1, 32)),
            *(Scenario(HUGE, connections, rounds=1, seconds=0.5) for connections in (1, 4)),
        ),
        scale=Scenario(SMALL, 32, rounds=3, seconds=0.6),
        starts=2,
        streams=1_000,
        first_events=20,
    )


MIN_SHARE_OF_NGINX = 0.5
MAX_ADDED_P50_OVER_NGINX = 1.8
MAX_IDLE_BYTES = 60_000_000
MAX_STREAM_BYTES = 20_000
MAX_SCALE_LOSS = 0.05
MAX_START_SECONDS = 1.0
