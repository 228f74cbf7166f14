"""The `binds` dialect: ports, listeners, routes, matches, policies and backends, as in agentgateway's files."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from moongate.control.schema.addresses import parse_host, parse_hostname, parse_url
from moongate.control.schema.backend import Reach, RoutePolicies, ServedTls
from moongate.control.schema.headers import FieldName
from moongate.control.schema.hosted import Hosted, Program
from moongate.control.schema.values import Count, HttpPath, Label, Name, Port, Strict, exactly_one, refusal

MAX_PATTERN = 1000


def _pattern(value: str) -> str:
    if len(value) > MAX_PATTERN:
        raise refusal(f"a regular expression can have at most {MAX_PATTERN} characters")
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        position = getattr(error, "pos", None)
        at = f" (at character {position + 1})" if isinstance(position, int) else ""
        raise refusal(f"is not a regular expression{at}, found {{found}}") from error
    return value


def _method(value: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z-]*", value):
        raise refusal("must be a method in capitals, such as POST, found {found}")
    return value


def _hostname(value: str) -> str:
    return parse_hostname(value)


Pattern = Annotated[str, AfterValidator(_pattern)]
Method = Annotated[str, AfterValidator(_method)]
Hostname = Annotated[str, AfterValidator(_hostname)]


class PathChoice(Strict):
    """How the path of a request is compared. Exactly one key."""

    exact: HttpPath | None = Field(None, description="The whole path.")
    path_prefix: HttpPath | None = Field(None, description="The beginning of the path, up to the border of a segment.")
    regex: Pattern | None = Field(None, description="A regular expression that the whole path matches.")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        return exactly_one(cls, data, ("exact", "pathPrefix", "regex"))


class ValueChoice(Strict):
    """How a value is compared. Exactly one key."""

    exact: str | None = Field(None, description="The whole value.")
    regex: Pattern | None = Field(None, description="A regular expression that the whole value matches.")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        return exactly_one(cls, data, ("exact", "regex"))


class HeaderCondition(Strict):
    """A header that a request must have."""

    name: FieldName = Field(description="The header's name, in any case.")
    value: ValueChoice = Field(description="What its value must be.")


class QueryCondition(Strict):
    """A query parameter that a request must have."""

    name: Label = Field(description="The parameter's name, exactly.")
    value: ValueChoice = Field(description="What its value must be.")


class MatchEntry(Strict):
    """Conditions that must all hold. A route's matches are alternatives."""

    path: PathChoice | None = Field(None, description="The path. Without it: any.")
    headers: list[HeaderCondition] | None = Field(None, description="Headers that must be there.")
    method: Method | None = Field(None, description="The HTTP method. Without it: any.")
    query: list[QueryCondition] | None = Field(None, description="Query parameters that must be there.")


class HostEntry(Strict):
    """Where an MCP server is: a full address in `host`, or host, port and path apart."""

    host: str = Field(
        description="An address such as `http://127.0.0.1:9000/mcp`, called at exactly that path; or a host name."
    )
    port: Port | None = Field(None, description="Beside a host name: the port.")
    path: Annotated[HttpPath | None, Field(validate_default=True)] = Field(
        None, description="Beside a host name: the path."
    )

    @field_validator("host", mode="after")
    @classmethod
    def _address(cls, value: str) -> str:
        if "://" in value:
            parse_url(value)
        elif ":" in value and not value.startswith("["):
            raise refusal(
                "must be a full address such as http://127.0.0.1:9000/mcp, or a host name with port and path apart"
            )
        elif "/" in value:
            raise refusal(
                "must be a full address that begins with http:// or https://, or a host name with port and path apart"
            )
        else:
            parse_host(value)
        return value

    @field_validator("port", mode="after")
    @classmethod
    def _port(cls, value: int | None) -> int | None:
        if value is not None and not 0 < value <= 65_535:
            raise refusal("must be a port from 1 to 65535, found {found}")
        return value

    @field_validator("path", mode="after")
    @classmethod
    def _complete(cls, value: str | None, info: ValidationInfo) -> str | None:
        host, port = info.data.get("host"), info.data.get("port", 0)
        if host is None:
            return value
        if "://" in host and (port is not None or value is not None):
            raise refusal("host is a full address; port and path cannot stand beside it")
        if "://" not in host and (port is None or value is None):
            raise refusal("beside a host name both port and path are needed; or write the full address in host")
        return value


class StdioEntry(Hosted):
    """A local server that the gateway runs and speaks to over stdio."""

    cmd: Program = Field(
        description="The program. A name is looked up on the PATH; a path is relative to `cwd`, without one to this "
        "file."
    )


