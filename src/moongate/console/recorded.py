"""A request that was made, as its record tells it, with the verdicts of the policies that it passed.

A record names the policy that refused. Which ones it had passed by then follows from their order, which the running
gateway is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from moongate.console import audit
from moongate.console.live import NoAnswer
from moongate.console.platform import Question, explained
from moongate.console.services import Services
from moongate.console.verdicts import (
    ANSWERED,
    FAILED,
    FORWARDED,
    NOT_GRANTED,
    NOT_REACHED,
    OK,
    REFUSED,
    Step,
    step,
    with_what,
)
from moongate.control.platform.shapes import Actor, moment
from moongate.errors import ConfigError, FailureClass

_CHANGE = "; to change this, set "
# Only these come from policies, whose name their detail begins with.
_OF_POLICIES = frozenset({FailureClass.DENIED, FailureClass.UNAUTHENTICATED, FailureClass.RATE_LIMITED})
_OF_CLIENTS = frozenset(
    {FailureClass.BAD_REQUEST, FailureClass.NOT_FOUND, FailureClass.TOO_LARGE, FailureClass.UNSUPPORTED}
)
# These answer by themselves.
_ANSWERING = ("requestRedirect", "directResponse")
# Asked about messages, after all else; `access` is asked twice.
_OF_MESSAGES = ("access", "localRateLimit")
_NO_POLICIES = frozenset({"HTTP", "routes", "request", "message", "server"})
_PASSED, _NOT_ASKED = "no objection", "not asked"
_PAGE = re.compile(r"cors: pages of (\S+) may not call")


class Recorded(NamedTuple):
    """One record, as it is shown. `advice` is what to do where no setting is known; `note` says what is missing."""

    sentence: str
    kind: str
    advice: str
    steps: list[Step]
    note: str
    rows: list[tuple[str, str]]


async def recorded(services: Services, actor: Actor, request_id: str) -> tuple[list[Recorded], dict[str, str]]:
    """What is known of a request, and what the form begins with to ask again. Raises Refused (404), StoreAway."""
    found = await audit.get_record(services, actor, request_id)
    records = [one.model_dump(by_alias=True, exclude_none=True) for one in found.items]
    return [await _told(services, record) for record in records], _again(records[0])


def _again(record: Mapping[str, Any]) -> dict[str, str]:
    page = _PAGE.match(record.get("detail", ""))
    return {
        "method": record.get("httpMethod", "POST"),
        "url": record.get("path", ""),
        "source": record.get("source", ""),
        "origin": "" if page is None else page[1],
    }


async def _told(services: Services, record: dict[str, Any]) -> Recorded:
    order, note = await _order(services, record)
    steps = _steps(record, order) if order else _alone(record)
    if record.get("shadow"):
        reason, _, setting = record["shadow"].removeprefix("access: ").partition(_CHANGE)
        place = len(steps) - 1 if steps and steps[-1].rule == "server" else len(steps)
        steps.insert(place, step("access", OK, f"only on trial (mode: shadow): {reason}", setting))
    known = any(one.setting for one in steps)
    advice = "" if known else record.get("advice", "")
    return Recorded(_sentence(record), "bad" if record.get("failure") else "good", advice, steps, note, _rows(record))


async def _order(services: Services, record: Mapping[str, Any]) -> tuple[list[str], str]:
    """The policies of its instance, in the order in which they are asked; or why that is not known."""
    route = record.get("instance")
    if not route:
        return [], "No instance was found for it, so no further policy was asked."
    try:
        question = Question(method=record["httpMethod"], url=record["path"], source=record["source"])
        answer = await explained(services, question)
    except NoAnswer as error:
        return [], f"The other policies are not shown, because the running gateway cannot be asked: {error}."
    except (ConfigError, ValidationError):
        answer = None
    if answer is None or answer.route != route:
        return [], "The other policies are not shown: today this address does not lead to that instance any more."
    names = [one["rule"] for one in answer.steps if one["rule"] not in _NO_POLICIES]
    if (decider := _decider(record)) and decider not in names:
        return [], f"The other policies are not shown: today there is no {decider} any more."
    return list(dict.fromkeys(names)), "The order of the policies is that of the configuration as it is now."


def _decider(record: Mapping[str, Any]) -> str:
    """The policy that refused; empty if none did."""
    name, colon, _ = str(record.get("detail", "")).partition(": ")
    return name if colon and record.get("failure") in _OF_POLICIES else ""


def _verdict(record: Mapping[str, Any]) -> Step:
    """That of the policy that refused."""
    _, _, text = str(record["detail"]).partition(": ")
    reason, _, setting = text.partition(_CHANGE)
    outcome = NOT_GRANTED if record["status"] == 204 else REFUSED
    return step(_decider(record), outcome, reason, setting)


def _alone(record: Mapping[str, Any]) -> list[Step]:
    """What can be told without knowing the others."""
    if _decider(record):
        return [_verdict(record)]
    return [_ending(record)] if record.get("failure") else []


def _steps(record: Mapping[str, Any], order: list[str]) -> list[Step]:
    """All verdicts. Whoever is asked about messages is asked once the request's form and the message were right."""
    decider = _decider(record) or _answering(record, order)
    late = [name for name in _OF_MESSAGES if name in order]
    was_read = bool(record.get("method"))
    if decider and not (was_read and decider in late):
        place = order.index(decider)
        outcome = _verdict(record) if _decider(record) else step(decider, ANSWERED, "the answer that is configured")
        before = [_passed(record, name) for name in order[:place]]
        return [*before, outcome, *(step(name, NOT_REACHED, _NOT_ASKED) for name in order[place + 1 :])]
    # The counter of calls comes last, that of sources among the others: which one it is makes no difference here.
    early = [name for name in order if name != "localRateLimit"]
    steps = [_passed(record, name) for name in early]
    if record.get("failure") in _OF_CLIENTS and not was_read:
        return [*steps, _ending(record), *(step(name, NOT_REACHED, _NOT_ASKED) for name in late)]
    if was_read:
        steps.append(step("message", OK, " ".join(filter(None, (record["method"], record.get("target"))))))
    for place, name in enumerate(late):
        if name == decider:
            rest = late[place + 1 :]
            return [*steps, _verdict(record), *(step(other, NOT_REACHED, _NOT_ASKED) for other in rest)]
        if was_read or name not in early:
            steps.append(step(name, OK, _PASSED))
    return [*steps, _ending(record)]


