"""A client on the Python SDK 2.x. Its one argument is the SDK's `mode`: `legacy` (always the handshake) or `auto`."""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.session import ClientRequestContext, IncomingMessage
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import (
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestParams,
    ElicitResult,
    ListRootsResult,
    PromptReference,
    Root,
    TextContent,
)
from pydantic import BaseModel, FileUrl

from tests.peers import observing
from tests.peers.observing import Events, Trace, observe

MODERN = "2026-07-28"

Target = dict[str, Any]


def plain(value: BaseModel) -> dict[str, Any]:
    """A message as JSON has it."""
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)


class Answers:
    """Answers the server's questions, and notes them."""

    def __init__(self, events: Events) -> None:
        self.events = events

    async def sample(
        self,
        context: ClientRequestContext,  # noqa: ARG002 (the SDK's protocol fixes the name)
        params: CreateMessageRequestParams,
    ) -> CreateMessageResult:
        self.events.add("sampling/createMessage", plain(params))
        content = TextContent(type="text", text=observing.SAMPLED)
        return CreateMessageResult(role="assistant", content=content, model="moon-1", stop_reason="endTurn")

    async def elicit(
        self,
        context: ClientRequestContext,  # noqa: ARG002 (as above)
        params: ElicitRequestParams,
    ) -> ElicitResult:
        self.events.add("elicitation/create", plain(params))
        return ElicitResult(action="accept", content=dict(observing.ELICITED))

    async def roots(self, context: ClientRequestContext) -> ListRootsResult:  # noqa: ARG002 (as above)
        self.events.add("roots/list", {})
        return ListRootsResult(roots=[Root(uri=FileUrl(uri), name=name) for uri, name in observing.ROOTS])

    async def message(self, message: IncomingMessage) -> None:
        if not isinstance(message, Exception) and message.method != "notifications/progress":
            self.events.add(message.method, plain(message.params) if message.params else {})

    async def progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.events.add("notifications/progress", {"progress": progress, "total": total, "message": message})


class Conversation:
    """One connection to one target, and the ops that a plan may ask for."""

    def __init__(
        self, client: Client, answers: Answers, http: httpx2.AsyncClient, target: Target, trace: Trace
    ) -> None:
        self.client = client
        self.answers = answers
        self.http = http
        self.target = target
        self.trace = trace

    async def step(self, step: dict[str, Any]) -> dict[str, Any]:
        """Carry out one step."""
        start = 0 if step["op"] == "await" else len(self.answers.events.seen)
        op = getattr(self, f"op_{step['op']}")
        observation = await observe(lambda: op(step), MCPError)
        if step.get("watch"):
            watched = await observe(lambda: self.answers.events.since(start, step["watch"]), MCPError)
            observation["events"] = watched.get("result", watched)
        return observation

    async def op_await(self, _step: dict[str, Any]) -> None:
        """Nothing: only the events count."""

    async def op_ping(self, _step: dict[str, Any]) -> object:
        return plain(await self.client.send_ping())

    async def op_level(self, _step: dict[str, Any]) -> object:
        return plain(await self.client.set_logging_level("debug"))

    async def op_tools(self, _step: dict[str, Any]) -> object:
        return plain(await self.client.list_tools(cache_mode="bypass"))

    async def op_call(self, step: dict[str, Any]) -> object:
        callback = self.answers.progress if "notifications/progress" in step["watch"] else None
        return plain(await self.client.call_tool(step["tool"], step["args"], progress_callback=callback))

    async def op_many(self, step: dict[str, Any]) -> object:
        calls = [self.client.call_tool(step["tool"], arguments) for arguments in step["args"]]
        return [plain(result) for result in await asyncio.gather(*calls)]

    async def op_cancel(self, step: dict[str, Any]) -> object:
        """Cancel a call as soon as the server says that it has begun."""
        events = self.answers.events
        start = len(events.seen)
        async with anyio.create_task_group() as group:
            group.start_soon(self._call_in_vain, step)
            begun = await events.since(start, {"notifications/progress": 1})
            group.cancel_scope.cancel()
        return begun

    async def _call_in_vain(self, step: dict[str, Any]) -> None:
        await self.client.call_tool(step["tool"], step["args"], progress_callback=self.answers.progress)

    async def op_resources(self, _step: dict[str, Any]) -> object:
        return plain(await self.client.list_resources())

    async def op_templates(self, _step: dict[str, Any]) -> object:
        return plain(await self.client.list_resource_templates())

    async def op_read(self, step: dict[str, Any]) -> object:
        return plain(await self.client.read_resource(step["uri"]))

    async def op_prompts(self, _step: dict[str, Any]) -> object:
        return plain(await self.client.list_prompts())

    async def op_prompt(self, step: dict[str, Any]) -> object:
        return plain(await self.client.get_prompt(step["prompt"], step["args"]))

    async def op_complete(self, step: dict[str, Any]) -> object:
        reference = PromptReference(type="ref/prompt", name=step["prompt"])
        return plain(await self.client.complete(reference, {"name": step["argument"], "value": step["value"]}))

    async def op_changed(self, step: dict[str, Any]) -> object:
        """Make the server's tools change and wait until it says so."""
        if self.client.protocol_version == MODERN:
            async with self.client.listen(tools_list_changed=True) as listening:
                await self.client.call_tool(step["tool"], {})
                return type(await anext(aiter(listening))).__name__
        start = len(self.answers.events.seen)
        await self.client.call_tool(step["tool"], {})
        return await self.answers.events.since(start, {"notifications/tools/list_changed": 1})

    async def op_updated(self, step: dict[str, Any]) -> object:
        """Subscribe to a resource, make it change, wait until the server says so, unsubscribe."""
        uri = step["uri"]
        if self.client.protocol_version == MODERN:
            async with self.client.listen(resource_subscriptions=[uri]) as listening:
                await self.client.call_tool(step["tool"], step["args"])
                return repr(await anext(aiter(listening)))
        await self.client.subscribe_resource(uri)  # type: ignore[deprecated]
        start = len(self.answers.events.seen)
        await self.client.call_tool(step["tool"], step["args"])
        updated = await self.answers.events.since(start, {"notifications/resources/updated": 1})
        await self.client.unsubscribe_resource(uri)  # type: ignore[deprecated]
        return updated

    async def op_lost(self, step: dict[str, Any]) -> object:
        """End a session behind the SDK's back; see what it makes of the next answer; begin a new one."""
        async with connect(self.target, "legacy") as doomed:
            deleted = await doomed.raw("DELETE", doomed.trace.session)
            after = await observe(lambda: doomed.op_call({**step, "watch": {}}), MCPError)
        async with connect(self.target, "legacy") as fresh:
            return {"deleted": deleted, "after": after, "fresh": await fresh.op_call({**step, "watch": {}})}

    async def op_unknown(self, _step: dict[str, Any]) -> object:
        """Call with a session id that nobody gave out."""
        return await self.raw("POST", "no-such-session")

    async def raw(self, method: str, session: str | None) -> int:
        """The status of a request of our own making."""
        request = observing.raw_request(method, session, self.client.protocol_version)
        return (await self.http.request(url=self.target["url"], **request)).status_code


