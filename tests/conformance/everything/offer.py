"""What a table of tools is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mcp_types as types

from tests.conformance.everything.call import Call

Run = Callable[[Call], Awaitable[types.CallToolResult]]


def strings(*names: str) -> dict[str, Any]:
    """An input schema of required text arguments, maybe of none."""
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": list(names)}


@dataclass(frozen=True)
class Offer:
    """A tool: what `tools/list` says of it, and what it does."""

    name: str
    description: str
    run: Run
    schema: Mapping[str, Any] = field(default_factory=strings)

    def listed(self) -> types.Tool:
        """The entry in `tools/list`."""
        return types.Tool(name=self.name, description=self.description, input_schema=dict(self.schema))
