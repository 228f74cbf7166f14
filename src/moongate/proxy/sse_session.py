"""One client of HTTP+SSE: its event stream, and the calls whose answers pass on it.

A call is posted with a request of its own and answered on the stream. Its record is in the journal before the event
that answers it leaves; if the stream ends first, the record says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial

import msgspec

from moongate.audit.record import encode
from moongate.errors import ClientClosed, FailureClass, Refusal, UpstreamError
from moongate.protocol.forms import Answer
from moongate.protocol.jsonrpc import read_answers
from moongate.protocol.listing import LISTED_BY
from moongate.proxy.access import Cut, cut_off, cutter_of, holds_list
from moongate.proxy.call import Call
from moongate.proxy.reply import failure_body
from moongate.wire.deadlines import NEVER, Deadlines
from moongate.wire.events import COMMENT, encode_event

log = logging.getLogger("moongate")

# Where the route names no interval: proxies on the way often cut what is silent for 30 s.
KEEPALIVE_SECONDS = 15.0
MAX_PENDING = 256
# Messages of one client that are under way, and their bytes.
MAX_MESSAGES = 512
MAX_MESSAGE_BYTES = 128 * 1024 * 1024
_ID_STARTS = b'"-0123456789'

Key = str | int | float | bytes


def id_key(raw: bytes | msgspec.Raw) -> Key | None:
    """What makes two spellings of one JSON-RPC id equal; None for what is no id.

    An id that cannot be read (1e400 is a number beyond all that we know) is only equal to its own spelling.
    """
    spelt = bytes(raw)
    if not spelt or spelt[:1] not in _ID_STARTS:
        return None
    try:
        found = msgspec.json.decode(spelt)
    except ValueError:
        return spelt
    return found if isinstance(found, str | int | float) else None


class DoorSession:
    """An open stream towards a client. `call` is its GET; `name` finds it.

    `revision` and `client` are what initialize brought, for the records of later calls.
    """

    def __init__(self, call: Call, name: str, deadlines: Deadlines) -> None:
        self.call = call
        self.name = name
        self.revision = ""
        self.client = ""
        self.deadline = NEVER
        self.partial = False
        self.begun = False
        self.draining = False
        self.closed = False
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._interval = call.route.route.keepalive or KEEPALIVE_SECONDS
        self._pending: dict[Key, Call] = {}
        self._messages = 0
        self._bytes = 0

    @property
    def cut(self) -> Cut | None:
        """What takes out of answers what access rules hide (None: nothing); renewed when the rules change."""
        return self.call.cut

    # -- the stream

    async def begin(self, lines: bytes) -> None:
        """Record that it opens, then send its head; `lines` are header lines."""
        connection = self.call.connection
        await self._written(self.call.record("open"))
        self.call.exchange.recorded = False
        if connection.gone:
            raise ClientClosed
        connection.begin(connection.frame(200, lines, None))
        self.begun = True
        self._moved()
        self._deadlines.watch(self)

    async def send(self, data: bytes) -> None:
        """Whole events (or a part of a long one), as fast as the client reads. Raises ClientClosed."""
        connection = self.call.connection
        connection.put(data)
        self.call.exchange.bytes_out += len(data)
        self._moved()
        await connection.writable()

    async def deliver(self, message: bytes) -> None:
        """One JSON-RPC message, as an event. Raises ClientClosed."""
        cuts = self.cut is not None
        answers = read_answers(message) if self._pending or cuts else []
        if answers or cuts:
            message = await self.shown(message, answers)
            await self.settle([(answer, len(message)) for answer in answers])
        if message:
            await self.send(encode_event(message))

    async def shown(self, message: bytes, answers: list[Answer]) -> bytes:
        """What the client may see of a message that holds these answers: an error in place of a list that cannot be
        cut, nothing if nobody waits for it.
        """
        cut = self.cut
        if cut is None:
            return message
        if all(self._answers_no_list(answer) for answer in answers) and not await holds_list(message):
            return message
        try:
            return await cut_off(cut, message)
        except UpstreamError as error:
            log.warning("%s: %s", self.call.exchange.route, error.detail)
            errors = [failed for answer in answers if (failed := self._failed(answer, error))]
            return b"[%b]" % b",".join(errors) if len(errors) > 1 else b"".join(errors)

    def _failed(self, answer: Answer, error: UpstreamError) -> bytes:
        key = id_key(answer.id)
        call = None if key is None else self._pending.get(key)
        if call is None:
            return b""
        call.exchange.fail(error.failure, error.detail)
        return failure_body(call.exchange, error.failure)

    def _answers_no_list(self, answer: Answer) -> bool:
        """Whether it is known which call it answers, and that it lists nothing. An id may be used twice, though."""
        key = id_key(answer.id)
        call = None if key is None else self._pending.get(key)
        return call is not None and call.message is not None and call.message.method not in LISTED_BY

    def _moved(self) -> None:
        self.deadline = self._loop.time() + self._interval

    def expire(self) -> None:
        """It was quiet for an interval: a comment, so that nobody on the way takes it for dead."""
        connection = self.call.connection
        if not (self.partial or connection.gone or connection.stalled or not self.begun):
            connection.put(COMMENT)
        self._moved()

    def finish(self, error: UpstreamError | None = None, last: bytes = b"") -> None:
        """The end of the stream, by whoever's doing: records first, then the last bytes. `error` is the backend's."""
        call = self.call
        self.close(error)
        if error is not None:
            call.exchange.fail(error.failure, error.detail)
        end = call.connection.abort if self.partial else partial(call.connection.end, last)
        call.admission.plan.commit(call.record("close"), end)

    def close(self, error: UpstreamError | None = None) -> None:
        """No more comments; whatever still waits for its answer is recorded."""
        self.closed = True
        self._deadlines.forget(self)
        gone = UpstreamError(FailureClass.CLIENT_CLOSED, "the client's stream ended before the answer")
        for pending in tuple(self._pending.values()):
            pending.exchange.fail((error or gone).failure, (error or gone).detail)
            self._commit(pending)

    # -- the calls

    @property
    def waiting(self) -> bool:
        """Whether any call is to be answered."""
        return bool(self._pending)

    def add(self, call: Call) -> None:
        """Await the answer of a call, unless the stream has ended or none is due (see `awaits`). The oldest are given
        up if too many are awaited: servers may never answer what was cancelled.
        """
        exchange = call.exchange
        exchange.revision = exchange.revision or self.revision
        exchange.client = exchange.client or self.client
        key = None if exchange.rpc_id is None else id_key(exchange.rpc_id)
        caller = call.admission.caller
        self.call.cut = None if caller is None else cutter_of(call, caller)  # the newest rules hold
        if key is None or self.closed:
            return
        before = self._pending.get(key)
        if before is None and len(self._pending) >= MAX_PENDING:
            before = next(iter(self._pending.values()))
        if before is not None:
            self._commit(before)
        self._pending[key] = call

    def take_on(self, call: Call) -> None:
        """A message is under way from here. Raises Refusal if there are too many; `lay_down` is its end."""
        size = call.exchange.bytes_in
        if self._messages >= MAX_MESSAGES or (self._bytes and self._bytes + size > MAX_MESSAGE_BYTES):
            raise Refusal(FailureClass.RATE_LIMITED, "too many messages of this client are under way")
        self.add(call)
        self._messages += 1
        self._bytes += size

    def lay_down(self, call: Call) -> None:
        """A message is no longer under way."""
        self._messages -= 1
        self._bytes -= call.exchange.bytes_in

    def awaits(self, call: Call) -> bool:
        """Whether its answer is awaited."""
        key = None if call.exchange.rpc_id is None else id_key(call.exchange.rpc_id)
        return key is not None and self._pending.get(key) is call

    def drop(self, call: Call) -> bool:
        """Await its answer no longer; whether it was awaited."""
        key = None if call.exchange.rpc_id is None else id_key(call.exchange.rpc_id)
        if key is None or self._pending.get(key) is not call:
            return False
        del self._pending[key]
        return True

    async def settle(self, answers: list[tuple[Answer, int]]) -> None:
        """These are about to leave, in events of these sizes: the calls that they answer are recorded first."""
        records = []
        for answer, size in answers:
            call = self._take(answer.id)
            if call is not None:
                call.inspect(answer)
                if call.initializing:
                    self.revision, self.client = call.exchange.revision, call.exchange.client
                records.append(self._record(call, size))
        if records:
            await self._written(b"".join(records))

    async def settle_windows(self, raw_id: bytes, first: bytes, last: bytes) -> None:
        """The same for an answer that was too long to be held: how it begins and ends."""
        call = self._take(raw_id)
        if call is not None:
            call.inspect_windows(first, last)
            await self._written(self._record(call, len(last)))

    async def fail(self, call: Call, error: UpstreamError) -> None:
        """There will be no answer: the client is told on the stream, also of a call whose record was written before."""
        data = failure_body(call.exchange, error.failure)
        if self.drop(call):
            call.exchange.fail(error.failure, error.detail)
            await self._written(self._record(call, len(data)))
        await self.send(encode_event(data))

    def refuse(self, call: Call, refusal: Refusal) -> bool:
        """A call is not carried out, and the client is told on the stream; False if nothing can be said there."""
        connection, exchange = self.call.connection, call.exchange
        if self.closed or self.partial or not self.begun or connection.gone or connection.stalled:
            return False
        data = encode_event(failure_body(exchange, refusal.failure, refusal.text))
        exchange.status, exchange.bytes_out = 202, len(data)
        framed = call.connection.frame(202, call.route.response_headers.own([]) + call.own_lines, 0)

        def tell() -> None:
            connection.put(data)
            self._moved()
            call.connection.answer(framed)

        call.admission.plan.commit(call.record(), tell)
        return True

    def forget(self, call: Call) -> None:
        """It ended without an answer, as it should: the client has cancelled it."""
        if self.drop(call):
            self._commit(call)

    def _take(self, raw_id: bytes | msgspec.Raw) -> Call | None:
        key = id_key(raw_id)
        return None if key is None else self._pending.pop(key, None)

    def _record(self, call: Call, size: int = 0) -> bytes:
        exchange = call.exchange
        exchange.recorded = True
        exchange.status = exchange.status or 202
        exchange.bytes_out += size
        now = time.perf_counter()
        call.admission.plan.count(exchange, now, "")
        return encode(exchange, now, "", call.admission.record)

    def _commit(self, call: Call) -> None:
        self.drop(call)
        call.admission.plan.commit(self._record(call), _nothing)

    async def _written(self, record: bytes) -> None:
        written = self._loop.create_future()
        self.call.admission.plan.commit(record, partial(_wake, written))
        await written


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _nothing() -> None:
    """No answer waits for this record."""
