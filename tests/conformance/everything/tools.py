"""Tools that answer by themselves, without a question to the client."""

from __future__ import annotations

from typing import Any

import mcp_types as types

from tests.conformance.everything.call import Call
from tests.conformance.everything.material import WAV, embedded, failed, image, said, text
from tests.conformance.everything.offer import Offer

# The suite looks for each of these keywords in what `tools/list` returns.
_SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

# One header of each kind of value that may be mirrored into `Mcp-Param-*`.
_MIRRORED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "priority": {"type": "integer", "x-mcp-header": "Priority"},
        "urgent": {"type": "boolean", "x-mcp-header": "Urgent"},
    },
    "required": ["region"],
}


async def _simple_text(_call: Call) -> types.CallToolResult:
    return said("This is a simple text response for testing.")


async def _image(_call: Call) -> types.CallToolResult:
    return types.CallToolResult(content=[image()])


async def _audio(_call: Call) -> types.CallToolResult:
    return types.CallToolResult(content=[types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")])


async def _embedded(_call: Call) -> types.CallToolResult:
    resource = embedded("test://embedded-resource", "This is an embedded resource content.")
    return types.CallToolResult(content=[resource])


async def _mixed(_call: Call) -> types.CallToolResult:
    resource = embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json")
    return types.CallToolResult(content=[text("Multiple content types test:"), image(), resource])


async def _error(_call: Call) -> types.CallToolResult:
    return failed("This tool intentionally returns an error for testing")


async def _with_logging(call: Call) -> types.CallToolResult:
    await call.log("Tool execution started")
    await call.work()
    await call.log("Tool processing data")
    await call.work()
    await call.log("Tool execution completed")
    return said("Three log messages were sent, if they were wanted.")


async def _one_log_message(call: Call) -> types.CallToolResult:
    await call.log("A message for those who set a log level")
    return said("One log message was sent, if it was wanted.")


async def _with_progress(call: Call) -> types.CallToolResult:
    await call.progress(0)
    await call.work()
    await call.progress(50)
    await call.work()
    await call.progress(100)
    return said("All of the work is done.")


async def _reconnection(call: Call) -> types.CallToolResult:
    if call.context.close_sse_stream is not None:
        await call.context.close_sse_stream()
    await call.work()
    return said("Finished after the event stream was closed.")


async def _schema(call: Call) -> types.CallToolResult:
    return said(f"Arguments: {', '.join(sorted(call.arguments))}")


async def _mirrored(call: Call) -> types.CallToolResult:
    return said(f"Region: {call.string('region')}")


TOOLS = (
    Offer("test_simple_text", "Returns one text block.", _simple_text),
    Offer("test_image_content", "Returns one image.", _image),
    Offer("test_audio_content", "Returns one sound.", _audio),
    Offer("test_embedded_resource", "Returns a resource with its text.", _embedded),
    Offer("test_multiple_content_types", "Returns a text, an image and a resource.", _mixed),
    Offer("test_error_handling", "Fails always and says so in its result.", _error),
    Offer("test_tool_with_logging", "Sends three log messages while it works.", _with_logging),
    Offer("test_logging_tool", "Sends one log message.", _one_log_message),
    Offer("test_tool_with_progress", "Reports progress three times.", _with_progress),
    Offer("test_reconnection", "Closes its event stream before it answers.", _reconnection),
    Offer("json_schema_2020_12_tool", "Tool with JSON Schema 2020-12 features", _schema, _SCHEMA_2020_12),
    Offer("test_x_mcp_header", "Has arguments that are mirrored into headers.", _mirrored, _MIRRORED),
)
