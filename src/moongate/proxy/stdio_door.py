"""The stdio door: a client that started this process writes messages to its standard input, one a line, and reads what
answers them from its standard output (2025-11-25 and 2026-07-28: transports, stdio).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from moongate.errors import ClientClosed, Refusal
from moongate.protocol.jsonrpc import INTERNAL_ERROR, INVALID_REQUEST, Envelope, error_message, parse, refuse
from moongate.proxy.messenger import Messenger, Unanswered
from moongate.proxy.pipes import MAX_LINE, Input, Line, Output
from moongate.tasks import Tasks

log = logging.getLogger("moongate")

JSON_DEPTH = 128
# How long calls in flight may take once the client has closed its side, or once a signal has come.
DRAIN_SECONDS = 5.0
PROMPT_SECONDS = 0.5
# Judging a larger message would hold up the others.
_INLINE_JUDGING = 1024 * 1024

Connect = Callable[[Callable[[bytes], Awaitable[None]], Tasks], Messenger]


class StdioDoor:
    """One client on a pair of descriptors. `clean` takes secrets out of texts that the client gets to see."""

    def __init__(self, connect: Connect, pipes: tuple[int, int], clean: Callable[[str], str]) -> None:
        loop = asyncio.get_running_loop()
        self._clean = clean
        self._posts = Tasks("stdio")
        self._streams = Tasks("messenger")
        self._broken = asyncio.Event()
        self._input = Input(pipes[0], loop)
        self._output = Output(pipes[1], loop, self._broken.set)
        self._messenger = connect(self._output.write, self._streams)

    async def run(self, stopping: asyncio.Event) -> None:
        """Carry messages until the client has closed its side or is gone, or `stopping` is set; then end the session.

        Calls in flight may finish, for a few seconds.
        """
        own = Tasks("stdio door")
        self._output.start()
        self._input.start()
        reading = own.spawn(self._read(), "read")
        hung_up = own.spawn(self._input.hung_up.wait(), "wait for the end of the input")
        broken = own.spawn(self._broken.wait(), "wait for the end of the output")
        stopped = own.spawn(stopping.wait(), "wait for a signal")
        try:
            await asyncio.wait((reading, hung_up, broken, stopped), return_when=asyncio.FIRST_COMPLETED)
            self._messenger.finish()
            if not stopped.done():
                drained = own.spawn(self._drained(reading, DRAIN_SECONDS), "drain")
                await asyncio.wait((drained, broken, stopped), return_when=asyncio.FIRST_COMPLETED)
            if stopped.done() and not broken.done():
                await self._posts.wait(PROMPT_SECONDS)
        finally:
            self._input.stop()
            await own.close()
            await self._messenger.close()
            await self._posts.wait(PROMPT_SECONDS)  # what is left unanswered is said
            await self._posts.close()
            await self._streams.close()
            self._output.stop()

    async def _drained(self, reading: asyncio.Task[None], seconds: float) -> None:
        await asyncio.wait((reading,), timeout=seconds)
        await self._posts.wait(seconds)

    async def _read(self) -> None:
        while (line := await self._input.line()) is not None:
            try:
                message = await _judged(line)
            except Refusal as refusal:
                log.warning("a line of the client is left out: %s", self._clean(refusal.detail))
                self._posts.spawn(self._refuse(line, refusal), "refuse")
            else:
                # A task each, which begin in this order; the messenger keeps it.
                self._posts.spawn(self._post(line, message), "post")

    async def _post(self, line: Line, message: Envelope | list[Envelope]) -> None:
        try:
            await self._messenger.post(line.data, message)
        except Unanswered as error:
            text = self._clean(error.detail)
            log.warning("%s: %s", error.failure.value, text)
            for message_id in error.ids:
                data = {"class": error.failure.value}
                await self._say(error_message(INTERNAL_ERROR, f"No answer from the server: {text}", data, message_id))
        except ClientClosed:
            return
        finally:
            self._input.done(line)

    async def _refuse(self, line: Line, refusal: Refusal) -> None:
        code = INVALID_REQUEST if refusal.code is None else refusal.code
        data = {"class": refusal.failure.value}
        await self._say(error_message(code, self._clean(refusal.detail), data, b"null"))
        self._input.done(line)

    async def _say(self, message: bytes) -> None:
        try:
            await self._output.write(message)
        except ClientClosed:
            return


async def _judged(line: Line) -> Envelope | list[Envelope]:
    """Raises Refusal."""
    if line.too_long:
        raise refuse(f"a message of more than {MAX_LINE} bytes")
    if len(line.data) > _INLINE_JUDGING:
        return await asyncio.to_thread(parse, line.data, JSON_DEPTH)
    return parse(line.data, JSON_DEPTH)