def transport(target: Target, trace: Trace, http: httpx2.AsyncClient) -> AbstractAsyncContextManager[Any]:
    """What to read from and to write to, over the transport that the target names."""
    match target["transport"]:
        case "stdio":
            command, *arguments = target["command"]
            return stdio_client(StdioServerParameters(command=command, args=arguments, env=dict(os.environ)))
        case "sse":

            def noted(
                headers: dict[str, str] | None = None,
                timeout: httpx2.Timeout | None = None,
                auth: httpx2.Auth | None = None,
            ) -> httpx2.AsyncClient:
                return httpx2.AsyncClient(headers=headers, timeout=timeout, auth=auth, event_hooks=hooks(trace))

            return sse_client(target["url"], target["headers"], httpx_client_factory=noted)
        case _:
            return streamable_http_client(target["url"], http_client=http)


def hooks(trace: Trace) -> dict[str, list[Any]]:
    """What notes each answer."""

    async def note(response: httpx2.Response) -> None:
        trace.note(response.request.method, response.request.headers, response.status_code, response.headers)

    return {"response": [note]}


@asynccontextmanager
async def connect(target: Target, mode: str) -> AsyncIterator[Conversation]:
    """A connected client; its GET stream is open, if it has one beside the answers."""
    events, trace = Events(), Trace()
    answers = Answers(events)
    timeout = httpx2.Timeout(20)
    async with httpx2.AsyncClient(headers=target["headers"], timeout=timeout, event_hooks=hooks(trace)) as http:
        client = Client(
            transport(target, trace, http),
            mode=mode,
            log_level="debug",
            sampling_callback=answers.sample,
            elicitation_callback=answers.elicit,
            list_roots_callback=answers.roots,
            message_handler=answers.message,
        )
        done = False
        try:
            async with client:
                if target["transport"] == observing.STREAMABLE_HTTP and client.protocol_version != MODERN:
                    async with asyncio.timeout(observing.STEP_SECONDS):
                        await trace.stream_open.wait()
                yield Conversation(client, answers, http, target, trace)
                done = True
        except* anyio.BrokenResourceError:  # the SDK cannot take an event that comes while it closes its stream
            if not done:
                raise


async def converse(target: Target, plan: list[dict[str, Any]]) -> dict[str, Any]:
    """All steps with one target, then the end of the session."""
    async with connect(target, sys.argv[1]) as conversation:
        client = conversation.client
        connected = {
            "version": client.protocol_version,
            "server": plain(client.server_info) if client.server_info else None,
            "capabilities": plain(client.server_capabilities),
            "instructions": client.instructions,
        }
        steps = {step["name"]: await conversation.step(step) for step in plan}
    trace, ended = conversation.trace, None
    if trace.session is not None:
        async with httpx2.AsyncClient(headers=target["headers"]) as http:
            request = observing.raw_request("POST", trace.session, str(connected["version"]))
            ended = (await http.request(url=target["url"], **request)).status_code
    return {"connected": connected, "steps": steps, "http": trace.report(), "ended": ended}


if __name__ == "__main__":
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    observing.run(converse)
