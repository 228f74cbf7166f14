"""The redactor against those who choose the texts: it is as quick as the texts are long, and sees through spellings."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

import msgspec
import pytest

from moongate.audit.redact import MAX_ARGUMENTS, Redactor, mask
from moongate.control.platform.masks import masked

EVIL = {
    "tokens without an end": "eyJ-",
    "tokens without a signature": "eyJaaaaaaaa.",
    "names without a value": "a-",
    "names of secrets": "token",
    "values that are too short": 'token=a"',
    "bearers": "bearer ",
    "blanks": "bearer" + " " * 100,
    "addresses": "://a:b",
    "digits": "f0" * 40 + "g ",
    "zeros": "0",
    "mixed": "aA1-,",
    "encoded": "%41",
    "encoded twice": "%2541",
}
MANY = ["sk-live-" + f"{random.Random(number).randrange(10**12):012}" for number in range(1000)]


def seconds(work: Callable[[], object]) -> float:
    """The shortest of some."""
    found = []
    for _ in range(5):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return min(found)


@pytest.mark.parametrize("unit", EVIL)
def test_a_text_costs_what_it_is_long(unit: str) -> None:
    """Eight times the text, some eight times the time; squared it would be sixty-four."""
    few, many = Redactor(MANY[:3]), Redactor(MANY)
    short, long = ((EVIL[unit] * length)[:length] for length in (4_000, 32_000))
    for work in (few.clean, many.clean):
        assert seconds(partial(work, long)) < 24 * seconds(partial(work, short))


def test_many_secrets_cost_hardly_more_than_one() -> None:
    """Also if a text is full of their beginnings."""
    text = "sk-l " * 400
    few, many = Redactor(MANY[:1]), Redactor(MANY)
    assert seconds(lambda: many.clean(text)) < 8 * seconds(lambda: few.clean(text))
    for secret in MANY[::100]:
        assert many.clean(f"<{secret}>{secret}x") == f"<{mask(secret)}>{mask(secret)}x"
    longer = Redactor([*MANY, MANY[0] + "0"])
    assert longer.clean(MANY[0] + "0") == mask(MANY[0] + "0")


def test_huge_arguments_cost_what_is_recorded_of_them() -> None:
    """The rest is not looked at."""
    redactor = Redactor(MANY)
    for unit in EVIL.values():
        whole = json.dumps({"x": (unit * MAX_ARGUMENTS)[: MAX_ARGUMENTS // 2]}).encode()
        part = json.dumps({"x": (unit * MAX_ARGUMENTS)[: MAX_ARGUMENTS // 8]}).encode()
        assert seconds(partial(redactor.arguments, msgspec.Raw(whole))) < 8 * seconds(
            partial(redactor.arguments, msgspec.Raw(part))
        )


def test_masks_for_the_console_cost_what_a_text_is_long() -> None:
    """The same shape in a configuration that somebody writes."""
    short, long = ({"args": ["x " + "eyJ-" * count]} for count in (2_000, 16_000))
    assert seconds(lambda: masked(long)) < 24 * seconds(lambda: masked(short))


def spelt(text: str, digits: str = "02X") -> str:
    """Each character with percent."""
    return "".join(f"%{byte:{digits}}" for byte in text.encode())


@pytest.mark.requirement("PM-51")
def test_percent_hides_nothing() -> None:
    """All of a secret, parts of it, capitals or not, several times over; known ones and what looks like one."""
    known, shaped = "Zx9-" + "q7Lw/3+e" * 2, "mg_" + "a1B2" * 9
    for redactor in (Redactor([known]), Redactor([known, *MANY])):
        for secret in (known, shaped):
            ways = [spelt(secret), spelt(secret, "02x"), spelt(spelt(secret)), secret[:5] + spelt(secret[5:])]
            for way in (*ways, quote(secret, safe="")):
                cleaned = redactor.clean(f"/mcp/one/{way}/x")
                assert cleaned == f"/mcp/one/{mask(secret)}/x"
                assert redactor.clean(cleaned) == cleaned
    assert Redactor([known]).clean("/a%20b/%C3%A4") == "/a%20b/%C3%A4"


def test_what_is_decoded_makes_no_new_line() -> None:
    """A log line stays one."""
    cleaned = Redactor(["moonrise"]).clean("/%6doonrise%0AERROR%1b[2J%C2%85%E2%80%A8x")
    assert cleaned == f"/{mask('moonrise')}%0AERROR%1B[2J%C2%85%E2%80%A8x"


def test_no_half_of_an_encoded_secret_is_left_at_a_cut() -> None:
    """Wherever it is cut."""
    secret = "moonrise" * 4
    redactor = Redactor([secret])
    for before in range(1850, 2060):
        short = redactor.short("m" * before + spelt(secret) + "m" * 3000, 512)
        assert len(short) <= 512
        assert "%6" not in short
    # Masks are shorter than what they stand for.
    short = redactor.short(spelt(secret) * 50, 512)
    assert "%6" not in short


@pytest.mark.requirement("PM-51")
def test_all_below_a_name_of_a_secret_is_one() -> None:
    """Lists, members, numbers; and pairs of a name and a value."""
    given = {
        "password": {"a": "hunter22", "on": True, "none": None},
        "tokens": ["abcdefgh", [17]],
        "list": [{"name": "password", "value": "hunter33"}, {"Key": "api_key", "Value": ["x1", {"y": "z"}]}],
        "plain": [{"name": "colour", "value": "blue"}, {"name": "token", "note": "of the moon"}],
    }
    assert json.loads(Redactor().arguments(msgspec.Raw(json.dumps(given).encode()))) == {
        "password": {"a": mask("hunter22"), "on": True, "none": None},
        "tokens": [mask("abcdefgh"), [mask("17")]],
        "list": [
            {"name": "password", "value": mask("hunter33")},
            {"Key": "api_key", "Value": [mask("x1"), {"y": mask("z")}]},
        ],
        "plain": [{"name": "colour", "value": "blue"}, {"name": "token", "note": "of the moon"}],
    }
