"""Token buckets: how many requests a caller may make, and what is remembered of callers."""

from __future__ import annotations

import pytest

from moongate.errors import FailureClass
from moongate.model.exchange import Exchange
from moongate.model.principal import Principal
from moongate.policies import rate
from moongate.policies.base import Verdict
from moongate.policies.rate import BucketConfig, RateLimit, RateLimitConfig
from tests.policies.heads import exchange


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limit(*buckets: tuple[int, int, float], by_source: bool = True) -> tuple[RateLimit, Clock]:
    """Buckets of (size, fill, interval), and their clock."""
    clock = Clock()
    configs = tuple(BucketConfig(*bucket, setting=f"here[{index}]") for index, bucket in enumerate(buckets))
    return RateLimit(RateLimitConfig(configs), by_source=by_source, now=clock), clock


def from_source(source: str = "192.0.2.1") -> Exchange:
    """A request that came from an address."""
    found = exchange({})
    found.source = source
    return found


def allowed(verdict: Verdict) -> bool:
    """Whether it goes on; a refusal is always of the one class."""
    assert verdict.refusal is None or verdict.refusal.failure is FailureClass.RATE_LIMITED
    return verdict.refusal is None


def retry_after(verdict: Verdict) -> int:
    """The seconds that a refusal names."""
    assert verdict.refusal is not None
    return int(dict(verdict.refusal.headers)[b"retry-after"])


def test_a_bucket_begins_full_and_is_filled_at_each_interval() -> None:
    """Three at once, then two more every ten seconds, never more than three."""
    counters, clock = limit((3, 2, 10.0))
    for seconds, expected in ((0, [True] * 3 + [False]), (9.9, [False]), (0.1, [True, True, False])):
        clock.now += seconds
        assert [allowed(counters.judge(from_source())) for _ in expected] == expected
    clock.now += 1000
    assert [allowed(counters.judge(from_source())) for _ in range(4)] == [True] * 3 + [False]


WAITS = [
    # Size, fill, interval; seconds that passed since the last fill; messages at once; seconds until it is worth trying.
    ((1, 1, 10.0), 0.0, 1, 10),
    ((1, 1, 10.0), 9.5, 1, 1),
    ((1, 1, 0.2), 0.0, 1, 1),
    ((4, 1, 10.0), 0.0, 3, 30),
    ((4, 2, 10.0), 4.0, 3, 16),
    ((4, 1, 10.0), 0.0, 9, 40),
    ((1, 1, 86_400.0), 0.0, 1, 86_400),
]


@pytest.mark.parametrize(("bucket", "passed", "count", "seconds"), WAITS)
def test_a_refusal_says_when_to_come_again(
    bucket: tuple[int, int, float], passed: float, count: int, seconds: int
) -> None:
    """Whole seconds, rounded up, at least one."""
    counters, clock = limit(bucket)
    assert allowed(counters.judge_messages(from_source(), bucket[0]))
    clock.now += passed
    assert retry_after(counters.judge_messages(from_source(), count)) == seconds


@pytest.mark.parametrize("bucket", [(4, 1, 10.0), (5, 3, 0.7), (100, 7, 60.0)])
def test_who_comes_again_when_told_is_let_in(bucket: tuple[int, int, float]) -> None:
    """Not a moment too early: the clock stands exactly where Retry-After said."""
    counters, clock = limit(bucket)
    for _ in range(50):
        verdict = counters.judge_messages(from_source(), 2)
        if not allowed(verdict):
            clock.now += retry_after(verdict)
            assert allowed(counters.judge_messages(from_source(), 2))
        clock.now += 0.01


def test_all_buckets_must_hold_enough_and_a_refusal_takes_nothing() -> None:
    """The small one refuses, and the large one is as full as before; the setting is the one that refused."""
    counters, clock = limit((1, 1, 1.0), (3, 1, 3600.0))
    for _ in range(3):
        assert allowed(counters.judge(from_source()))
        for _ in range(5):
            verdict = counters.judge(from_source())
            assert not allowed(verdict)
            assert verdict.setting.startswith("here[0]: ")
        clock.now += 1.0
    verdict = counters.judge(from_source())
    assert verdict.setting == "here[1]: maxTokens, tokensPerFill or fillInterval"
    assert "3 at once, 1 more every 3600 s" in verdict.reason
    assert retry_after(verdict) == 3597


def test_an_array_counts_for_each_element_all_or_none() -> None:
    """Five of ten, then six are too many and take none, then five."""
    counters, _ = limit((10, 1, 60.0))
    assert [allowed(counters.judge_messages(from_source(), count)) for count in (5, 6, 5, 1)] == [
        True,
        False,
        True,
        False,
    ]


SAME = [
    # Two addresses, whether they are one caller.
    ("192.0.2.1", "192.0.2.1", True),
    ("192.0.2.1", "192.0.2.2", False),
    ("192.0.2.1", "::ffff:192.0.2.1", True),
    ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
    ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
    ("fe80::1%eth0", "fe80::2%eth1", True),
    ("::1", "127.0.0.1", False),
    ("", "192.0.2.1", False),
    ("unknown", "unknown", True),
]


@pytest.mark.parametrize(("one", "other", "same"), SAME)
def test_sources(one: str, other: str, same: bool) -> None:
    """An IPv4 address however it is written; of IPv6 the /64, in which one machine can take any address it likes."""
    counters, _ = limit((1, 1, 60.0))
    assert allowed(counters.judge(from_source(one)))
    assert allowed(counters.judge(from_source(other))) != same


def test_principals_are_told_apart_by_name_wherever_they_are() -> None:
    """Alice has one allowance from two addresses; Bob has his own from the same."""
    counters, _ = limit((1, 1, 60.0), by_source=False)
    found = []
    for name, source in (("alice", "192.0.2.1"), ("alice", "192.0.2.2"), ("bob", "192.0.2.1"), ("bob", "192.0.2.1")):
        request = from_source(source)
        request.principal = Principal(name, name)
        found.append(allowed(counters.judge(request)))
    assert found == [True, False, True, False]


def test_what_is_remembered_of_callers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller who was away longest is forgotten; who keeps coming is not, however many strangers come."""
    monkeypatch.setattr(rate, "MAX_CALLERS", 3)
    counters, _ = limit((1, 1, 3600.0))
    assert allowed(counters.judge(from_source("192.0.2.1")))
    for number in range(50):
        assert not allowed(counters.judge(from_source("192.0.2.1")))
        assert allowed(counters.judge(from_source(f"198.51.100.{number}")))
    assert len(vars(counters)["_callers"]) == 3


def test_a_verdict_names_the_rule_in_words() -> None:
    """For `moongate explain`, without a setting where nothing is wrong."""
    counters, _ = limit((3, 2, 10.0))
    verdict = counters.judge(from_source())
    assert (verdict.policy, verdict.setting) == ("localRateLimit", "")
    assert verdict.reason == "within the limit for each source: 3 at once, 2 more every 10 s"
