# mypy: ignore-errors
"""The small server of the peer tests on the Python SDK 1.x, as it still runs in many places. Runs in .venv-sdk1.

It speaks streamable HTTP, or with `--sse` or `--stdio` what these say.
"""

# mypy checks against the SDK 2.x of .venv, where half of these names do not exist.
from __future__ import annotations

import sys

import anyio
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    JSONRPCMessage,
    PromptReference,
    ResourceTemplateReference,
    SamplingMessage,
    TextContent,
)
from pydantic import AnyUrl, BaseModel

from tests.peers.serving import PHASES, serve

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


server = FastMCP(
    "peer-sdk1",
    instructions="Says what it is told. 月",
    log_level="CRITICAL",
    event_store=Memory(),
    json_response="--json" in sys.argv,
    retry_interval=20,
)


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
    raise ValueError("no moon tonight")


@server.tool()
async def count(ctx: Context, steps: int) -> str:
    """Report progress at every step."""
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps, f"step {step}")
    return f"{steps} steps"


@server.tool()
async def talk(ctx: Context) -> str:
    """Write two log messages."""
    await ctx.info("first word")
    await ctx.warning({"second": "слово"})
    return "talked"


def added() -> str:
    """Is here only for a while."""
    return "here"


@server.tool()
async def announce(ctx: Context) -> str:
    """Add a tool and say that the list has changed."""
    server.add_tool(added)
    await ctx.session.send_tool_list_changed()
    return "announced"


@server.tool()
async def withdraw(ctx: Context) -> str:
    """Remove the tool again and say so."""
    server.remove_tool("added")
    await ctx.session.send_tool_list_changed()
    return "withdrawn"


@server.tool()
async def touch(ctx: Context, uri: str) -> str:
    """Say that a resource has changed."""
    await ctx.session.send_resource_updated(AnyUrl(uri))
    return "touched"


@server.tool()
async def ask_model(ctx: Context, prompt: str) -> str:
    """Have the client's model complete a prompt."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    answer = await ctx.session.create_message([message], max_tokens=50, related_request_id=ctx.request_id)
    return f"{prompt} -> {answer.content.text}"


@server.tool()
async def ask_user(ctx: Context) -> str:
    """Ask the user for a name."""
    answer = await ctx.elicit("What is your name?", Name)
    return f"Hello {answer.data.name}"


@server.tool()
async def ask_roots(ctx: Context) -> str:
    """Ask the client for its roots."""
    answer = await ctx.session.list_roots()
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
    return dict(ctx.request_context.request.headers)


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


@server.completion()
async def complete(
    ref: PromptReference | ResourceTemplateReference,
    argument: CompletionArgument,
    context: CompletionContext | None,
) -> Completion | None:
    """Complete the phase of the moon."""
    if context is not None or not isinstance(ref, PromptReference):
        return None
    values = [phase for phase in PHASES if phase.startswith(argument.value)]
    return Completion(values=values, total=len(values), hasMore=False)


low = server._mcp_server  # the high-level class has no way to add these


@low.subscribe_resource()
async def subscribe(_uri: AnyUrl) -> None:
    """Agree."""


@low.unsubscribe_resource()
async def unsubscribe(_uri: AnyUrl) -> None:
    """Agree."""


@low.set_logging_level()
async def set_level(_level: str) -> None:
    """Agree."""


if __name__ == "__main__":
    if "--stdio" in sys.argv:
        server.run("stdio")
    elif "--sse" in sys.argv:
        serve(server.sse_app(), "/sse")
    else:
        serve(server.streamable_http_app())
