"""Forged requests and proxies in front, through the whole gateway."""

from __future__ import annotations

import asyncio

import pytest

from tests.proxy.browsing import ARTICLE_HOST, ARTICLE_PATH, STRANGER, UI, allowed, article, block, of_page
from tests.proxy.talk import Client, call, connected, log_lines, pair, polite, records, run

CLIENT = "198.51.100.7"
GATE = "https://gate.example"
FORWARDED = {"x-forwarded-for": CLIENT, "x-forwarded-proto": "https", "x-forwarded-host": "gate.example"}


@pytest.mark.requirement("AG-40", "AG-41")
def test_the_articles_page_may_call_and_no_other_page_may() -> None:
    """Its `*` lets every page read, its csrf block lets one call, trailing slash or not; others can read why not."""

    async def story() -> None:
        with log_lines() as log:
            async with article(polite) as (gate, backend), connected(gate) as client:
                for fetch_metadata in ({}, {"sec-fetch-site": "cross-site"}):
                    answer = await client.ask(
                        call(), {**of_page(UI), **fetch_metadata}, path=ARTICLE_PATH, host=ARTICLE_HOST
                    )
                    assert (answer.status, allowed(answer)) == (200, UI)
                    answer = await client.ask(
                        call(), {**of_page(STRANGER), **fetch_metadata}, path=ARTICLE_PATH, host=ARTICLE_HOST
                    )
                    assert answer.failure == (403, "denied")
                    assert allowed(answer) == STRANGER
                    setting = f"policies.csrf.additionalOrigins: [{STRANGER}]"
                    for text in (records(gate)[-1]["detail"], log.getvalue(), answer.body.decode()):
                        assert setting in text
                assert len(backend.seen) == 2

    run(story())


@pytest.mark.requirement("AG-40")
def test_what_the_browser_says_comes_first() -> None:
    """Sec-Fetch-Site decides where it is sent; DELETE is as unsafe as POST, GET is not."""

    async def story() -> None:
        async with pair(polite, cors={"allowOrigins": ["*"]}, csrf={"additionalOrigins": [UI]}) as (gate, _):
            host = f"127.0.0.1:{gate.port}"
            async with connected(gate) as client:
                for site, origin, status in (
                    ("same-origin", f"http://{host}", 200),
                    ("none", f"http://{host}", 200),
                    ("none", None, 200),
                    ("same-site", None, 403),
                    ("cross-site", None, 403),
                    ("cross-site", UI, 200),
                    ("same-site", UI, 200),
                    ("cross-site", STRANGER, 403),
                    ("cross-site", f"http://{host}", 403),
                ):
                    headers = {"sec-fetch-site": site, **({} if origin is None else {"origin": origin})}
                    for method, body in (("POST", call()), ("DELETE", None)):
                        answer = await client.ask(body, headers, method=method, host=host)
                        assert answer.status == status, (site, origin, method)
                    async with connected(gate) as reader:
                        await reader.send(None, headers, method="GET", host=host)
                        assert (await reader.head()).status == 200, (site, origin)

    run(story())


@pytest.mark.requirement("AG-41")
def test_without_fetch_metadata_the_origin_decides() -> None:
    """The gateway's own passes, none passes, null and strangers do not."""

    async def story() -> None:
        async with pair(polite, cors={"allowOrigins": ["*"]}) as (gate, backend), connected(gate) as client:
            host = f"127.0.0.1:{gate.port}"
            for headers, status in (
                ({}, 200),
                ({"origin": f"http://{host}"}, 200),
                ({"origin": f"https://{host}"}, 403),
                ({"origin": "http://127.0.0.1"}, 403),
                ({"origin": "null"}, 403),
                ({"origin": STRANGER}, 403),
            ):
                assert (await client.ask(call(), headers, host=host)).status == status, headers
            assert len(backend.seen) == 2

    run(story())


@pytest.mark.requirement("AG-35")
def test_named_origins_pass_both_rules_and_a_star_does_not() -> None:
    """The preset and plain blocks alike, as long as no csrf block says otherwise; the preset even then."""
    elsewhere = {"additionalOrigins": ["http://other.example"]}
    plain = {"allowOrigins": [UI], "allowHeaders": ["*"]}

    async def story() -> None:
        for cors, csrf, origin, status in (
            (block(UI), None, UI, 200),
            (block(UI), elsewhere, UI, 200),
            (plain, None, UI, 200),
            (plain, elsewhere, UI, 403),
            (block("*"), None, UI, 403),
            ({"allowOrigins": ["*"]}, None, UI, 403),
            (block("*", UI), None, UI, 200),
            (block("*", UI), None, STRANGER, 403),
            (block("*"), {"additionalOrigins": ["*"]}, STRANGER, 200),
            (block("*"), {"additionalOrigins": ["*"]}, "null", 403),
            (None, {"additionalOrigins": [UI]}, UI, 403),
        ):
            extra = {} if cors is None else {"cors": cors}
            extra |= {} if csrf is None else {"csrf": csrf}
            async with pair(polite, **extra) as (gate, _), connected(gate) as client:
                for site in ({}, {"sec-fetch-site": "cross-site"}):
                    answer = await client.ask(call(), {**of_page(origin), **site})
                    assert answer.status == status, (cors, csrf, origin)

    run(story())


