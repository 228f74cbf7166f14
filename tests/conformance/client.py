"""`python -m tests.conformance.client [--through] URL`: an SDK client that uses all that a server offers.

The suite starts it for each of its client scenarios, in which the suite itself is the server, and judges what arrives.
With `--through` the client talks to a gateway that is started in front of URL just for it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp import Client
from mcp.client.session import ClientRequestContext
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from tests.conformance.processes import gateway

_EXAMPLES: Mapping[str, Any] = {
    "string": "text",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "object": {},
    "array": [],
    "null": None,
}


def _fill(schema: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """A value for each of the named properties: its default, or one that fits its type."""
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    return {name: properties[name].get("default", _EXAMPLES[properties[name].get("type", "object")]) for name in names}


# The SDK passes `context` by name.
async def _accept(context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:  # noqa: ARG001
    """Fill in the whole form."""
    if not isinstance(params, types.ElicitRequestFormParams):
        return types.ElicitResult(action="decline")
    schema = params.requested_schema
    return types.ElicitResult(action="accept", content=_fill(schema, list(schema.get("properties", {}))))


async def _complete(
    context: ClientRequestContext,  # noqa: ARG001
    params: types.CreateMessageRequestParams,
) -> types.CreateMessageResult:
    """What a very small language model would say."""
    content = types.TextContent(type="text", text=f"An answer to {len(params.messages)} messages")
    return types.CreateMessageResult(role="assistant", content=content, model="none")


async def _roots(context: ClientRequestContext) -> types.ListRootsResult:  # noqa: ARG001
    """No roots at all."""
    return types.ListRootsResult(roots=[])


async def _call(client: Client, name: str, arguments: Mapping[str, Any]) -> None:
    """Call a tool and go on, whatever it answers: some scenarios answer with what the SDK does not accept."""
    try:
        await client.call_tool(name, dict(arguments))
    except (MCPError, ValidationError) as error:
        print(f"{name}: {error}", file=sys.stderr)


async def _use(client: Client, calls: list[dict[str, Any]]) -> None:
    """Call every tool, read every resource and get every prompt; make `calls` where the scenario names some."""
    tools = (await client.list_tools()).tools
    for call in calls:
        await _call(client, call["name"], call["arguments"])
    for tool in () if calls else tools:
        arguments = _fill(tool.input_schema, tool.input_schema.get("required", []))
        if tool.name == "json_schema_echo":
            # This one wants back what the client understood of the schema of the other tool.
            arguments = {"schema": next(other.input_schema for other in tools if other is not tool)}
        await _call(client, tool.name, arguments)
    if client.server_capabilities.resources is not None:
        for resource in (await client.list_resources()).resources:
            await client.read_resource(resource.uri)
    if client.server_capabilities.prompts is not None:
        for prompt in (await client.list_prompts()).prompts:
            await client.get_prompt(prompt.name)


async def _run(url: str) -> None:
    modern = os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"] >= "2026-07-28"
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    client = Client(
        url,
        mode="auto" if modern else "legacy",
        elicitation_callback=_accept,
        sampling_callback=_complete,
        list_roots_callback=_roots,
        read_timeout_seconds=20,
    )
    async with client:
        await _use(client, context.get("toolCalls", []))


def main() -> None:
    """Read the command line as the suite writes it: the address comes last."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.client", description=__doc__)
    parser.add_argument("--through", action="store_true", help="through a gateway of its own")
    parser.add_argument("url")
    options = parser.parse_args()
    if not options.through:
        anyio.run(_run, options.url)
        return
    suite = {"suite": {"url": options.url, "type": "streamable-http"}}
    with tempfile.TemporaryDirectory() as folder, gateway(Path(folder), suite) as base:
        anyio.run(_run, f"{base}/suite")


if __name__ == "__main__":
    main()
