"""Header modifiers: what the operator adds, sets and removes stands, whatever the client sends."""

from __future__ import annotations

import pytest

from moongate.testing import Exchange
from tests.proxy.talk import call, connected, pair, polite, result, run

Lines = list[tuple[str, str]]

REQUESTS: list[tuple[dict[str, object], Lines, dict[str, list[str]]]] = [
    # the modifier, what the client sends, what the backend must see of each name
    ({"add": {"Authorization": "Bearer fake"}}, [("authorization", "Bearer mine")], {"authorization": ["Bearer fake"]}),
    ({"set": {"Authorization": "Bearer fake"}}, [("AUTHORIZATION", "Bearer mine")], {"authorization": ["Bearer fake"]}),
    ({"set": {"X-API-Key": "k"}}, [("x-api-key", "mine"), ("X-Api-Key", "mine2")], {"x-api-key": ["k"]}),
    ({"set": {"User-Agent": "gate"}}, [("user-agent", "lynx")], {"user-agent": ["gate"]}),
    ({"add": {"User-Agent": "gate"}}, [("user-agent", "lynx")], {"user-agent": ["gate", "lynx"]}),
    (
        {"remove": ["User-Agent", "ACCEPT-LANGUAGE"]},
        [("user-agent", "lynx"), ("accept-language", "ca")],
        {"user-agent": [], "accept-language": []},
    ),
    ({"remove": ["traceparent"]}, [("Traceparent", "00-1"), ("traceparent", "00-2")], {"traceparent": []}),
    ({"set": {"X-Tide": "high"}}, [("connection", "x-tide"), ("x-tide", "low")], {"x-tide": ["high"]}),
    (
        {"set": {"X-Tide": "high"}},
        [("connection", "keep-alive"), ("connection", "x-tide, authorization")],
        {"x-tide": ["high"]},
    ),
    ({"add": {"X-Empty": ""}}, [], {"x-empty": [""]}),
    ({"set": {"X-Base": "over"}}, [], {"x-base": ["over"]}),
    ({"remove": ["x-base"]}, [], {"x-base": []}),
    ({"add": {"x-base": "more"}}, [], {"x-base": ["base", "more"]}),
    ({"remove": ["X-A"], "set": {"X-A": "2"}, "add": {"x-a": "3"}}, [("x-a", "1")], {"x-a": ["2", "3"]}),
]


@pytest.mark.parametrize(("modifier", "sent", "wanted"), REQUESTS)
@pytest.mark.requirement("AG-21", "PM-34")
def test_request_modifiers(modifier: dict[str, object], sent: Lines, wanted: dict[str, list[str]]) -> None:
    """add, set and remove on the request to the target."""

    async def story() -> None:
        async with (
            pair(polite, headers={"X-Base": "base"}, requestHeaderModifier=modifier) as (gate, backend),
            connected(gate) as client,
        ):
            assert (await client.ask(call(), sent)).status == 200
            lines = backend.seen[0].lines
            for name, values in wanted.items():
                assert sorted(value for other, value in lines if other == name) == values

    run(story())


RESPONSES: list[tuple[dict[str, object], dict[str, list[str]]]] = [
    ({"add": {"X-Tide": "high"}}, {"x-tide": ["high", "low"]}),
    ({"set": {"x-TIDE": "high"}}, {"x-tide": ["high"]}),
    ({"remove": ["X-TIDE"]}, {"x-tide": []}),
    ({"set": {"Cache-Control": "no-store"}}, {"cache-control": ["no-store"], "x-tide": ["low"]}),
    ({"add": {"Server": "moon"}}, {"server": ["moon"]}),
    ({"add": {"Strict-Transport-Security": "max-age=9"}}, {"strict-transport-security": ["max-age=9"]}),
    (
        {"set": {"Content-Type": "application/json; charset=utf-8"}},
        {"content-type": ["application/json; charset=utf-8"]},
    ),
]


@pytest.mark.parametrize("fails", ["", "upstream", "refused"])
@pytest.mark.parametrize(("modifier", "wanted"), RESPONSES)
def test_response_modifiers(modifier: dict[str, object], wanted: dict[str, list[str]], fails: str) -> None:
    """add, set and remove on answers; what is set stands once, on the gateway's own answers too."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if fails == "upstream":
                exchange.reset()
            else:
                await exchange.answer(
                    result(), headers={"x-tide": "low", "server": "tide/1", "cache-control": "private"}
                )

        async with pair(script, responseHeaderModifier=modifier) as (gate, _), connected(gate) as client:
            answer = await client.ask(call(), {"content-type": "text/plain"} if fails == "refused" else {})
            assert answer.status == {"": 200, "upstream": 502, "refused": 415}[fails]
            for name, values in wanted.items():
                expected = [value for value in values if not fails or value != "low"]
                assert sorted(value for other, value in answer.lines if other == name) == expected

    run(story())
