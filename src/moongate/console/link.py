"""The platform process's end of the pair: what the gateway says, and what it is asked."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from moongate.audit.redact import Redactor
from moongate.console.live import NoAnswer
from moongate.errors import Complaint, ConfigError

ANSWER_SECONDS = 10.0
FACTS_SECONDS = 0.5


# Of a server's address its path may be a secret; who it is, is said by the origin.
_BEHIND_ORIGIN = re.compile(r"(?<=://)([^/?#\s]*@)?([^/?#\s,]+)[/?].*?(?=, called |\Z)")


class Link:
    """`live.Live` over the pair.

    With each new `gateway` `told` is called and `news` is set; `ended` is set when the gateway is gone, or wants this
    process to stop (`wanted`).
    """

    def __init__(self, writer: asyncio.StreamWriter, told: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.settings: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.gateway: dict[str, Any] = {}
        self._force: dict[str, Any] = {}
        self.ended = asyncio.Event()
        self.news = asyncio.Event()
        self.wanted = False
        self._writer = writer
        self._told = told
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._explaining = asyncio.Lock()
        self._gathering = asyncio.Lock()
        self._gathered: dict[str, Any] = {}
        self._gathered_until = 0.0

    async def hear(self, reader: asyncio.StreamReader) -> None:
        """Until the gateway is gone."""
        try:
            with suppress(OSError, ValueError):
                while line := await reader.readline():
                    self._heard(json.loads(line))
        finally:
            self.ended.set()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(NoAnswer("the gateway is gone"))

    def say(self, message: dict[str, Any]) -> None:
        """Something the gateway should know."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    def stop(self) -> None:
        """As if the gateway had said so."""
        self.wanted = True
        self.ended.set()

    def _heard(self, message: dict[str, Any]) -> None:
        if "settings" in message and not self.settings.done():
            self.settings.set_result(message["settings"])
        elif "gateway" in message:
            self.gateway = message["gateway"]
            self.news.set()
            self._told()
        elif "force" in message:
            self._force = message["force"]
        elif "stop" in message:
            self.stop()
        elif "id" in message:
            waiting = self._waiting.get(message["id"])
            if waiting is not None and not waiting.done():
                if "complaints" in message:
                    complaints = tuple(Complaint(where, text) for where, text in message["complaints"])
                    waiting.set_exception(ConfigError(complaints))
                elif "error" in message:
                    waiting.set_exception(NoAnswer(message["error"]))
                else:
                    waiting.set_result(message["answer"])

    async def _ask(self, question: str, about: dict[str, Any] | None = None) -> dict[str, Any]:
        if self.ended.is_set():
            raise NoAnswer("the gateway is gone")
        number = next(self._numbers)
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        self.say({"id": number, "ask": question, "with": about or {}})
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.wait((waiting,))
            return waiting.result()
        except TimeoutError:
            raise NoAnswer(f"the gateway did not answer within {ANSWER_SECONDS:g} s") from None
        finally:
            del self._waiting[number]

    # -- live.Live

    async def ping(self) -> None:
        """See `Live`."""
        await self._ask("ping")

    async def facts(self) -> dict[str, Any]:
        """See `Live`. Asked at most twice a second, however many want to know: answering is the data plane's work."""
        async with self._gathering:
            now = asyncio.get_running_loop().time()
            if now >= self._gathered_until:
                self._gathered = await self._ask("facts")
                self._gathered_until = now + FACTS_SECONDS
            return self._gathered

    async def explain(self, question: dict[str, Any]) -> dict[str, Any]:
        """See `Live`. One after the other, for the same reason."""
        async with self._explaining:
            found = await self._ask("explain", question)
        return _cleaned(found, Redactor(self.gateway.get("secrets", ())))

    @property
    def in_force(self) -> bool:
        """See `Live`."""
        return bool(self._force.get("fine", True))

    @property
    def left_out(self) -> int:
        """See `Live`."""
        return int(self._force.get("leftOut", 0))

    @property
    def names(self) -> frozenset[str]:
        """See `Live`."""
        return frozenset(self.gateway.get("hosts", ()))

    @property
    def doors(self) -> dict[str, bool]:
        """See `Live`."""
        return dict(self.gateway.get("doors", {}))

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """See `Live`."""
        return {found["name"]: found["entry"] for found in self.gateway.get("instances", ())}


def _cleaned(found: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    """An explanation as everybody may see it who may ask."""
    steps = []
    for step in found["steps"]:
        reason = step["reason"]
        if step["rule"] == "server":
            reason = _BEHIND_ORIGIN.sub(r"\2", reason)
        steps.append({**step, "reason": redactor.clean(reason)})
    preflight = found.get("preflight")
    return {**found, "steps": steps, "preflight": preflight and _cleaned(preflight, redactor)}