class TargetEntry(Reach):
    """One MCP server. Exactly one of `mcp`, `sse` and `stdio`."""

    not_yet = frozenset({"openapi", "policies"})

    name: Name = Field(description="The target's name.")
    mcp: HostEntry | None = Field(None, description="A server that speaks streamable HTTP.")
    sse: HostEntry | None = Field(None, description="A server that speaks HTTP+SSE (2024-11-05).")
    stdio: StdioEntry | None = Field(None, description="A local server that the gateway runs.")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        return exactly_one(cls, data, ("mcp", "sse", "stdio"))


class McpBackend(Strict):
    """The MCP servers of a backend."""

    not_yet = frozenset({"allowInsecureMultiplex", "failureMode", "prefixMode", "sessionIdleTtl", "statefulMode"})

    targets: list[TargetEntry] = Field(description="The servers. Several are not there yet: exactly one.")

    @field_validator("targets", mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        if isinstance(value, list) and not value:
            raise refusal("is empty; name one target")
        if isinstance(value, list) and len(value) > 1:
            raise refusal("several targets in one backend are not there yet; give each its own route")
        return value


class BackendEntry(Strict):
    """Where the requests of a route go."""

    not_yet = frozenset({"a2a", "ai", "backend", "dynamic", "host", "policies", "service"})

    mcp: McpBackend = Field(description="MCP servers.")
    weight: Count = Field(1, description="Of no effect while a route has one backend.")


class RouteEntry(Strict):
    """Which requests are taken, what holds for them, and where they go."""

    not_yet = frozenset({"ruleName", "namespace", "routeGroup"})

    name: Name | None = Field(
        None, description="The route's name: what tokens and logs call it. Without it: the target's name."
    )
    hostnames: list[Hostname] | None = Field(
        None,
        description="Names of `Host`, exact or `*.example.com`. Without it: the listener's. Among the routes that "
        "fit, the path decides.",
    )
    matches: list[MatchEntry] | None = Field(
        None, description="Alternatives, one of which must hold. Without it: every path."
    )
    policies: RoutePolicies | None = Field(None, description="What holds for every request of the route.")
    # Behind the policies, which decide whether it is needed.
    backends: Annotated[list[BackendEntry] | None, Field(validate_default=True)] = Field(
        None,
        description="Where requests go. Several are not there yet: exactly one. Only a route that `requestRedirect` "
        "or `directResponse` answers can be without.",
    )

    @field_validator("backends", mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        if isinstance(value, list) and not value:
            raise refusal("is empty; a route needs one backend")
        if isinstance(value, list) and len(value) > 1:
            raise refusal("several backends of one route are not there yet; give each its own route")
        return value

    @field_validator("backends", mode="after")
    @classmethod
    def _needed(cls, value: list[BackendEntry] | None, info: ValidationInfo) -> list[BackendEntry] | None:
        if value is not None or "policies" not in info.data:
            return value
        if info.data["policies"] is None or not info.data["policies"].answers:
            raise refusal("is missing")
        if info.data.get("name", "") is None:
            raise refusal("is missing; a route without backends is fine here, but needs a name")
        return value

    @field_validator("hostnames", mode="after")
    @classmethod
    def _some(cls, value: list[str] | None) -> list[str] | None:
        if value == []:
            raise refusal("is empty; name at least one, or leave the key out")
        return value


class ListenerEntry(Strict):
    """The routes of one host name on a port."""

    not_yet = frozenset({"policies", "tcpRoutes"})

    name: Label | None = Field(None, description="The listener's name in logs. Without it: its hostname.")
    hostname: Hostname | None = Field(
        None, description="The name in `Host`, exact or `*.example.com`. Without it: any."
    )
    protocol: Literal["HTTP", "HTTPS"] | None = Field(
        None, description="`HTTPS` needs `tls`. Without it: HTTPS if there is `tls`."
    )
    tls: Annotated[ServedTls | None, Field(validate_default=True)] = Field(
        None, description="The listener's certificate."
    )
    routes: list[RouteEntry] | None = Field(None, description="The routes.")

    @field_validator("tls", mode="after")
    @classmethod
    def _fits(cls, value: ServedTls | None, info: ValidationInfo) -> ServedTls | None:
        protocol = info.data.get("protocol")
        if protocol == "HTTPS" and value is None:
            raise refusal("is missing: protocol HTTPS needs tls with cert and key")
        if protocol == "HTTP" and value is not None:
            raise refusal("protocol HTTP cannot have tls; write protocol: HTTPS or remove tls")
        return value


class BindEntry(Strict):
    """One port."""

    not_yet = frozenset({"tunnelProtocol"})

    port: Port = Field(description="The port, 1 to 65535 (0: any free one, for tests).")
    listeners: list[ListenerEntry] | None = Field(None, description="The listeners, told apart by hostname.")

    @field_validator("port", mode="after")
    @classmethod
    def _port(cls, value: int) -> int:
        if not 0 <= value <= 65_535:
            raise refusal("must be a port from 1 to 65535, found {found}")
        return value
