"""Forged requests: the cases of OWASP's guidance on Fetch Metadata and on verifying the origin, as a table."""

from __future__ import annotations

import pytest

from moongate.errors import FailureClass
from moongate.policies.csrf import CsrfConfig, CsrfPolicy
from moongate.policies.origins import OriginSet, OwnOrigin
from tests.policies.heads import exchange

OWN = "http://gate.example:8000"
FRIEND = "https://ui.example"
UNDER = "https://a.apps.example"
STRANGER = "https://evil.example"
SITES = [None, "same-origin", "same-site", "cross-site", "none", "Same-Origin", "", "garbage", "same-origin, none"]
ORIGINS = [None, OWN, FRIEND, UNDER, STRANGER, "null", "garbage", f"{OWN}/", f"{OWN} {STRANGER}"]


def policy(*origins: str, named: tuple[str, ...] = ()) -> CsrfPolicy:
    """A csrf block with these additional origins."""
    return CsrfPolicy(CsrfConfig(origins, "here.csrf", written=True), OwnOrigin(), OriginSet(named))


def passes(origin: str | None, site: str | None) -> bool:
    """What the rule says, spelled out once more and flatly."""
    if site in {"same-origin", "none"}:
        return True
    if origin in {FRIEND, UNDER}:
        return True
    return site is None and origin in {None, OWN}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "TRACE", "post", "QUERY"])
@pytest.mark.requirement("AG-40", "AG-41")
def test_what_may_change_something(method: str, origin: str | None, site: str | None) -> None:
    """Fetch Metadata first; without it the origin; a stranger, null and nonsense never."""
    fields = {"host": "gate.example:8000"}
    fields |= {} if origin is None else {"origin": origin}
    fields |= {} if site is None else {"sec-fetch-site": site}
    verdict = policy(FRIEND, "https://*.apps.example").judge(exchange(fields, method=method))

    assert (verdict.refusal is None) == passes(origin, site)
    if verdict.refusal is not None:
        assert verdict.refusal.failure is FailureClass.DENIED
        if origin == STRANGER:
            assert verdict.setting == f"here.csrf.additionalOrigins: [{STRANGER}]"


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.requirement("AG-40")
def test_what_changes_nothing_passes(method: str, origin: str | None, site: str | None) -> None:
    """Whoever asks: whether a page may read the answer is for cors."""
    fields = {"host": "gate.example:8000"}
    fields |= {} if origin is None else {"origin": origin}
    fields |= {} if site is None else {"sec-fetch-site": site}
    assert policy().judge(exchange(fields, method=method)).refusal is None


def test_repeated_headers_prove_nothing() -> None:
    """A second Origin, or a second Sec-Fetch-Site, was not written by a browser."""
    twice = exchange({"host": "gate.example", "origin": FRIEND}, more=[(b"origin", FRIEND.encode())])
    assert policy(FRIEND).judge(twice).refusal is not None
    twice = exchange(
        {"host": "gate.example", "sec-fetch-site": "same-origin"}, more=[(b"sec-fetch-site", b"cross-site")]
    )
    assert policy(FRIEND).judge(twice).refusal is not None


@pytest.mark.requirement("AG-40")
def test_the_own_origin_does_not_help_against_what_the_browser_says() -> None:
    """`Sec-Fetch-Site: cross-site` from our own origin: only `additionalOrigins` lets it in."""
    fields = {"host": "gate.example:8000", "origin": OWN, "sec-fetch-site": "cross-site"}
    assert policy().judge(exchange(fields)).refusal is not None
    assert policy(OWN).judge(exchange(fields)).refusal is None


@pytest.mark.requirement("AG-41")
def test_behind_a_proxy_the_outside_counts() -> None:
    """Scheme and host that a trusted proxy forwarded are the gateway's own origin."""
    outside = exchange({"host": "10.0.0.5", "origin": "https://gate.example"}, secure=True, outer_host="gate.example")
    assert policy().judge(outside).refusal is None
    inside = exchange({"host": "10.0.0.5", "origin": "https://gate.example"})
    assert policy().judge(inside).refusal is not None


@pytest.mark.parametrize("site", [None, "cross-site"])
def test_origins_that_cors_names_pass_and_its_star_does_not(site: str | None) -> None:
    """The preset's origins, and those of a plain cors block where there is no csrf block."""
    fields = {"host": "gate.example", **({} if site is None else {"sec-fetch-site": site})}
    judge = policy(named=(FRIEND, "*")).judge
    assert judge(exchange({**fields, "origin": FRIEND})).refusal is None
    assert judge(exchange({**fields, "origin": STRANGER})).refusal is not None
    assert judge(exchange({**fields, "origin": "null"})).refusal is not None


def test_a_star_of_its_own_lets_every_page_in_but_null() -> None:
    """Only what the operator wrote under csrf opens it, and a sandboxed frame stays outside."""
    judge = policy("*").judge
    fields = {"host": "gate.example", "sec-fetch-site": "cross-site"}
    assert judge(exchange({**fields, "origin": STRANGER})).refusal is None
    assert judge(exchange({**fields, "origin": "null"})).refusal is not None
    assert judge(exchange(fields)).refusal is not None
