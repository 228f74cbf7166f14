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
SHARED = Answer("shared", "one shared child", payloads.SMALL)
EACH = Answer("each", "a child per session", payloads.SMALL)
"""Answered by children over stdio. All call it 240 bytes, the gateways in between may write it otherwise."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the table: an answer, a number of connections, rounds of so many seconds on each lane.

    `numbered`: each call has an id of its own, as it must be where several are under way in one session.
    """

    answer: Answer
    connections: int
    rounds: int
    seconds: float
    numbered: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the benchmark."""

    scenarios: tuple[Scenario, ...]
    scale: Scenario
    rules: Scenario
    where: Scenario
    hosted: tuple[Scenario, ...]
    relayed_events: int = 20_000
    relay_rounds: int = 5
    scale_routes: int = 1_000
    scale_tokens: int = 10_000
    starts: int = 5
    streams: int = 1_000
    first_events: int = 100


def full() -> Plan:
    """Give the run whose figures are published: about eight minutes."""
    return Plan(
        scenarios=(
            *(Scenario(SMALL, connections, rounds=3, seconds=3) for connections in (1, 32, 256)),
            *(Scenario(EVENT, connections, rounds=3, seconds=2) for connections in (1, 32, 256)),
            *(Scenario(LARGE, connections, rounds=3, seconds=2) for connections in (1, 32)),
            *(Scenario(HUGE, connections, rounds=3, seconds=2) for connections in (1, 4)),
        ),
        scale=Scenario(SMALL, 32, rounds=20, seconds=0.8),
        rules=Scenario(SMALL, 32, rounds=10, seconds=1),
        where=Scenario(SMALL, 32, rounds=1, seconds=8),
        hosted=_hosted(rounds=5, seconds=2),
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
        rules=Scenario(SMALL, 32, rounds=2, seconds=0.6),
        where=Scenario(SMALL, 32, rounds=1, seconds=3),
        hosted=_hosted(rounds=1, seconds=1)[:2],
        relayed_events=6_000,
        relay_rounds=2,
        starts=2,
        streams=1_000,
        first_events=20,
    )


def _hosted(rounds: int, seconds: float) -> tuple[Scenario, ...]:
    return (
        Scenario(SHARED, 32, rounds, seconds, numbered=True),
        Scenario(EACH, 16, rounds, seconds, numbered=True),
        Scenario(SHARED, 1, rounds, seconds, numbered=True),
    )


MIN_SHARE_OF_NGINX = 0.5
MAX_ADDED_P50_OVER_NGINX = 1.8
MAX_IDLE_BYTES = 60_000_000
MAX_STREAM_BYTES = 20_000
MAX_SCALE_LOSS = 0.05
MAX_START_SECONDS = 1.0
MIN_HOSTED_CALLS = {(SHARED, 32): 20_000, (EACH, 16): 15_000}
MIN_TIMES_A_PEER = 7
MAX_RELAY_RATIO = 1.1
"""Processor time of an event through the HTTP+SSE door, over that of one on a GET stream; a tenth is noise."""