def _passed(record: Mapping[str, Any], name: str) -> Step:
    return step(name, OK, record["instance"] if name == "route" else _PASSED)


def _answering(record: Mapping[str, Any], order: list[str]) -> str:
    """The policy that gave the answer of a request that went well, without a server; empty if a server did."""
    if record.get("failure"):
        return ""
    if record.get("httpMethod") == "OPTIONS" and "cors" in order:
        return "cors"
    return next((name for name in _ANSWERING if name in order), "")


def _ending(record: Mapping[str, Any]) -> Step:
    """What became of it where no policy decided."""
    failure = record.get("failure")
    if failure is None:
        return step("server", FORWARDED, f"it answered with status {record['status']}")
    reason = record.get("detail") or record.get("meaning") or failure
    if failure in _OF_CLIENTS:
        return step("request" if record.get("instance") else "route", REFUSED, reason)
    return step("server", FAILED, reason)


def _sentence(record: Mapping[str, Any]) -> str:
    failure, status = record.get("failure"), record.get("status")
    if failure is None:
        return f"It succeeded with status {status}."
    detail = str(record.get("detail", "")).partition(_CHANGE)[0]
    if decider := _decider(record):
        reason = detail.partition(": ")[2]
        if status == 204:
            return f"It was answered with status 204, which did not grant what the page needs, by {decider}: {reason}."
        return f"It was refused {with_what(record['status'], failure)} by {decider}: {reason}."
    if failure in _OF_CLIENTS:
        return (
            f"It was refused with status {status} ({failure}): {detail or record.get('meaning', '')}".rstrip(".") + "."
        )
    return f"It failed with status {status} ({failure}). {record.get('meaning', '')}"


def _rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and what there is to say, in the order of the story."""
    token = f", token in {record['tokenHeader']}" if record.get("tokenHeader") else ""
    rows = [
        ("Request id", record["requestId"]),
        ("When", moment(record["time"]).replace("T", " ").replace("Z", " UTC")),
        ("From", f"{record.get('source')}, {record.get('principal', 'anonymous')}{token}"),
        ("Asked", f"{record.get('httpMethod')} {record.get('path')}"),
        ("Instance", record.get("instance") or "none was found"),
        ("Call", " ".join(filter(None, (record.get("method"), record.get("target"))))),
        ("Client", record.get("client", "")),
        ("Phase", record.get("phase", "")),
        ("Status", f"{record.get('status')} after {record.get('duration', 0):g} ms"),
        ("Class", str(record.get("failure", ""))),
        ("Meaning", "" if _decider(record) else record.get("meaning", "")),
    ]
    return [row for row in rows if row[1]]