@pytest.mark.requirement("AG-41")
def test_behind_a_proxy_that_ends_tls_the_outside_origin_is_ours() -> None:
    """Only from a trusted proxy, in both families of headers; the record has the client's own address."""
    standard = {"forwarded": f"for={CLIENT};proto=https;host=gate.example"}
    trusting = {"trustedProxies": ["127.0.0.0/8"]}

    async def story() -> None:
        for block_, fields, status in (
            (trusting, FORWARDED, 200),
            (trusting, standard, 200),
            (trusting, {**FORWARDED, **standard}, 200),
            ({**trusting, "publicUrl": GATE}, FORWARDED, 200),
            ({**trusting, "hosts": ["gate.example"]}, FORWARDED, 200),
            ({}, FORWARDED, 403),
            ({}, standard, 403),
            ({"trustedProxies": ["10.0.0.0/8"]}, FORWARDED, 403),
            (trusting, {**FORWARDED, "x-forwarded-proto": "http"}, 403),
            (trusting, {**FORWARDED, "x-forwarded-host": "other.example"}, 403),
            ({**trusting, "hosts": ["other.example"]}, FORWARDED, 403),
            (trusting, {**FORWARDED, "forwarded": "for=1.1.1.1"}, 400),
            (trusting, {"forwarded": "for=1.1.1.1;;host"}, 400),
        ):
            async with pair(polite, gateway_block=block_) as (gate, backend), connected(gate) as client:
                for _ in range(2):
                    answer = await client.ask(call(), {"origin": GATE, **fields})
                    assert answer.status == status, (block_, fields)
                    believed = "trustedProxies" in block_ and "10.0.0.0/8" not in block_["trustedProxies"]
                    expected = CLIENT if believed and status != 400 else "127.0.0.1"
                    assert records(gate)[-1]["source"] == expected
                assert (len(backend.seen) > 0) == (status == 200)
                assert all("x-forwarded-for" not in seen.fields for seen in backend.seen)

    run(story())


def test_clients_behind_one_proxy_are_told_apart() -> None:
    """One connection of a trusted proxy carries many clients; each request has its own source, remembered or not."""

    async def story() -> None:
        trusting = {"trustedProxies": ["127.0.0.1"]}
        async with pair(polite, gateway_block=trusting) as (gate, _), connected(gate) as client:
            for _ in range(3):
                for source in ("198.51.100.1", "198.51.100.2", "2001:db8::1"):
                    answer = await client.ask(call(), {"x-forwarded-for": f"8.8.8.8, {source}"})
                    assert answer.status == 200
                    assert records(gate)[-1]["source"] == source

    run(story())


def test_a_remembered_head_is_judged_anew_for_another_peer() -> None:
    """What a trusted proxy may say, the same bytes of somebody else may not."""

    async def story() -> None:
        async with pair(polite, gateway_block={"trustedProxies": ["127.0.0.1"]}) as (gate, _), connected(gate) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port, local_addr=("127.0.0.2", 0))
            stranger = Client(reader, writer)
            for _ in range(2):
                for client, source in ((proxy, CLIENT), (stranger, "127.0.0.2")):
                    assert (await client.ask(call(), FORWARDED)).status == 200
                    assert records(gate)[-1]["source"] == source
                for client, status in ((proxy, 200), (stranger, 403)):
                    assert (await client.ask(call(), {**FORWARDED, "origin": GATE})).status == status
            stranger.vanish()

    run(story())


@pytest.mark.requirement("AG-42")
def test_a_rebound_name_gets_nowhere_whatever_it_writes() -> None:
    """A page on a name that resolves to us is same-origin to its browser; Host gives it away, no header helps."""

    async def story() -> None:
        for gateway_block in ({}, {"trustedProxies": ["10.0.0.0/8"]}, {"cors": block("*")}):
            async with pair(polite, gateway_block=gateway_block) as (gate, backend), connected(gate) as client:
                host = f"rebound.example:{gate.port}"
                page = {"origin": f"http://{host}", "sec-fetch-site": "same-origin"}
                for more in (
                    {},
                    FORWARDED,
                    {"x-forwarded-host": f"127.0.0.1:{gate.port}"},
                    {"forwarded": "host=localhost"},
                ):
                    for method, body in (("POST", call()), ("GET", None), ("OPTIONS", None)):
                        headers = {**page, **more, "access-control-request-method": "POST"}
                        answer = await client.ask(body, headers, method=method, host=host)
                        assert answer.failure == (403, "denied")
                        assert b"gateway.hosts" not in answer.body
                        assert allowed(answer) is None
                assert not backend.connections

    run(story())


@pytest.mark.requirement("AG-42")
def test_a_name_rebound_to_a_proxy_gets_nowhere_where_the_names_are_known() -> None:
    """A proxy that passes on what a page writes under X-Forwarded-Host: it is no name of the gateway."""
    knowing = {"trustedProxies": ["127.0.0.1"], "publicUrl": GATE}

    async def story() -> None:
        async with pair(polite, gateway_block=knowing) as (gate, backend), connected(gate) as client:
            headers = {"origin": "http://rebound.example", "x-forwarded-host": "rebound.example"}
            for method, body in (("POST", call()), ("GET", None)):
                answer = await client.ask(body, headers, method=method)
                assert answer.failure == (403, "denied")
                assert "gateway.hosts: [rebound.example]" in records(gate)[-1]["detail"]
            assert not backend.connections

    run(story())
