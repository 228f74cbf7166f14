"""Whose word about the client counts: proxies that are trusted, from the right, and nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from moongate.errors import FailureClass, Refusal
from moongate.policies.trust import OuterHostPolicy, Outside, Trust, is_local
from tests.policies.heads import exchange

TRUST = Trust(["10.0.0.0/8", "192.0.2.9", "2001:db8::/32"])
PEER = "10.0.0.1"


def outside(peer: str = PEER, **fields: str) -> Outside | None:
    """What counts of these header fields, `_` for `-` in their names."""
    lines = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in fields.items()}
    return TRUST.outside(peer, lines, [])


@pytest.mark.parametrize("peer", ["198.51.100.1", "127.0.0.1", "::1", "192.0.2.8", "2001:db9::1", "", "unknown"])
def test_a_stranger_is_not_believed(peer: str) -> None:
    """As if the headers were not there, also where they are broken."""
    assert outside(peer, x_forwarded_for="1.2.3.4", x_forwarded_proto="https", x_forwarded_host="evil.example") is None
    assert outside(peer, forwarded="for=1.2.3.4;host=evil.example") is None
    assert outside(peer, forwarded="for=1.2.3.4;;;=", x_forwarded_proto="gopher") is None


def test_nothing_forwarded_is_nothing_known() -> None:
    """Also from a trusted proxy."""
    assert outside(host="gate.example") is None


USUAL = [
    ("198.51.100.7", "198.51.100.7"),
    ("198.51.100.7:4711", "198.51.100.7"),
    ("[2001:db9::7]:4711", "2001:db9::7"),
    ("2001:DB9:0::7", "2001:db9::7"),
    ("::ffff:198.51.100.7", "198.51.100.7"),
    ("1.1.1.1, 198.51.100.7", "198.51.100.7"),
    ("127.0.0.1, 198.51.100.7", "198.51.100.7"),
    ("1.1.1.1, 198.51.100.7, 10.9.9.9, 192.0.2.9", "198.51.100.7"),
    ("198.51.100.7, 2001:db8::1", "198.51.100.7"),
    ("10.0.0.2, 10.0.0.3", "10.0.0.2"),
    ("unknown, 10.0.0.3", "10.0.0.3"),
    ("1.1.1.1, nonsense", ""),
    ("198.51.100.7, ", ""),
    ("", ""),
]


@pytest.mark.parametrize(("value", "source"), USUAL)
def test_the_client_is_the_last_that_no_trusted_proxy_vouches_for(value: str, source: str) -> None:
    """Read from the right; what a client writes itself stands further left and is not reached."""
    found = outside(x_forwarded_for=value)
    assert (found.source if found else "") == source


def test_repeated_lines_are_one_list() -> None:
    """In their order."""
    found = TRUST.outside(PEER, {b"x-forwarded-for": b"1.1.1.1"}, [(b"x-forwarded-for", b"198.51.100.7, 10.0.0.2")])
    assert found is not None
    assert found.source == "198.51.100.7"


@pytest.mark.parametrize(
    ("proto", "host", "client", "expected"),
    [
        ("https", "gate.example", "198.51.100.7", (True, "gate.example")),
        ("HTTP", "Gate.Example:8443", "198.51.100.7", (False, "gate.example:8443")),
        ("https", "", "198.51.100.7", (True, "")),
        ("gopher, https", "evil.example, gate.example", "198.51.100.7", (True, "gate.example")),
        ("https, http", "gate.example, inner", "198.51.100.7, 10.0.0.2", (True, "gate.example")),
        ("https", "gate.example", "198.51.100.7, 10.0.0.2", (True, "gate.example")),
        ("http, https, http", "a, gate.example, c", "1.1.1.1, 198.51.100.7, 10.0.0.2", (True, "gate.example")),
        ("https", "[2001:db8::7]:443", "", (True, "[2001:db8::7]:443")),
    ],
)
@pytest.mark.requirement("AG-41")
def test_scheme_and_host_are_those_of_the_outermost_trusted_proxy(
    proto: str, host: str, client: str, expected: tuple[bool, str]
) -> None:
    """What stands further left came with the request."""
    fields = {"x_forwarded_proto": proto, "x_forwarded_host": host, "x_forwarded_for": client}
    found = outside(**{name: value for name, value in fields.items() if value})
    assert found is not None
    assert (found.secure, found.host) == expected


STANDARD = [
    ("for=198.51.100.7", Outside("198.51.100.7")),
    ('For="198.51.100.7:4711";Proto=https;Host=gate.example', Outside("198.51.100.7", True, "gate.example")),
    ('for="[2001:db9::7]:4711"; proto=http ; by=10.0.0.1', Outside("2001:db9::7", False)),
    ("for=1.1.1.1;proto=http, for=198.51.100.7;proto=https", Outside("198.51.100.7", True)),
    (
        "for=198.51.100.7;proto=https;host=gate.example, for=10.0.0.2;proto=http;host=inner",
        Outside("198.51.100.7", True, "gate.example"),
    ),
    ("for=198.51.100.7, for=10.0.0.2;proto=https;host=gate.example", Outside("198.51.100.7", True, "gate.example")),
    ("for=unknown;proto=https", Outside("", True)),
    ("for=_hidden, for=10.0.0.2", Outside("10.0.0.2")),
    (
        "host=evil.example, for=1.1.1.1, for=198.51.100.7;host=gate.example",
        Outside("198.51.100.7", None, "gate.example"),
    ),
    ('for="198.51.100.7";host="gate.ex\\ample"', Outside("198.51.100.7", None, "gate.example")),
    (" , for=198.51.100.7 , ", Outside("198.51.100.7")),
]


@pytest.mark.parametrize(("value", "expected"), STANDARD)
@pytest.mark.requirement("AG-41")
def test_forwarded_is_read_as_rfc_7239_writes_it(value: str, expected: Outside) -> None:
    """Elements from the right, quoted strings, any case."""
    assert outside(forwarded=value) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"forwarded": "for=1.1.1.1;for=2.2.2.2"},
        {"forwarded": 'for="x, for=1.1.1.1'},
        {"forwarded": 'for="x, for="1.1.1.1"'},
        {"forwarded": "1.1.1.1"},
        {"forwarded": "for=1.1.1.1 host=gate.example"},
        {"forwarded": "for=1.1.1.1;proto=gopher"},
        {"forwarded": 'for=1.1.1.1;host="gate.example/x"'},
        {"forwarded": 'for=1.1.1.1;host="a@b"'},
        {"x_forwarded_proto": "https;"},
        {"x_forwarded_host": "gate.example/x"},
        {"x_forwarded_host": "http://gate.example"},
        {"x_forwarded_host": "gate.example:x"},
        {"x_forwarded_for": "1.1.1.1", "forwarded": "for=2.2.2.2"},
        {"x_forwarded_proto": "http", "forwarded": "proto=https"},
        {"x_forwarded_host": "a.example", "forwarded": "host=b.example"},
    ],
    ids=str,
)
def test_what_two_readers_could_read_differently_is_refused(fields: dict[str, str]) -> None:
    """Broken, or two families that disagree: one of them is the client's invention."""
    with pytest.raises(Refusal) as caught:
        outside(**fields)
    assert caught.value.failure is FailureClass.BAD_REQUEST


