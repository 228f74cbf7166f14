"""A whole configuration file: both dialects beside the gateway's own blocks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, field_validator

from moongate.control.schema.binds import BindEntry
from moongate.control.schema.gateway import GatewayBlock
from moongate.control.schema.mcp_servers import ServerEntry
from moongate.control.schema.values import Flag, Name, Port, Strict, refusal


class NoConfig(Strict):
    """agentgateway's own settings. Accepted while it is empty: the gateway's settings are under `gateway:`."""


class ConsoleBlock(Strict):
    """The admin console. Checked, but not there yet."""

    host: str | None = Field(None, description="The address to listen on. Without it: loopback.")
    port: Port | None = Field(None, description="The port. Without it: 8001, or the next free one.")


class AuditBlock(Strict):
    """What is recorded about calls. Not there yet: only the defaults are accepted."""

    mode: Literal["normal", "strict"] = Field(
        "normal", description="`strict` refuses calls that cannot be recorded: not there yet."
    )
    sync: Flag = Field(default=False, description="`true` writes every record through to the disk: not there yet.")

    @field_validator("mode", "sync", mode="after")
    @classmethod
    def _not_yet(cls, value: str | bool) -> str | bool:
        if value in {"strict", True}:
            raise refusal("audit records are not there yet, so that this cannot be promised; remove it")
        return value


def _nothing(value: Any) -> Any:
    if value not in (None, {}):
        raise refusal("a store is not there yet; remove this block")
    return value


class Document(Strict):
    """One configuration, from one file or several."""

    not_yet = frozenset(
        {"backends", "frontendPolicies", "llm", "mcp", "policies", "routeGroups", "services", "workloads"}
    )

    schema_: Annotated[Any, WithJsonSchema({"type": "string"})] = Field(
        None, alias="$schema", description="For editors; ignored."
    )
    gateway: GatewayBlock | None = Field(None, description="What holds for the whole gateway.")
    mcp_servers: Annotated[dict[Name, ServerEntry], Field(json_schema_extra={"additionalProperties": False})] | None = (
        Field(None, description="MCP servers, by the name of their instance.")
    )
    binds: list[BindEntry] | None = Field(
        None, description="Ports with listeners and routes, as in agentgateway's files."
    )
    console: ConsoleBlock | None = Field(None, description="The admin console. Checked, but not there yet.")
    audit: AuditBlock | None = Field(
        None, description="What is recorded. Not there yet: only the defaults are accepted."
    )
    store: Annotated[
        Any,
        AfterValidator(_nothing),
        WithJsonSchema({"type": ["object", "null"], "maxProperties": 0, "x-kind": "nothing"}),
    ] = Field(
        None,
        description="Where instances and records are kept. Not there yet: must be empty.",
    )
    config: NoConfig | None = Field(None, description="agentgateway's own settings; must be empty.")
