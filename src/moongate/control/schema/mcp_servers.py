"""The `mcpServers` dialect: the block that MCP clients keep in their own files, one instance per entry."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from moongate.control.schema.addresses import parse_url
from moongate.control.schema.backend import Policies, Reach
from moongate.control.schema.values import Flag, boolean, refusal

PROTOCOLS = ("sse", "streamable-http")
_MEANT = {
    "http": "streamable-http",
    "https": "streamable-http",
    "streamable": "streamable-http",
    "streamablehttp": "streamable-http",
    "streamable-http": "streamable-http",
    "sse": "sse",
}
_HOSTED_KEYS = ("command", "args", "env", "cwd", "envFile")

MIXED = (
    "an entry with url is reached over the network (proxy mode), which cannot run a command (stdio); "
    "for hosted mode give command without url, otherwise keep url and remove this"
)
HOSTED = (
    "hosted mode (running a command over stdio) is not there yet; give the url of a server that is reached over HTTP"
)


def _protocol(value: str) -> str:
    if value in PROTOCOLS:
        return value
    meant = _MEANT.get(value.lower().replace("_", "-"))
    raise refusal("must be sse or streamable-http, found {found}" + (f"; write {meant}" if meant else ""))


def _url(value: str) -> str:
    parse_url(value)
    return value


Protocol = Annotated[str, AfterValidator(_protocol), WithJsonSchema({"type": "string", "enum": list(PROTOCOLS)})]
Ignored = Annotated[Any, WithJsonSchema({"x-kind": "anything"})]
Url = Annotated[str, AfterValidator(_url), WithJsonSchema({"type": "string", "x-kind": "address"})]


class ServerEntry(Reach, Policies):
    """One MCP server, reachable at `<gateway prefix>/<name>`."""

    disabled: Flag = Field(default=False, description="`true`: the instance is left out.")
    enabled: Flag | None = Field(None, description="`false`: the instance is left out.")
    command: str | None = Field(None, description="Hosted mode: not there yet.")
    args: list[str] | None = Field(None, description="Hosted mode: not there yet.")
    env: dict[str, str] | None = Field(None, description="Hosted mode: not there yet.")
    cwd: str | None = Field(None, description="Hosted mode: not there yet.")
    env_file: str | None = Field(None, description="Hosted mode: not there yet.")
    # Behind the keys that decide whether it is needed.
    url: Annotated[Url | None, Field(validate_default=True)] = Field(
        None,
        description="The server's address, http or https. A user and password in it become its Basic credential.",
    )
    type: Protocol | None = Field(
        None,
        description="How the server is spoken to. Without it: streamable HTTP first, HTTP+SSE if that answers 400, "
        "404 or 405.",
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
    def _no_stdio(cls, data: Any) -> Any:
        """Before all else: the other complaints about an entry that cannot work anyway would only hide the reason."""
        if not isinstance(data, dict):
            return data
        hosted = [key for key in _HOSTED_KEYS if data.get(key)]
        hosted += [key for key in ("type", "transport") if data.get(key) == "stdio"]
        if hosted and data.get("url") is not None:
            raise refusal(MIXED, key=hosted[0])
        off = boolean(data.get("disabled")) is True or boolean(data.get("enabled")) is False
        if hosted and not off:
            raise refusal(HOSTED, key=hosted[0])
        return {key: value for key, value in data.items() if key not in {"type", "transport"}} if hosted else data

    @field_validator("enabled", mode="after")
    @classmethod
    def _not_both(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        if value is True and info.data.get("disabled") is True:
            raise refusal("enabled: true and disabled: true contradict each other; keep one of them")
        return value

    @field_validator("url", mode="after")
    @classmethod
    def _has_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        hosted = any(info.data.get(key) for key in ("command", "args", "env", "cwd", "env_file"))
        if value is None and not hosted:
            raise refusal("is missing; write the server's address, such as http://127.0.0.1:9000/mcp")
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
