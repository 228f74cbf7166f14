"""Event streams on their way to the client: every event flushed as it came, byte for byte.

Only whole events are passed on (an endless one in parts), so that a comment can be inserted, a call recorded before the
bytes that complete its answer, and a broken stream ended cleanly. Once an answer has begun: a stream that has carried
event ids is ended, because the client resumes; any other gets one JSON-RPC error for the request, then ends.
"""

from __future__ import annotations

import asyncio
from functools import partial

from moongate.errors import ClientClosed, FailureClass, Refusal, UpstreamError
from moongate.protocol.jsonrpc import looks_like_answer, read_answers
from moongate.proxy.access import MAX_LIST, TOO_LONG, hides, look_through, watched
from moongate.proxy.answer import MAX_ERROR_BODY, drain, upstream_coding
from moongate.proxy.call import Call
from moongate.proxy.reply import failure_body
from moongate.upstreams.base import Reply
from moongate.wire.codings import Coding
from moongate.wire.deadlines import NEVER, Deadlines
from moongate.wire.events import COMMENT, Splitter, encode_event, parse_event, with_data
from moongate.wire.messages import MalformedMessage, ResponseHead

_WINDOW = 2048
REVOKED = "the token, the instance or the right to it was taken away meanwhile"


class Heartbeat:
    """Comment lines on a quiet stream, so that nobody on the way takes it for dead."""

    def __init__(self, relay: EventRelay, seconds: float, deadlines: Deadlines) -> None:
        self.deadline = NEVER
        self._relay = relay
        self._seconds = seconds
        self._deadlines = deadlines

    def start(self) -> None:
        """Beat from now on."""
        self.moved()
        self._deadlines.watch(self)

    def moved(self) -> None:
        """Something was sent: the next beat is a whole interval away."""
        self.deadline = asyncio.get_running_loop().time() + self._seconds

    def expire(self) -> None:
        """The stream was quiet for an interval."""
        self._relay.comment()
        self.moved()

    def stop(self) -> None:
        """No more beats."""
        self._deadlines.forget(self)


