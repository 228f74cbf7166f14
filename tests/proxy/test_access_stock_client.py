"""The stock SDK on both sides of access rules: it sees less, is refused, and goes on."""

from __future__ import annotations

import pytest
from mcp.shared.exceptions import MCPError

from moongate.testing import gateway
from tests.proxy.talk import config, run
from tests.proxy.test_sse_stock_client import client, server

pytestmark = pytest.mark.peers

RULES = {
    "rules": [
        {"allow": ["tool:test_simple_*", "tool:test_tool_with_progress", "resource:test://static-*", "prompt:*"]},
        {"deny": ["prompt:test_prompt_with_arguments"], "when": 'arguments.arg1 == "secret"'},
    ]
}


@pytest.mark.requirement("PM-45")
@pytest.mark.parametrize("door", ["sse", "http"])
@pytest.mark.parametrize("backend", ["sse", "http"])
def test_the_stock_client_lives_with_access_rules(backend: str, door: str) -> None:
    """Its lists are short, a refused call is an error of that call, and the session goes on."""

    async def story() -> None:
        async with server(backend) as url, gateway(config(url, type=None, access=RULES)) as gate:
            address = f"{gate.url}/mcp/one" + ("/events" if door == "sse" else "")
            async with client(address, door) as session:
                names = {tool.name for tool in (await session.list_tools()).tools}
                assert names == {"test_simple_text", "test_tool_with_progress"}
                assert {str(found.uri).partition("-")[0] for found in (await session.list_resources()).resources} == {
                    "test://static"
                }
                assert not (await session.list_resource_templates()).resource_templates
                with pytest.raises(MCPError, match="This is not allowed"):
                    await session.call_tool("test_error_handling", {})
                with pytest.raises(MCPError, match="This is not allowed"):
                    await session.read_resource("test://template/1/data")
                prompt = "test_prompt_with_arguments"
                assert prompt in {found.name for found in (await session.list_prompts()).prompts}
                with pytest.raises(MCPError, match="This is not allowed"):
                    await session.get_prompt(prompt, {"arg1": "secret", "arg2": "b"})
                assert (await session.get_prompt(prompt, {"arg1": "a", "arg2": "b"})).messages
                assert "text" in str((await session.call_tool("test_simple_text", {})).content[0])

    run(story())
