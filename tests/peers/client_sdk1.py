# mypy: ignore-errors
"""A client on the Python SDK 1.x, as it still runs in many places. Runs in .venv-sdk1."""

# mypy checks against the SDK 2.x of .venv, where half of these names do not exist.
from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError
from pydantic import AnyUrl, BaseModel, FileUrl

from tests.peers import observing
from tests.peers.observing import Events, Trace, observe


def plain(value: BaseModel) -> dict:
    """A message as JSON has it."""
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)


class Answers:
    """Answers the server's questions, and notes them."""

    def __init__(self, events: Events) -> None:
        self.events = events

    async def sample(self, _context: object, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        self.events.add("sampling/createMessage", plain(params))
        content = types.TextContent(type="text", text=observing.SAMPLED)
        return types.CreateMessageResult(role="assistant", content=content, model="moon-1", stopReason="endTurn")

    async def elicit(self, _context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.events.add("elicitation/create", plain(params))
        return types.ElicitResult(action="accept", content=dict(observing.ELICITED))

    async def roots(self, _context: object) -> types.ListRootsResult:
        self.events.add("roots/list", {})
        return types.ListRootsResult(roots=[types.Root(uri=FileUrl(uri), name=name) for uri, name in observing.ROOTS])

    async def message(self, message: object) -> None:
        if isinstance(message, types.ServerNotification) and message.root.method != "notifications/progress":
            self.events.add(message.root.method, plain(message.root.params) if message.root.params else {})

    async def progress(self, done: float, total: float | None, message: str | None) -> None:
        self.events.add("notifications/progress", {"progress": done, "total": total, "message": message})


class Conversation:
    """One connection to one target, and the ops that a plan may ask for."""

    def __init__(
        self, client: ClientSession, answers: Answers, http: httpx.AsyncClient, target: dict, trace: Trace
    ) -> None:
        self.client = client
        self.answers = answers
        self.http = http
        self.target = target
        self.trace = trace
        self.version = ""
        self.initialized: types.InitializeResult | None = None

    async def step(self, step: dict) -> dict:
        """Carry out one step."""
        start = 0 if step["op"] == "await" else len(self.answers.events.seen)
        op = getattr(self, f"op_{step['op']}")
        observation = await observe(lambda: op(step), McpError)
        if step.get("watch"):
            watched = await observe(lambda: self.answers.events.since(start, step["watch"]), McpError)
            observation["events"] = watched.get("result", watched)
        return observation

    async def op_await(self, _step: dict) -> None:
        """Nothing: only the events count."""

    async def op_ping(self, _step: dict) -> object:
        return plain(await self.client.send_ping())

    async def op_level(self, _step: dict) -> object:
        return plain(await self.client.set_logging_level("debug"))

    async def op_tools(self, _step: dict) -> object:
        return plain(await self.client.list_tools())

    async def op_call(self, step: dict) -> object:
        callback = self.answers.progress if "notifications/progress" in step["watch"] else None
        return plain(await self.client.call_tool(step["tool"], step["args"], progress_callback=callback))

    async def op_many(self, step: dict) -> object:
        calls = [self.client.call_tool(step["tool"], arguments) for arguments in step["args"]]
        return [plain(result) for result in await asyncio.gather(*calls)]

    async def op_cancel(self, step: dict) -> object:
        """Cancel a call as soon as the server says that it has begun."""
        events = self.answers.events
        start = len(events.seen)
        async with anyio.create_task_group() as group:
            group.start_soon(self._call_in_vain, step)
            begun = await events.since(start, {"notifications/progress": 1})
            # This SDK sends no cancellation by itself; its newest request is the call.
            params = types.CancelledNotificationParams(requestId=self.client._request_id - 1)
            notification = types.CancelledNotification(params=params)
            await self.client.send_notification(types.ClientNotification(notification))
            group.cancel_scope.cancel()  # not every server answers a cancelled call
        return begun

    async def _call_in_vain(self, step: dict) -> None:
        call = self.client.call_tool(step["tool"], step["args"], progress_callback=self.answers.progress)
        await observe(lambda: call, McpError)

    async def op_resources(self, _step: dict) -> object:
        return plain(await self.client.list_resources())

    async def op_templates(self, _step: dict) -> object:
        return plain(await self.client.list_resource_templates())

    async def op_read(self, step: dict) -> object:
        return plain(await self.client.read_resource(AnyUrl(step["uri"])))

    async def op_prompts(self, _step: dict) -> object:
        return plain(await self.client.list_prompts())

    async def op_prompt(self, step: dict) -> object:
        return plain(await self.client.get_prompt(step["prompt"], step["args"]))

    async def op_complete(self, step: dict) -> object:
        reference = types.PromptReference(type="ref/prompt", name=step["prompt"])
        return plain(await self.client.complete(reference, {"name": step["argument"], "value": step["value"]}))

    async def op_changed(self, step: dict) -> object:
        """Make the server's tools change and wait until it says so."""
        start = len(self.answers.events.seen)
        await self.client.call_tool(step["tool"], {})
        return await self.answers.events.since(start, {"notifications/tools/list_changed": 1})

    async def op_updated(self, step: dict) -> object:
        """Subscribe to a resource, make it change, wait until the server says so, unsubscribe."""
        uri = AnyUrl(step["uri"])
        await self.client.subscribe_resource(uri)
        start = len(self.answers.events.seen)
        await self.client.call_tool(step["tool"], step["args"])
        updated = await self.answers.events.since(start, {"notifications/resources/updated": 1})
        await self.client.unsubscribe_resource(uri)
        return updated

    async def op_lost(self, step: dict) -> object:
        """End a session behind the SDK's back; see what it makes of the next answer; begin a new one."""
        async with connect(self.target) as doomed:
            deleted = await doomed.raw("DELETE", doomed.trace.session)
            after = await observe(lambda: doomed.op_call({**step, "watch": {}}), McpError)
        async with connect(self.target) as fresh:
            return {"deleted": deleted, "after": after, "fresh": await fresh.op_call({**step, "watch": {}})}

    async def op_unknown(self, _step: dict) -> object:
        """Call with a session id that nobody gave out."""
        return await self.raw("POST", "no-such-session")

    async def raw(self, method: str, session: str | None) -> int:
        """The status of a request of our own making."""
        request = observing.raw_request(method, session, self.version)
        return (await self.http.request(url=self.target["url"], **request)).status_code


@asynccontextmanager
async def transport(target: dict, trace: Trace, http: httpx.AsyncClient) -> AsyncIterator[tuple]:
    """What to read from and to write to, over the transport that the target names."""
    match target["transport"]:
        case "stdio":
            command, *arguments = target["command"]
            async with stdio_client(
                StdioServerParameters(command=command, args=arguments, env=dict(os.environ))
            ) as ends:
                yield ends
        case "sse":

            def noted(**options: object) -> httpx.AsyncClient:
                return httpx.AsyncClient(**options, event_hooks={"response": [noting(trace)]})

            async with sse_client(target["url"], target["headers"], httpx_client_factory=noted) as ends:
                yield ends
        case _:
            async with streamable_http_client(target["url"], http_client=http) as (receive, send, _session):
                yield receive, send


def noting(trace: Trace) -> object:
    """A hook that notes each answer."""

    async def note(response: httpx.Response) -> None:
        trace.note(response.request.method, response.request.headers, response.status_code, response.headers)

    return note


@asynccontextmanager
async def connect(target: dict) -> AsyncIterator[Conversation]:
    """A connected client; its GET stream is open, if it has one beside the answers."""
    events, trace = Events(), Trace()
    answers = Answers(events)
    timeout, hooks = httpx.Timeout(20), {"response": [noting(trace)]}
    async with (
        httpx.AsyncClient(headers=target["headers"], timeout=timeout, event_hooks=hooks) as http,
        transport(target, trace, http) as (receive, send),
        ClientSession(
            receive,
            send,
            sampling_callback=answers.sample,
            elicitation_callback=answers.elicit,
            list_roots_callback=answers.roots,
            message_handler=answers.message,
        ) as client,
    ):
        conversation = Conversation(client, answers, http, target, trace)
        conversation.initialized = await client.initialize()
        conversation.version = conversation.initialized.protocolVersion
        if target["transport"] == observing.STREAMABLE_HTTP:
            async with asyncio.timeout(observing.STEP_SECONDS):
                await trace.stream_open.wait()
        yield conversation


async def converse(target: dict, plan: list[dict]) -> dict:
    """All steps with one target, then the end of the session."""
    async with connect(target) as conversation:
        initialized = conversation.initialized
        connected = {
            "version": conversation.version,
            "server": plain(initialized.serverInfo),
            "capabilities": plain(initialized.capabilities),
            "instructions": initialized.instructions,
        }
        steps = {step["name"]: await conversation.step(step) for step in plan}
    trace, ended = conversation.trace, None
    if trace.session is not None:
        async with httpx.AsyncClient(headers=target["headers"]) as http:
            request = observing.raw_request("POST", trace.session, conversation.version)
            ended = (await http.request(url=target["url"], **request)).status_code
    return {"connected": connected, "steps": steps, "http": trace.report(), "ended": ended}


if __name__ == "__main__":
    observing.run(converse)