def test_two_families_that_agree_complete_each_other() -> None:
    """One says who, the other what was asked for."""
    found = outside(
        forwarded="for=198.51.100.7;proto=https", x_forwarded_for="198.51.100.7", x_forwarded_host="gate.example"
    )
    assert found == Outside("198.51.100.7", True, "gate.example")


HOPS = some.lists(some.sampled_from(["10.0.0.2", "192.0.2.9", "2001:db8::5"]), max_size=3)
CLAIMED = some.lists(some.one_of(some.ip_addresses().map(str), some.text(max_size=8)), max_size=4)


@given(claimed=CLAIMED, hops=HOPS)
def test_a_client_cannot_move_itself(claimed: list[str], hops: list[str]) -> None:
    """Whatever it writes, the address that the first trusted proxy saw is its address."""
    value = ", ".join([*claimed, "198.51.100.7", *hops]).encode("latin-1", "replace")
    found = TRUST.outside(PEER, {b"x-forwarded-for": value}, [])
    assert found is not None
    assert found.source == "198.51.100.7"


@given(value=some.text(some.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=80))
def test_any_text_is_read_or_refused(value: str) -> None:
    """Never a crash, never a source that is no address."""
    for name in (b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"):
        try:
            found = TRUST.outside(PEER, {name: value.encode("latin-1")}, [])
        except Refusal:
            continue
        assert found is None or not set(found.source + found.host) - set("0123456789abcdefghijklmnopqrstuvwxyz.:[]-_~")


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("", True),
        ("gate.example", True),
        ("gate.example:8443", True),
        ("GATE.example.", True),
        ("inner.example", True),
        ("203.0.113.5", True),
        ("[2001:db8::7]:80", True),
        ("a.wild.example", True),
        ("wild.example", False),
        ("evil.example", False),
        ("gate.example.evil.example", False),
    ],
)
@pytest.mark.requirement("AG-42")
def test_a_forwarded_host_must_be_a_name_of_ours(host: str, allowed: bool) -> None:
    """Where the gateway knows its names: those, the listener's, an address, or what stands in Host anyway."""
    policy = OuterHostPolicy(frozenset({"gate.example"}), "*.wild.example")
    verdict = policy.judge(exchange({"host": "inner.example"}, outer_host=host))
    assert (verdict.refusal is None) == allowed
    if not allowed:
        assert verdict.setting == f"gateway.hosts: [{host}]"


@pytest.mark.parametrize(
    ("local", "peer", "fields", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", {}, True),
        ("::1", "::1", {}, True),
        ("192.0.2.1", "192.0.2.1", {}, False),
        ("127.0.0.1", "127.0.0.1", {"x-forwarded-for": "1.2.3.4"}, False),
        ("127.0.0.1", "127.0.0.1", {"forwarded": "for=1.2.3.4"}, False),
        ("127.0.0.1", "127.0.0.1", {"via": "1.1 proxy"}, False),
    ],
)
def test_who_is_at_this_machine(local: str, peer: str, fields: dict[str, str], expected: bool) -> None:
    """Loopback on both ends, and no proxy that speaks for somebody else."""
    request = exchange(fields, local=local)
    request.peer = peer
    assert is_local(request) == expected
