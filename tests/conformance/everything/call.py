"""One tool call or prompt request: its arguments, and what can be sent to the client while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import mcp_types as types
from mcp.server import ServerRequestContext
from mcp.server.connection import allowed_log_levels
from mcp.shared.exceptions import MCPError

from tests.conformance.everything.asking import Asking

Context = ServerRequestContext[Any, Any]

# Long enough for a client to see that messages arrive while the tool works, not all at its end.
_WORK = 0.05


class Call:
    """One request for a tool or a prompt. `ask` puts questions to the client."""

    def __init__(
        self,
        context: Context,
        arguments: Mapping[str, Any] | None,
        answers: types.InputResponses | None,
        state: str | None,
    ) -> None:
        self.context = context
        self.arguments = arguments or {}
        self.ask = Asking(context, answers or {}, state)

    def string(self, name: str) -> str:
        """A required text argument; -32602 if it is missing or something else."""
        value = self.arguments.get(name)
        if not isinstance(value, str):
            raise MCPError(types.INVALID_PARAMS, f"Argument {name!r} must be a string, found {value!r}")
        return value

    async def log(self, message: str) -> None:
        """Send a log message on this call's own stream, if the client wants messages of level info."""
        if "info" not in allowed_log_levels(self.context.protocol_version, self.context.meta):
            return
        params = types.LoggingMessageNotificationParams(level="info", data=message, logger="everything")
        await self.context.session.send_notification(
            types.LoggingMessageNotification(params=params), self.context.request_id
        )

    async def progress(self, done: int) -> None:
        """Report `done` of 100, if the client gave a progress token."""
        await self.context.session.report_progress(done, 100)

    async def work(self) -> None:
        """Take a moment, as a real tool does."""
        await anyio.sleep(_WORK)
