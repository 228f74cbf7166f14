"""All of it as one SDK server that speaks every revision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mcp_types as types
from mcp.server import Server
from mcp.server.caching import CacheHint
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError

from tests.conformance.everything import interactive, prompts, resources, tools
from tests.conformance.everything.asking import Unanswered
from tests.conformance.everything.call import Call, Context
from tests.conformance.everything.material import said
from tests.conformance.everything.offer import Offer

_NAME = "everything"
_VERSION = "1.0"
_SHORT = CacheHint(ttl_ms=1000, scope="public")


class Everything:
    """The handlers, and what little they have to remember."""

    def __init__(self) -> None:
        self._bus = InMemorySubscriptionBus()
        self._watchers = resources.Watchers()
        self._changes = 0
        self._tools = {offer.name: offer for offer in (*tools.TOOLS, *interactive.TOOLS, *self._changing())}
        self._prompts = {offer.name: offer for offer in prompts.PROMPTS}

    def server(self) -> Server[Any]:
        """An SDK server with every handler; it fits any transport."""
        server: Server[Any] = Server(
            _NAME,
            version=_VERSION,
            instructions="A server for tests. It has one tool for each thing that a client may have to cope with.",
            cache_hints={
                "tools/list": _SHORT,
                "prompts/list": _SHORT,
                "resources/list": _SHORT,
                "resources/templates/list": _SHORT,
                "resources/read": CacheHint(ttl_ms=0, scope="private"),
                "server/discover": _SHORT,
            },
            get_tool_input_schema=self._input_schema,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_subscribe_resource=self._subscribe,
            on_unsubscribe_resource=self._unsubscribe,
            on_subscriptions_listen=ListenHandler(self._bus),
            on_completion=self._complete,
        )
        # Not through the constructor: there the SDK warns that 2026-07-28 deprecates logging.
        server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, self._set_level)
        server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=_NAME))
        return server

    def _changing(self) -> tuple[Offer, ...]:
        return (
            Offer("test_trigger_tool_change", "Changes its own description and tells subscribers.", self._change_tools),
            Offer("test_trigger_prompt_change", "Changes a prompt's description.", self._change_prompts),
            Offer("test_trigger_resource_update", "Changes the watched resource.", self._change_resource),
        )

    async def _change_tools(self, _call: Call) -> types.CallToolResult:
        name = "test_trigger_tool_change"
        self._tools[name] = replace(self._tools[name], description=self._next_description())
        await self._bus.publish(ToolsListChanged())
        return said("Told everyone who listens to tools.")

    async def _change_prompts(self, _call: Call) -> types.CallToolResult:
        name = "test_simple_prompt"
        self._prompts[name] = replace(self._prompts[name], description=self._next_description())
        await self._bus.publish(PromptsListChanged())
        return said("Told everyone who listens to prompts.")

    def _next_description(self) -> str:
        self._changes += 1
        return f"Described anew by change number {self._changes}."

    async def _change_resource(self, _call: Call) -> types.CallToolResult:
        await self._watchers.changed()
        await self._bus.publish(ResourceUpdated(uri=resources.WATCHED))
        return said("Told everyone who watches the resource.")

    def _input_schema(self, name: str) -> dict[str, Any] | None:
        offer = self._tools.get(name)
        return None if offer is None else dict(offer.schema)

    async def _list_tools(self, _context: Context, _params: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[offer.listed() for offer in self._tools.values()])

    async def _call_tool(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        offer = self._tools.get(params.name)
        if offer is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        try:
            return await offer.run(Call(context, params.arguments, params.input_responses, params.request_state))
        except Unanswered as questions:
            return questions.result

    async def _list_prompts(self, _context: Context, _params: object) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=[offer.listed() for offer in self._prompts.values()])

    async def _get_prompt(
        self, context: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult | types.InputRequiredResult:
        offer = self._prompts.get(params.name)
        if offer is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
        try:
            return await offer.run(Call(context, params.arguments, params.input_responses, params.request_state))
        except Unanswered as questions:
            return questions.result

    async def _list_resources(self, _context: Context, _params: object) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=resources.RESOURCES)

    async def _list_templates(self, _context: Context, _params: object) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=resources.TEMPLATES)

    async def _read_resource(
        self, _context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        return resources.read(params.uri, self._watchers.changes)

    async def _subscribe(self, context: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        self._watchers.add(_session_key(context), params.uri, context.session)
        return types.EmptyResult()

    async def _unsubscribe(self, context: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        self._watchers.remove(_session_key(context), params.uri)
        return types.EmptyResult()

    async def _complete(self, _context: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        return prompts.complete(params.argument)

    async def _set_level(self, _context: Context, _params: types.SetLevelRequestParams) -> types.EmptyResult:
        return types.EmptyResult()


def _session_key(context: Context) -> str:
    return "" if context.request is None else str(context.request.headers.get("mcp-session-id", ""))
