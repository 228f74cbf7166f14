"""Access rules on the request path: messages before they go on, lists before they are shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from moongate.errors import FailureClass, UpstreamError
from moongate.model.exchange import Exchange
from moongate.model.snapshot import MIB
from moongate.policies.acl import Access, Caller
from moongate.policies.base import Verdict
from moongate.protocol.listing import LISTED_BY, LISTS, UncutError, cut_lists, may_list
from moongate.protocol.splice import elements
from moongate.proxy.call import Call

# A list that is filtered is held until it is whole.
MAX_LIST = 16 * MIB
TOO_LONG = f"an answer of more than {MAX_LIST // MIB} MiB where lists are filtered by access rules"
# Looking through a larger one would hold up everybody else's requests.
INLINE = 64 * 1024
_ALLOWED = Verdict("access", "asks for nothing")
_ALL = frozenset(LISTS)

Cut = Callable[[bytes], bytes]


def judge(call: Call, caller: Caller) -> Verdict:
    """Whether a message may go on; of an array each element must. The first refusal decides."""
    access, exchange, body = call.route.access, call.exchange, call.body or b""
    if access is None:
        return _ALLOWED
    if call.message is not None:
        return access.judge_message(caller, exchange, call.message, body)
    verdict = _ALLOWED
    for element, raw in zip(call.batch, elements(body.strip(b" \t\r\n")), strict=True):
        verdict = access.judge_message(caller, exchange, element, raw)
        if verdict.refusal is not None:
            break
    return verdict


def cutter(call: Call, caller: Caller) -> Cut | None:
    """What takes out of the answers to a call what its caller may not use; None where they hold no lists.

    On a stream that a client listens to, the answer to any call may come (again).
    """
    if call.message is not None:
        lists = call.message.method in LISTED_BY
    else:
        lists = any(one.method in LISTED_BY for one in call.batch) or call.method == "GET"
    return cutter_of(call, caller) if lists else None


def cutter_of(call: Call, caller: Caller) -> Cut | None:
    """What takes out of any message what its caller may not use."""
    return cutter_by(call.route.access, caller, call.exchange)


def cutter_by(access: Access | None, caller: Caller, exchange: Exchange) -> Cut | None:
    """The same by these rules."""
    if access is None or not access.filters:
        return None
    return partial(_cut, keep=partial(access.visible, caller, exchange))


def _cut(message: bytes, keep: Callable[[str, str], bool]) -> bytes:
    try:
        return cut_lists(message, _ALL, keep)
    except UncutError as error:
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, f"a list cannot be filtered: {error}") from None


def watched(call: Call) -> bool:
    """Whether an answer to it might hold what its caller may not see, whatever was asked for.

    A server that sends answers where it last saw an id can be led to send a list in place of something else. Of a
    stream `cut` says it: rules may change while it is open.
    """
    if call.exchange.method == "GET":
        return call.cut is not None
    access = call.route.access
    return call.admission.caller is not None and access is not None and access.filters


async def hides(call: Call, window: bytes) -> bool:
    """Whether the answer that begins with `window` must not pass before it was looked through."""
    if call.cut is not None or not watched(call):
        return call.cut is not None
    return await holds_list(window)


async def holds_list(window: bytes) -> bool:
    """Whether a message that begins so may hold a list."""
    return await asyncio.to_thread(may_list, window) if len(window) > INLINE else may_list(window)


def cut_for(call: Call, message: bytes) -> Cut | None:
    """What has to be taken out of an answer; None: nothing."""
    caller = call.admission.caller
    if call.cut is not None or caller is None or not may_list(message) or not watched(call):
        return call.cut
    return cutter_of(call, caller)


async def look_through(call: Call, message: bytes) -> bytes:
    """What the client may see of an answer. Raises UpstreamError."""
    if not watched(call):
        return message
    cut = await asyncio.to_thread(cut_for, call, message) if len(message) > INLINE else cut_for(call, message)
    return message if cut is None else await cut_off(cut, message)


async def cut_off(cut: Cut, message: bytes) -> bytes:
    """A message without what `cut` takes out. Raises UpstreamError."""
    return await asyncio.to_thread(cut, message) if len(message) > INLINE else cut(message)
