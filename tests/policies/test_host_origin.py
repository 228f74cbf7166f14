"""Which Host and which Origin may speak to the gateway."""

from __future__ import annotations

import pytest

from moongate.errors import FailureClass
from moongate.model.exchange import Exchange
from moongate.policies.host import HostPolicy
from moongate.policies.origin import OriginPolicy
from tests.proxy.talk import call, connected, log_lines, pair, polite, records, run


def exchange(
    fields: dict[str, str],
    *,
    local: str = "127.0.0.1",
    secure: bool = False,
    more: list[tuple[bytes, bytes]] | None = None,
) -> Exchange:
    """A request with these header fields that came in on `local`."""
    return Exchange(
        request_id="r",
        time=0.0,
        started=0.0,
        source="192.0.2.1",
        method="POST",
        path="/mcp/one",
        fields={name.encode(): value.encode("latin-1") for name, value in fields.items()},
        more=more or [],
        local_host=local,
        secure=secure,
    )


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


ORIGINS = [
    # Origin, Host, TLS, publicUrl, whether it may.
    ("http://127.0.0.1:8000", "127.0.0.1:8000", False, None, True),
    ("http://moon.example", "moon.example", False, None, True),
    ("http://moon.example:80", "moon.example", False, None, True),
    ("http://MOON.example", "moon.example:80", False, None, True),
    ("https://moon.example", "moon.example", True, None, True),
    ("https://moon.example:443", "moon.example:443", True, None, True),
    ("http://[::1]:8000", "[::1]:8000", False, None, True),
    ("https://gate.example", "127.0.0.1", False, "https://gate.example/base", True),
    ("https://gate.example:8443", "127.0.0.1", False, "https://gate.example:8443", True),
    ("http://127.0.0.1:8001", "127.0.0.1:8000", False, None, False),
    ("https://moon.example", "moon.example", False, None, False),
    ("http://moon.example", "moon.example", True, None, False),
    ("http://localhost:8000", "127.0.0.1:8000", False, None, False),
    ("http://evil.example", "moon.example", False, None, False),
    ("http://moon.example.evil", "moon.example", False, None, False),
    ("null", "moon.example", False, None, False),
    ("", "moon.example", False, None, False),
    ("*", "moon.example", False, None, False),
    ("http://moon.example/", "moon.example", False, None, False),
    ("http://moon.example@evil.example", "moon.example", False, None, False),
    ("http://moon.example http://evil.example", "moon.example", False, None, False),
    ("moon.example", "moon.example", False, None, False),
    ("file://moon.example", "moon.example", False, None, False),
    ("http://gate.example", "127.0.0.1", False, "https://gate.example", False),
    ("https://gate.example:444", "127.0.0.1", False, "https://gate.example", False),
    ("http://moon.example:8O", "moon.example", False, None, False),
]


@pytest.mark.parametrize(("origin", "host", "secure", "public", "allowed"), ORIGINS)
def test_origin(origin: str, host: str, secure: bool, public: str | None, allowed: bool) -> None:
    """Scheme, host and port must be the gateway's own; a foreign, opaque or odd origin is 403."""
    verdict = OriginPolicy(public).judge(exchange({"host": host, "origin": origin}, secure=secure))
    assert (verdict.refusal is None) == allowed
    if verdict.refusal is not None:
        assert verdict.refusal.failure is FailureClass.DENIED


def test_two_origins_are_refused() -> None:
    """Even where the first is ours."""
    fields = {"host": "moon.example", "origin": "http://moon.example"}
    assert OriginPolicy(None).judge(exchange(fields, more=[(b"origin", b"http://moon.example")])).refusal is not None


@pytest.mark.requirement("AG-42")
def test_a_refusal_names_nothing_to_the_client_and_the_setting_to_the_operator() -> None:
    """403 without the body being read; the log says which key to set; the record says denied."""

    async def story() -> None:
        with log_lines() as log:
            async with pair(polite) as (gate, backend):
                for host, headers in (("rebound.example", {}), ("127.0.0.1", {"origin": "http://page.example"})):
                    async with connected(gate) as client:
                        answer = await client.ask(call(), headers, host=host)
                        assert answer.failure == (403, "denied")
                        assert "id" not in answer.message
                        assert b".example" not in client.raw
                        assert b"gateway." not in client.raw
                        assert records(gate)[-1]["failure"] == "denied"
                assert not backend.connections
            assert "gateway.hosts: [rebound.example]" in log.getvalue()
            assert "gateway.publicUrl" in log.getvalue()

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
