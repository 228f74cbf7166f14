"""The `mcpServers` dialect: the block that MCP clients keep in their own files, one instance per entry."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from moongate.control.schema.addresses import parse_url
from moongate.control.schema.backend import Policies, Reach
from moongate.control.schema.hosted import Hosted, Program
from moongate.control.schema.route_policies import RouteTimeout
from moongate.control.schema.values import Flag, boolean, refusal

PROTOCOLS = ("sse", "streamable-http")
STDIO = "stdio"
_MEANT = {
    "http": "streamable-http",
    "https": "streamable-http",
    "streamable": "streamable-http",
    "streamablehttp": "streamable-http",
    "streamable-http": "streamable-http",
    "sse": "sse",
}
_HOSTED_KEYS = (
    "command",
    "args",
    "env",
    "cwd",
    "envFile",
    *("clearEnv", "isolation", "startTime", "idleTime", "maxProcesses", "processLimits"),
)
_PROTOCOL_KEYS = ("type", "transport")

MIXED = (
    "an entry with url is reached over the network (proxy mode), which cannot run a command (stdio); "
    "for hosted mode give command without url, otherwise keep url and remove this"
)
OVER_STDIO = "a server with a command is spoken to over stdio; write stdio, or remove this, found {found}"


def _protocol(value: str) -> str:
    if value in PROTOCOLS:
        return value
    meant = _MEANT.get(value.lower().replace("_", "-"))
    raise refusal("must be sse or streamable-http, found {found}" + (f"; write {meant}" if meant else ""))


def _url(value: str) -> str:
    parse_url(value)
    return value


Protocol = Annotated[str, AfterValidator(_protocol), WithJsonSchema({"type": "string", "enum": [*PROTOCOLS, STDIO]})]
Ignored = Annotated[Any, WithJsonSchema({"x-kind": "anything"})]
Url = Annotated[str, AfterValidator(_url), WithJsonSchema({"type": "string", "x-kind": "address"})]


class ServerEntry(Reach, Policies, Hosted, RouteTimeout):
    """One MCP server, reachable at `<gateway prefix>/<name>`: one with an address (`url`), or a local one that the
    gateway runs (`command`).
    """

    disabled: Flag = Field(default=False, description="`true`: the instance is left out.")
    enabled: Flag | None = Field(None, description="`false`: the instance is left out.")
    command: Program | None = Field(
        None,
        description="Instead of `url`: the program of a local server that speaks over stdio. A name is looked up on "
        "the PATH; a path is relative to `cwd`, without one to this file.",
    )
    env_file: str | None = Field(None, description="Of clients' files; refused: write the variables under `env`.")
    # Behind the keys that decide whether it is needed.
    url: Annotated[Url | None, Field(validate_default=True)] = Field(
        None,
        description="The server's address, http or https. A user and password in it become its Basic credential.",
    )
    type: Protocol | None = Field(
        None,
        description="How the server is spoken to. Without it: streamable HTTP first, HTTP+SSE if that answers 400, "
        "404 or 405. With a command there is only `stdio`, which need not be written.",
    )
    transport: Protocol | None = Field(None, description="The same as `type`.")
    name: Ignored = Field(None, description="Of clients' files; ignored. The entry's key is its name.")
    description: Ignored = Field(None, description="Of clients' files; ignored.")
    icon: Ignored = Field(None, description="Of clients' files; ignored.")
    always_allow: Ignored = Field(None, description="Of clients' files; ignored.")
    auto_approve: Ignored = Field(None, description="Of clients' files; ignored.")
    gallery: Ignored = Field(None, description="Of clients' files; ignored.")
    version: Ignored = Field(None, description="Of clients' files; ignored.")

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, data: Any) -> Any:
        """Before all else: the other complaints about an entry that is neither would only hide the reason."""
        if not isinstance(data, dict):
            return data
        if data.get("url") is not None and data.get("command") == "":  # some programs write every key they know
            data = {key: value for key, value in data.items() if key != "command"}
        hosted = [key for key in _HOSTED_KEYS if data.get(key)]
        hosted += [key for key in _PROTOCOL_KEYS if data.get(key) == STDIO]
        if hosted and data.get("url") is not None:
            raise refusal(MIXED, key=hosted[0])
        if not hosted and data.get("command") is None:
            return data
        off = boolean(data.get("disabled")) is True or boolean(data.get("enabled")) is False
        other = [key for key in _PROTOCOL_KEYS if data.get(key) not in (None, STDIO)]
        # A misspelt `command` is left to the unknown keys.
        if (
            not off
            and data.get("command") is None
            and set(data) <= {field.alias for field in cls.model_fields.values()}
        ):
            text = "is missing; write the program to run, such as npx, or the url of a server that is reached over HTTP"
            raise refusal(text, key="command")
        if not off and other:
            raise refusal(OVER_STDIO, key=other[0])
        return {key: value for key, value in data.items() if key not in _PROTOCOL_KEYS}

    @field_validator("enabled", mode="after")
    @classmethod
    def _not_both(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        if value is True and info.data.get("disabled") is True:
            raise refusal("enabled: true and disabled: true contradict each other; keep one of them")
        return value

    @field_validator("url", mode="after")
    @classmethod
    def _has_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        # What is not there was complained about.
        if value is None and not any(info.data.get(key, True) for key in ("command", "args", "env", "cwd", "env_file")):
            text = "is missing; write the server's address, such as http://127.0.0.1:9000/mcp, or a command to run"
            raise refusal(text)
        return value

    @field_validator("transport", mode="after")
    @classmethod
    def _same_protocol(cls, value: str | None, info: ValidationInfo) -> str | None:
        other = info.data.get("type")
        if value is not None and other is not None and value != other:
            raise refusal("type and transport mean the same and differ here; keep one of them")
        return value

    @property
    def off(self) -> bool:
        """True if the instance is left out."""
        return self.disabled or self.enabled is False
