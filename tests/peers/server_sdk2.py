"""The small server of the peer tests on the Python SDK 2.x: both eras on one address, sessions, resumable streams."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, ListRoots, Resolve, Sample
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    CreateMessageResult,
    EmptyResult,
    JSONRPCMessage,
    ListRootsResult,
    PromptReference,
    ResourceTemplateReference,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel

from tests.peers.serving import PHASES, serve

server = MCPServer("peer-sdk2", instructions="Says what it is told. 月", log_level="CRITICAL", version="1.0.0")
cancelled: dict[str, anyio.Event] = {}


class Moon(BaseModel):
    """A structured answer."""

    name: str
    mass: float
    craters: list[str]


class Name(BaseModel):
    """What the user is asked for."""

    name: str


class Memory(EventStore):
    """Keeps every event; ids count up through all streams."""

    def __init__(self) -> None:
        self.events: list[tuple[StreamId, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        if not last_event_id.isdecimal() or not 0 < int(last_event_id) <= len(self.events):
            return None
        first = int(last_event_id)
        stream = self.events[first - 1][0]
        for number, (owner, message) in enumerate(self.events[first:], start=first + 1):
            if owner == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


@server.tool()
def echo(text: str) -> str:
    """Give the text back."""
    return text


@server.tool()
def moon() -> Moon:
    """Answer with structure."""
    return Moon(name="月 Луна 🌕", mass=7.35e22, craters=["Tycho", "Copérnico"])


@server.tool()
def big(size: int) -> str:
    """Answer with much text."""
    return "0123456789abcde\n" * (size // 16)


@server.tool()
def fail() -> str:
    """Answer with a tool error."""
    raise ToolError("no moon tonight")


@server.tool()
async def count(ctx: Context, steps: int) -> str:
    """Report progress at every step."""
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps, f"step {step}")
    return f"{steps} steps"


@server.tool()
async def talk(ctx: Context) -> str:
    """Write two log messages."""
    await ctx.info("first word")  # type: ignore[deprecated]
    await ctx.warning({"second": "слово"})  # type: ignore[deprecated]
    return "talked"


def added() -> str:
    """Is here only for a while."""
    return "here"


@server.tool()
async def announce(ctx: Context) -> str:
    """Add a tool and say that the list has changed."""
    server.add_tool(added)
    await ctx.session.send_tool_list_changed()
    await ctx.notify_tools_changed()
    return "announced"


@server.tool()
async def withdraw(ctx: Context) -> str:
    """Remove the tool again and say so."""
    server.remove_tool("added")
    await ctx.session.send_tool_list_changed()
    await ctx.notify_tools_changed()
    return "withdrawn"


@server.tool()
async def touch(ctx: Context, uri: str) -> str:
    """Say that a resource has changed."""
    await ctx.session.send_resource_updated(uri)
    await ctx.notify_resource_updated(uri)
    return "touched"


def _model(prompt: str) -> Sample:
    return Sample([SamplingMessage(role="user", content=TextContent(type="text", text=prompt))], max_tokens=50)


@server.tool()
def ask_model(prompt: str, answer: Annotated[CreateMessageResult, Resolve(_model)]) -> str:
    """Have the client's model complete a prompt."""
    content = answer.content
    return f"{prompt} -> {content.text if isinstance(content, TextContent) else content}"


def _user() -> Elicit[Name]:
    return Elicit("What is your name?", Name)


@server.tool()
def ask_user(answer: Annotated[Name, Resolve(_user)]) -> str:
    """Ask the user for a name."""
    return f"Hello {answer.name}"


def _roots() -> ListRoots:
    return ListRoots()


@server.tool()
def ask_roots(answer: Annotated[ListRootsResult, Resolve(_roots)]) -> str:
    """Ask the client for its roots."""
    return ", ".join(str(root.uri) for root in answer.roots)


@server.tool()
async def wait(ctx: Context, key: str) -> str:
    """Say that it has begun, then wait until it is cancelled."""
    ended = cancelled.setdefault(key, anyio.Event())
    await ctx.report_progress(1, 2, "waiting")
    try:
        await anyio.sleep_forever()
    finally:
        ended.set()
    return "never"


@server.tool()
async def was_cancelled(key: str) -> str:
    """Answer as soon as the call of `wait` with this key has been cancelled."""
    await cancelled.setdefault(key, anyio.Event()).wait()
    return "cancelled"


@server.tool()
async def interrupted(ctx: Context) -> str:
    """Hang up in the middle of the answer: the rest is for those who resume."""
    await ctx.report_progress(1, 2, "before")
    await ctx.close_sse_stream()
    await ctx.report_progress(2, 2, "after")
    return "resumed"


@server.tool()
def seen(ctx: Context) -> dict[str, str]:
    """Tell the headers of the request that brought this call."""
    return dict(ctx.headers or {})


@server.resource("moon://facts", mime_type="text/plain")
def facts() -> str:
    """A fixed resource."""
    return "384 400 km — далеко\n"


@server.resource("moon://crater/{name}", mime_type="text/plain")
def crater(name: str) -> str:
    """A templated resource."""
    return f"crater {name}"


@server.prompt()
def haiku(phase: str) -> str:
    """A prompt with an argument that can be completed."""
    return f"A haiku about the {phase} moon"


@server.completion()  # type: ignore[no-untyped-call, untyped-decorator]
async def complete(
    ref: PromptReference | ResourceTemplateReference,
    argument: CompletionArgument,
    context: CompletionContext | None,
) -> Completion | None:
    """Complete the phase of the moon."""
    if context is not None or not isinstance(ref, PromptReference):
        return None
    values = [phase for phase in PHASES if phase.startswith(argument.value)]
    return Completion(values=values, total=len(values), has_more=False)


async def accept(_ctx: object, _params: BaseModel) -> EmptyResult:
    """Agree to what the high-level server has no decorator for."""
    return EmptyResult()


def main() -> None:
    """Serve; `--json` answers with JSON bodies instead of event streams, `--sse` and `--stdio` are other transports."""
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    low = server._lowlevel_server  # the high-level class has no way to add these
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, accept)
    low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, accept)
    low.add_request_handler("logging/setLevel", SetLevelRequestParams, accept)
    if "--stdio" in sys.argv:
        server.run("stdio")
        return
    if "--sse" in sys.argv:
        serve(server.sse_app(), "/sse")
        return
    json_only = "--json" in sys.argv
    serve(server.streamable_http_app(json_response=json_only, event_store=Memory(), retry_interval=20))


if __name__ == "__main__":
    main()
