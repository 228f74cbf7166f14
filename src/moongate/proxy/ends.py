"""How a request ends that no backend answered: policies' own answers, refusals, failures, clients that went away.

Each is recorded like any other before its answer leaves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from moongate.audit.record import encode
from moongate.errors import ClientClosed, FailureClass, Refusal, UpstreamError
from moongate.model.exchange import Exchange
from moongate.policies.base import HeadAnswer, Verdict
from moongate.proxy.plan import Plan, RoutePlan
from moongate.proxy.reply import own_answer
from moongate.wire.messages import MalformedMessage
from moongate.wire.server import ServerConnection

log = logging.getLogger("moongate")


class Ends:
    """Ends requests. `plan` gives the one in force, whose counters and journal are used."""

    def __init__(self, plan: Callable[[], Plan]) -> None:
        self._plan = plan

    def settle(
        self, connection: ServerConnection, exchange: Exchange, route: RoutePlan | None, verdict: Verdict
    ) -> None:
        """Give a policy's own answer. What it leaves to be wished for has a setting, and is explained."""
        answer = verdict.answer or HeadAnswer(500)
        if verdict.setting:
            log.info("%s answered by %s", exchange.request_id, verdict.words)
            exchange.fail(FailureClass.DENIED, verdict.words)
        exchange.status, exchange.bytes_out = answer.status, len(answer.body)
        lines = answer.lines
        if answer.changeable and route is not None:
            fields = [line.partition(b": ") for line in lines.split(b"\r\n") if line]
            lines = route.response_headers.own([(name, value) for name, _, value in fields])
        own = b"%b%bx-request-id: %b\r\n" % (lines, exchange.answer_lines, exchange.request_id.encode())
        framed = connection.frame(answer.status, own, len(answer.body))
        self._record(exchange, partial(connection.answer, framed, answer.body))

    def failed(
        self, connection: ServerConnection, exchange: Exchange, route: RoutePlan | None, error: Exception
    ) -> None:
        """Answer by the class of what went wrong."""
        if isinstance(error, ClientClosed):
            self.gone(exchange)
            return
        refusal: Refusal | None = None
        if isinstance(error, MalformedMessage):
            refusal = malformed(error)
        elif isinstance(error, Refusal):
            refusal = error
        if refusal is not None:
            failure = refusal.failure
            exchange.fail(failure, refusal.detail)
        elif isinstance(error, UpstreamError):
            failure = error.failure
            log.warning("%s %s: %s: %s", exchange.request_id, exchange.route, failure.value, error.detail)
            exchange.fail(failure, error.detail)
        else:
            failure = FailureClass.INTERNAL
            log.error("%s %s: internal failure", exchange.request_id, exchange.route, exc_info=error)
            exchange.fail(failure, "see the log")
        self._answer(connection, exchange, route, failure, refusal)

    def stopped(self, exchange: Exchange) -> None:
        """The gateway could not wait for it any longer."""
        exchange.fail(FailureClass.CLIENT_CLOSED, "cut off while the gateway was stopping")
        self.gone(exchange)

    def gone(self, exchange: Exchange) -> None:
        """Nobody is left to be answered."""
        if not exchange.recorded:
            exchange.fail(FailureClass.CLIENT_CLOSED, "the client went away")
            self._record(exchange, _nothing)

    def _answer(
        self,
        connection: ServerConnection,
        exchange: Exchange,
        route: RoutePlan | None,
        failure: FailureClass,
        refusal: Refusal | None,
    ) -> None:
        if connection.gone:
            self.gone(exchange)
            return
        if connection.begun:
            self._record(exchange, connection.abort)
            return
        own = own_answer(exchange, failure, refusal, None if route is None else route.response_headers)
        exchange.status = own.status
        exchange.bytes_out = len(own.body)
        framed = connection.frame(own.status, own.lines, len(own.body))
        self._record(exchange, partial(connection.answer, framed, own.body))

    def _record(self, exchange: Exchange, then: Callable[[], None]) -> None:
        exchange.recorded = True
        now = time.perf_counter()
        plan = self._plan()
        plan.count(exchange, now, "")
        plan.commit(encode(exchange, now), then)


def malformed(error: MalformedMessage) -> Refusal:
    """What is said of bytes that are no request."""
    if error.status == 413:
        return Refusal(FailureClass.TOO_LARGE, error.detail)
    if error.status == 503:
        return Refusal(FailureClass.RATE_LIMITED, error.detail, status=503)
    return Refusal(FailureClass.BAD_REQUEST, error.detail, status=error.status)


def _nothing() -> None:
    """No answer is waiting for this record."""
