"""Which Host may stand in a request to the gateway."""

from __future__ import annotations

import pytest

from moongate.errors import FailureClass
from moongate.policies.host import HostPolicy
from tests.policies.heads import exchange
from tests.proxy.talk import call, connected, log_lines, pair, polite, records, run

HOSTS = [
    # Host, the address that the connection came in on, whether it may.
    ("127.0.0.1", "127.0.0.1", True),
    ("127.0.0.1:8000", "127.0.0.1", True),
    ("localhost", "127.0.0.1", True),
    ("LOCALHOST:1", "127.0.0.1", True),
    ("localhost.", "127.0.0.1", True),
    ("[::1]:8000", "::1", True),
    ("localhost", "::1", True),
    ("127.0.0.1", "::1", True),
    ("[::1]", "127.0.0.1", True),
    ("192.0.2.7:80", "192.0.2.7", True),
    ("192.0.2.7", "::ffff:192.0.2.7", True),
    ("[2001:db8::7]", "2001:db8::7", True),
    ("moon.example", "192.0.2.7", True),
    ("MOON.example.:99", "192.0.2.7", True),
    ("moon.example", "127.0.0.1", True),
    ("localhost", "192.0.2.7", False),
    ("127.0.0.1", "192.0.2.7", False),
    ("[::1]", "2001:db8::7", False),
    ("evil.example", "127.0.0.1", False),
    ("evil.example", "192.0.2.7", False),
    ("192.0.2.8", "192.0.2.7", False),
    ("127.0.0.2", "127.0.0.1", False),
    ("127.0.0.1.evil.example", "127.0.0.1", False),
    ("localhost.evil.example", "127.0.0.1", False),
    ("xmoon.example", "127.0.0.1", False),
    ("sub.moon.example", "127.0.0.1", False),
    ("moon.example.evil", "127.0.0.1", False),
    ("0.0.0.0", "127.0.0.1", False),
    ("2130706433", "127.0.0.1", False),
    ("127.1", "127.0.0.1", False),
    ("", "127.0.0.1", False),
]


@pytest.mark.parametrize(("host", "local", "allowed"), HOSTS)
@pytest.mark.requirement("AG-42")
def test_host(host: str, local: str, allowed: bool) -> None:
    """Loopback names on loopback addresses, the address itself, and the configured names; nothing else."""
    verdict = HostPolicy(frozenset({"moon.example"})).judge(exchange({"host": host}, local=local))
    assert (verdict.refusal is None) == allowed
    if verdict.refusal is not None:
        assert verdict.refusal.failure is FailureClass.DENIED
        assert "gateway.hosts" in verdict.setting


def test_http_1_0_without_host_passes() -> None:
    """Browsers, which rebinding fools, always send one."""
    assert HostPolicy(frozenset()).judge(exchange({})).refusal is None


@pytest.mark.requirement("AG-42")
def test_a_refusal_names_nothing_to_the_client_and_the_setting_to_the_operator() -> None:
    """403 without the body being read; log and record say which key to set."""

    async def story() -> None:
        with log_lines() as log:
            async with pair(polite) as (gate, backend), connected(gate) as client:
                answer = await client.ask(call(), host="rebound.example")
                assert answer.failure == (403, "denied")
                assert "id" not in answer.message
                assert b".example" not in client.raw
                assert b"gateway." not in client.raw
                assert records(gate)[-1]["failure"] == "denied"
                assert "gateway.hosts: [rebound.example]" in records(gate)[-1]["detail"]
                assert not backend.connections
            assert "gateway.hosts: [rebound.example]" in log.getvalue()

    run(story())


@pytest.mark.requirement("AG-42")
def test_configured_names_are_let_in() -> None:
    """`gateway.hosts` and the host of `gateway.publicUrl`."""
    block = {"hosts": ["Moon.example"], "publicUrl": "https://gate.example/base"}

    async def story() -> None:
        async with pair(polite, gateway_block=block) as (gate, _), connected(gate) as client:
            for host, status in (
                ("moon.EXAMPLE:81", 200),
                ("gate.example", 200),
                ("localhost:1", 200),
                ("other.example", 403),
            ):
                assert (await client.ask(call(), host=host)).status == status
            assert (await client.ask(call(), {"origin": "https://gate.example"}, host="gate.example")).status == 200

    run(story())
