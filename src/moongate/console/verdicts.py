"""How an explanation is shown to people: each verdict in one word, the setting apart from what is said about it, and
the whole in one sentence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from moongate.console.platform import Explanation

# The outcomes of an explanation (`Explanation.steps`).
OK, FORWARDED, ANSWERED, NOT_GRANTED, REFUSED, NOT_REACHED = (
    "ok",
    "forwarded",
    "answered",
    "not granted",
    "refused",
    "-",
)
# Of a request that was made: it went on, and what came back was no success.
FAILED = "failed"
FINAL = (ANSWERED, NOT_GRANTED, REFUSED)
# Word and kind of each outcome; the kind decides how it looks.
_SHOWN = {
    OK: ("allowed", "good"),
    FORWARDED: ("goes on", "good"),
    ANSWERED: ("answered", "good"),
    NOT_GRANTED: ("not granted", "bad"),
    REFUSED: ("refused", "bad"),
    FAILED: ("failed", "bad"),
    NOT_REACHED: ("not reached", "idle"),
}
_ABOUT = {
    "proxies": "who is behind the proxies",
    "HTTP": "whether it can be read",
    "route": "which instance it is for",
    "routes": "what is served",
    "host": "whether it asks for this gateway",
    "forwarded host": "whether it asked the proxy for this gateway",
    "cors": "whether a page of this origin may call",
    "csrf": "whether a foreign page made it up",
    "authn": "who asks",
    "access": "who may do what",
    "localRateLimit": "how often",
    "requestRedirect": "whether it is sent elsewhere",
    "directResponse": "whether the answer is fixed",
    "request": "whether its form is right",
    "message": "whether the JSON-RPC message is right",
    "server": "where it goes",
}
# The command line's hint at its own option.
_HINT = " (--message)"


class Step(NamedTuple):
    """One verdict. `kind` is good, bad or idle; `otherwise` is what else might be set."""

    rule: str
    about: str
    verdict: str
    kind: str
    reason: str
    setting: str
    otherwise: str


class Part(NamedTuple):
    """The request itself, or the preflight before it; `lines` are what every answer carries."""

    title: str
    request: str
    steps: list[Step]
    lines: list[str]


class Found(NamedTuple):
    """A whole explanation."""

    sentence: str
    kind: str
    parts: list[Part]
    route: str | None


def step(rule: str, outcome: str, reason: str, setting: str | None = None) -> Step:
    """A verdict, as it is shown."""
    verdict, kind = _SHOWN.get(outcome, (outcome, "idle"))
    # Settings end in a remark at times, which nobody wants to copy: two spaces, and parentheses.
    value, _, remark = (setting or "").partition("  (")
    otherwise = f"{remark[:1].upper()}{remark[1:].removesuffix(')')}." if remark else ""
    return Step(rule, _ABOUT.get(rule, ""), verdict, kind, reason.removesuffix(_HINT), value, otherwise)


def found(explanation: Explanation) -> Found:
    """An explanation, as it is shown: the preflight first, as browsers do."""
    whole = explanation.model_dump(by_alias=True)
    preflight: dict[str, Any] | None = whole.get("preflight")
    own = Part("The request" if preflight is None else "The request itself", *_part(whole))
    if preflight is None:
        return Found(_sentence(whole), _kind(whole), [own], explanation.route)
    before = Part("What a browser asks first", *_part(preflight))
    if preflight["fine"]:
        text = f"A browser may send it. {_sentence(whole)}"
    else:
        text = f"A browser would not send it, because of what it asks first. {_sentence(preflight)}"
    return Found(text, "good" if explanation.fine else "bad", [before, own], explanation.route)


def _part(one: dict[str, Any]) -> tuple[str, list[Step], list[str]]:
    steps = [step(each["rule"], each["outcome"], each["reason"], each["setting"]) for each in one["steps"]]
    return one["request"], steps, one["answerHeaders"]


def _kind(one: dict[str, Any]) -> str:
    return _SHOWN[one["outcome"]][1]


def _sentence(one: dict[str, Any]) -> str:
    """What becomes of it, by whose verdict and why."""
    deciding = decides(one["steps"])
    why = "" if deciding is None else f" by {deciding['rule']}: {deciding['reason']}"
    if one["outcome"] == REFUSED:
        return f"Refused {with_what(one['status'], one['failure'])}{why}."
    if one["outcome"] == NOT_GRANTED:
        return f"Answered with status {one['status']}, which does not grant what the page needs,{why}."
    if one["outcome"] == ANSWERED:
        return f"Answered with status {one['status']}{why}."
    if any(each["rule"] == "message" and each["outcome"] == NOT_REACHED for each in one["steps"]):
        return "Nothing refuses it so far; what its message may do was not asked, because none was given."
    return f"Allowed: it goes on to the server of {one['route']}."


def with_what(status: int, failure: str) -> str:
    """What the client of a refused request gets. Some are told by JSON-RPC alone."""
    return f"with a JSON-RPC error ({failure})" if status < 300 else f"with status {status} ({failure})"


def decides(steps: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The step that refuses or answers."""
    return next((each for each in steps if each["outcome"] in FINAL), None)