class EventRelay:
    """One event stream. `run` returns when it has ended; it raises only while nothing has left, or ClientClosed."""

    def __init__(self, call: Call, reply: Reply, head: ResponseHead, deadlines: Deadlines) -> None:
        self._call = call
        self._reply = reply
        self._head = head
        self._splitter = Splitter() if call.cut is None else Splitter(MAX_LIST)
        self._begun = False
        self._started = not call.expects
        self._answered = False
        self._due = call.due
        self._resumable = False
        self._draining = False
        self._revoked = False
        self._partial = b""
        self._held: list[bytes] = []
        self._held_size = 0
        interval = call.route.route.keepalive
        self._heartbeat = None if interval is None else Heartbeat(self, interval, deadlines)

    async def run(self) -> None:
        """Relay to the end."""
        call = self._call
        if self._heartbeat is not None:
            self._heartbeat.start()
        try:
            if not call.expects:
                await self._open()
            elif call.exchange.rpc_method == "subscriptions/listen":
                call.connection.on_drain = self._drain
            await self._relay()
        except ClientClosed:
            if not call.expects:  # the usual end of a stream that has no end of its own
                self._finish()
                self._reply.cancel()
                return
            call.exchange.fail(FailureClass.CLIENT_CLOSED, "the client went away")
            if self._resumable:
                self._reply.cancel()
            else:
                await drain(call, self._reply)
            raise
        finally:
            if self._heartbeat is not None:
                self._heartbeat.stop()

    async def _relay(self) -> None:
        reply, coding = self._reply, upstream_coding(self._head)
        silence = self._call.route.route.target.timeouts.silence
        done = False
        while not done:
            try:
                if self._call.taken:
                    data, self._call.taken = self._call.taken, b""
                elif reply.complete:
                    data = reply.take()
                else:
                    data = await reply.read(silence if self._started else reply.remaining())
                done = reply.complete or not data  # asked at once: more may come while the client is waited for
                for piece in coding.decode(data):
                    await self._piece(piece)
            except UpstreamError as error:
                self._broken(error)
                return
            except MalformedMessage as error:
                self._broken(UpstreamError(FailureClass.UPSTREAM_PROTOCOL, error.detail))
                return
        self._ended(coding)

    async def _piece(self, data: bytes) -> None:
        for block in self._splitter.feed(data):
            await self._event(block)
        if overflow := self._splitter.overflow():
            if not self._partial and await hides(self._call, overflow):
                raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, TOO_LONG)
            if not self._partial:
                self._partial = overflow[:_WINDOW]
            self._started = True
            self._send(overflow)
        await self._call.connection.writable()

    async def _event(self, block: bytes) -> None:
        call = self._call
        if self._partial:  # the end of an event that was too long to hold
            first, self._partial = self._partial, b""
            if call.expects and not self._answered and looks_like_answer(first):
                self._answered = True
                call.inspect_windows(first, block[-_WINDOW:])
                await self._recorded(len(block))
            self._send(block)
            return
        event = parse_event(block)
        self._started = self._started or event.fields
        if event.data and watched(call):
            data = await look_through(call, event.data)
            block = block if data == event.data else with_data(block, data)
        if event.id and not self._resumable:
            self._resume_elsewhere()
        if call.expects and not self._answered and event.data:
            for answer in read_answers(event.data):
                call.inspect(answer)
                self._due -= 1
            if self._due <= 0:
                self._answered = True
                await self._recorded(len(block))
        self._send(block)

    def _resume_elsewhere(self) -> None:
        """The stream carries event ids: a client that hangs up comes back for it, and the backend must see that it is
        gone.
        """
        self._resumable = True
        self._call.connection.on_gone = self._reply.cancel
        if self._call.connection.gone:
            self._reply.cancel()

    async def _recorded(self, size: int, phase: str = "") -> None:
        exchange = self._call.exchange
        written = asyncio.get_running_loop().create_future()
        exchange.recorded = True
        exchange.bytes_out += size
        self._call.admission.plan.commit(self._call.record(phase), partial(_wake, written))
        await written
        exchange.bytes_out -= size  # counted again when it is sent

    async def _open(self) -> None:
        await self._recorded(0, "open")
        self._call.exchange.recorded = False
        self._call.connection.on_drain = self._drain
        self._begin()

    def _drain(self) -> None:
        self._draining = True
        self._reply.cancel()

    def revoke(self) -> None:
        """The client may not have it any more."""
        self._draining = self._revoked = True
        self._reply.cancel()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            connection = self._call.connection
            connection.begin(connection.frame(self._head.status, self._call.answer_lines(self._head), None))

    def _send(self, data: bytes) -> None:
        call = self._call
        if call.initializing and not self._answered:  # the revision belongs into the session id, which is in the head
            self._held.append(data)
            self._held_size += len(data)
            if self._held_size > MAX_ERROR_BODY:
                raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "too much before the answer to initialize")
            return
        if self._held:
            data = b"".join([*self._held, data])
            self._held.clear()
        self._begin()
        call.exchange.bytes_out += len(data)
        call.connection.put(data)
        if self._heartbeat is not None:
            self._heartbeat.moved()

    def comment(self) -> None:
        """Insert a comment between two events, beginning the answer if it has not begun."""
        connection = self._call.connection
        if self._partial or connection.gone or connection.stalled or self._call.initializing:
            return
        self._begin()
        connection.put(COMMENT)

    def _ended(self, coding: Coding) -> None:
        try:
            coding.finish()
        except MalformedMessage as error:
            self._broken(UpstreamError(FailureClass.UPSTREAM_PROTOCOL, error.detail))
            return
        if self._call.expects and not self._answered and not self._resumable:
            self._broken(UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "the event stream ended without the answer"))
            return
        self._reply.release()
        self._begin()
        # An unfinished event was not looked through; every reader that keeps to the standard discards it.
        self._finish(b"" if watched(self._call) and not self._partial else self._splitter.rest())

    def _broken(self, error: UpstreamError) -> None:
        call = self._call
        self._reply.cancel()
        if call.connection.gone:
            raise ClientClosed
        if self._revoked and call.expects and not self._answered:
            call.exchange.fail(FailureClass.DENIED, REVOKED)
            if not self._begun:
                raise Refusal(FailureClass.DENIED, REVOKED)
            if self._partial:
                self._abort()
            else:
                self._finish(encode_event(failure_body(call.exchange, FailureClass.DENIED)))
            return
        if self._draining:
            self._finish()
            return
        call.exchange.fail(error.failure, error.detail)
        if not self._begun:
            raise error
        if self._partial:
            self._abort()
        elif call.expects and not self._answered and (error.final or not self._resumable):
            self._finish(encode_event(failure_body(call.exchange, error.failure)))
        else:
            self._finish()

    def _finish(self, last: bytes = b"") -> None:
        connection = self._call.connection
        if self._answered:  # its record is written already
            connection.end(last)
            return
        self._call.exchange.recorded = True
        phase = "" if self._call.expects else "close"
        self._call.admission.plan.commit(self._call.record(phase), partial(connection.end, last))

    def _abort(self) -> None:
        self._call.admission.plan.commit(self._call.record(), self._call.connection.abort)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
