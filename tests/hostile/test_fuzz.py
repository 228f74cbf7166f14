"""The fuzzer itself: its oracle reads what is plain, its targets hold for the corpora, it notices what is broken."""

from __future__ import annotations

import random

import pytest

from fuzz import pure
from fuzz.__main__ import AIMS
from fuzz.live import again
from fuzz.mutate import mutated, pieces
from fuzz.oracle import Sent, requests
from moongate.protocol.jsonrpc import Envelope
from tests.hostile.refused import ALL, CHUNKED, SMUGGLED, TE
from tests.hostile.talk import PING, head, post


def test_the_oracle_reads_plain_requests() -> None:
    """Sized, chunked, without body, several of them."""
    data = (
        post()
        + head(TE)
        + CHUNKED
        + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        + post(lines=b"connection: close\r\n")
        + post()
    )
    assert requests(data) == [Sent("POST", PING), Sent("POST", PING), Sent("GET", b""), Sent("POST", PING)]


def test_the_oracle_finds_no_smuggled_request_in_the_corpus() -> None:
    """Where framing is at stake, what stands behind is never a request of its own."""
    for entry in ALL:
        assert Sent("POST", SMUGGLED.partition(b"\r\n\r\n")[2]) not in requests(entry.data + SMUGGLED)[:1], entry.name


@pytest.mark.parametrize("name", AIMS)
def test_each_target_holds_for_its_corpus_and_some_changes(name: str) -> None:
    """A few hundred inputs; `make fuzz` runs for minutes."""
    chance = random.Random(name)
    aim = AIMS[name]
    for data in [*aim.corpus, *(mutated(chance, aim.corpus) for _ in range(300))]:
        aim.run(data, random.Random(1))


def test_the_same_seed_gives_the_same_inputs() -> None:
    """So that a failure can be had again."""
    corpus = [entry.data for entry in ALL]
    first, second = random.Random(5), random.Random(5)
    for _ in range(200):
        data = mutated(first, corpus)
        assert data == mutated(second, corpus)
        parts = pieces(first, data)
        assert b"".join(parts) == data
        assert parts == pieces(second, data)


def test_what_is_broken_is_noticed() -> None:
    """A target that cannot fail would prove nothing."""
    with pytest.raises(pure.Broken):
        pure.hold(False, "this does not hold")
    with pytest.raises(pure.Broken):
        pure._agree(Envelope("b", b"1"), {"jsonrpc": "2.0", "id": 1, "method": "a"})


def test_one_input_can_be_sent_again() -> None:
    """To the whole gateway, cut as it was cut."""
    assert again(post() + SMUGGLED, "1 live 1") == ""
    assert again(ALL[0].data + SMUGGLED, "1 live 2") == ""
