"""What bounds one request: its time, and how a call that is one too many is told so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from functools import partial

from moongate.errors import FailureClass, Refusal, UpstreamError
from moongate.proxy.call import Call
from moongate.proxy.reply import failure_body, own_answer


async def within(call: Call, work: Coroutine[None, None, None]) -> None:
    """Do the work within `Timeouts.request` and `Timeouts.total`; `Call` knows when the latter begins, and that an
    event stream ends both. Raises UpstreamError, or Refusal (408) where the request itself never came.
    """
    timeouts = call.route.route.target.timeouts
    until = None
    if timeouts.request is not None:
        past = time.perf_counter() - call.exchange.started
        until = asyncio.get_running_loop().time() + timeouts.request - past
    timer = call.timer = asyncio.timeout_at(until)
    try:
        async with timer:
            await work
    except TimeoutError:
        if not timer.expired():
            raise
        if call.method == "POST" and not call.turned:
            raise Refusal(FailureClass.BAD_REQUEST, "the body took longer than requestTimeout", status=408) from None
        which = "requestTimeout" if timer.when() == until else "backendRequestTimeout"
        raise UpstreamError(FailureClass.UPSTREAM_TIMEOUT, f"the answer took longer than {which}") from None


def answer_refused(call: Call, refusal: Refusal) -> None:
    """Tell a legacy client in the answer to its call, with status 200: on any other its SDK may end the whole session.

    Each call of an array gets its own error.
    """
    exchange, connection = call.exchange, call.connection
    ids = [element.id for element in call.batch if element.is_request] if call.batch else [exchange.rpc_id]
    own = own_answer(exchange, refusal.failure, refusal, call.route.response_headers)
    errors = []
    for raw_id in ids:
        exchange.rpc_id = raw_id
        errors.append(failure_body(exchange, refusal.failure, refusal.text))
    body = b"[%b]" % b",".join(errors) if call.batch else errors[0]
    exchange.status, exchange.bytes_out = 200, len(body)
    framed = connection.frame(200, own.lines, len(body))
    call.admission.plan.commit(call.record(), partial(connection.answer, framed, body))
