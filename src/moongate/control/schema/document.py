"""A whole configuration file: both dialects beside the gateway's own blocks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from moongate.control.schema.binds import BindEntry
from moongate.control.schema.gateway import GatewayBlock
from moongate.control.schema.mcp_servers import ServerEntry
from moongate.control.schema.platform import AuditBlock, ConsoleBlock, StoreBlock
from moongate.control.schema.values import Name, Strict


class NoConfig(Strict):
    """agentgateway's own settings. Accepted while it is empty: the gateway's settings are under `gateway:`."""


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
    console: ConsoleBlock | None = Field(None, description="The admin port, with the REST API.")
    audit: AuditBlock | None = Field(None, description="What is recorded, and how long it is kept.")
    store: StoreBlock | None = Field(None, description="Where instances, users, tokens and records are kept.")
    config: NoConfig | None = Field(None, description="agentgateway's own settings; must be empty.")
