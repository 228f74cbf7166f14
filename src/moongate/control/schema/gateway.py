"""The `gateway:` block: what holds for the whole gateway."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from moongate.control.schema.access import AccessBlock, Network
from moongate.control.schema.addresses import parse_host, parse_url
from moongate.control.schema.backend import ServedTls, SomeNames
from moongate.control.schema.browser import Cors, Csrf
from moongate.control.schema.values import Duration, Label, Strict, bounded, refusal
from moongate.model.snapshot import MIB, Limits, Snapshot

_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+\Z")
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_DEFAULTS = Limits()
MAX_PROCESSES = 100_000


def parse_prefix(text: str) -> str:
    """`/mcp` or `/team/mcp`: leading slash, no trailing one. Raises a refusal."""
    segments = text.strip("/").split("/")
    if not all(_SEGMENT.match(segment) and segment not in {".", ".."} for segment in segments):
        raise refusal(
            "must be one or several segments such as /mcp or /team/mcp (letters, digits, . _ ~ -), found {found}"
        )
    if segments[0].lower() == ".well-known":
        raise refusal("/.well-known is kept for what clients look up there; choose another prefix")
    return "/" + "/".join(segments)


def parse_expiry(text: str) -> float:
    """Unix time of a date (its first moment in UTC) or an RFC 3339 moment. Raises a refusal."""
    moment = _MOMENT.match(text)
    try:
        if _DATE.match(text):
            return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()
        if moment:
            day, time, fraction, zone = moment.groups()
            offset = "+00:00" if zone in {"Z", "z"} else zone
            return dt.datetime.fromisoformat(f"{day}T{time}{(fraction or '')[:7]}{offset}").timestamp()
    except (ValueError, OverflowError) as error:
        raise refusal("there is no such day or time, found {found}") from error
    raise refusal(
        "must be a date (2027-01-01: valid until it begins, in UTC) or a moment (2027-01-01T12:00:00Z), found {found}"
    )


def parse_public_url(text: str) -> str:
    """The address that clients use, without a trailing slash. Raises a refusal."""
    address = parse_url(text)
    if address.basic or "?" in address.path:
        raise refusal("a public address has no user, password or query")
    return text.rstrip("/")


def parse_listen_host(value: str) -> str:
    """A name or an IP literal to listen on, with or without brackets. Raises a refusal."""
    if ":" in value and not value.startswith("["):
        value = f"[{value}]"
    return parse_host(value)


def _named_host(value: str) -> str:
    return parse_host(value)


def _token(value: str) -> str:
    if not _TOKEN.match(value):
        raise refusal("must be 1 or more visible ASCII characters without spaces")
    return value


def _digest(value: str) -> str:
    if not _SHA256.match(value):
        raise refusal("must be the SHA-256 of the token: 64 hexadecimal digits")
    return value.lower()


def _expiry(value: object) -> str:
    if not isinstance(value, str):
        raise refusal("must be a date (2027-01-01) or a moment (2027-01-01T12:00:00Z), found {found}")
    parse_expiry(value)
    return str(value)


Prefix = Annotated[str, AfterValidator(parse_prefix)]
PublicUrl = Annotated[str, AfterValidator(parse_public_url), WithJsonSchema({"type": "string", "x-kind": "address"})]
ListenHost = Annotated[str, AfterValidator(parse_listen_host)]
NamedHost = Annotated[str, AfterValidator(_named_host)]
Secret = Annotated[str, AfterValidator(_token)]
Digest = Annotated[str, AfterValidator(_digest), WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F]{64}$"})]
Expiry = Annotated[str, BeforeValidator(_expiry), WithJsonSchema({"type": "string", "x-kind": "date or moment"})]


class TokenItem(Strict):
    """A client's token. Exactly one of `token` and `sha256`."""

    name: Label = Field(description="Its name; shown in logs.")
    user: Label | None = Field(None, description="Who calls with it. Without it: `name`.")
    groups: list[Label] | None = Field(None, description="The groups of the user, for access rules.")
    token: Secret | None = Field(None, description="The token itself; best from the environment: `${ALICE_TOKEN}`.")
    sha256: Digest | None = Field(None, description="Instead of the token: its SHA-256 in hexadecimal.")
    instances: SomeNames | None = Field(
        None, description="The instances (route names) it is good for. Without it: all."
    )
    expires: Expiry | None = Field(
        None, description="Until when: a date (until it begins, in UTC) or an RFC 3339 moment."
    )

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        if isinstance(data, dict):
            if "token" in data and "sha256" in data:
                raise refusal("token and sha256 cannot stand together; keep one of them", key="sha256")
            if data.get("token") is None and data.get("sha256") is None:
                raise refusal("needs the token, or its sha256")
        return data


class LimitsBlock(Strict):
    """What one client connection or request may cost."""

    head_bytes: Annotated[int, bounded(1024, MIB)] = Field(
        _DEFAULTS.head_bytes, description="Size of a request's head; more is 431."
    )
    header_count: Annotated[int, bounded(10, 10_000)] = Field(
        _DEFAULTS.header_count, description="Headers of a request; more is 431."
    )
    body_bytes: Annotated[int, bounded(1, 2**40)] = Field(
        _DEFAULTS.body_bytes, description="Size of a request's body; more is 413."
    )
    json_depth: Annotated[int, bounded(8, 512)] = Field(
        _DEFAULTS.json_depth, description="Nesting of a JSON-RPC message; more is 400."
    )
    connections: Annotated[int, bounded(1, 1_000_000)] = Field(
        _DEFAULTS.connections,
        description="Client connections at once; more are answered 503.",
    )
    head_time: Duration = Field("10s", description="Time for a request's head to arrive; longer is 408.")
    body_time: Duration = Field(
        "30s", description="Time for a request's body to arrive, beside what its size grants; longer is 408."
    )
    idle_time: Duration = Field("75s", description="How long a quiet connection is kept between requests.")
    write_time: Duration = Field("60s", description="How long a client may refuse to take what is sent to it.")
    drain_time: Duration = Field("10s", description="How long calls in flight may take after a stop or a reload.")


class GatewayBlock(Strict):
    """What holds for the whole gateway."""

    prefix: Prefix = Field(
        "/mcp", description="Where the instances of `mcpServers` are: `<prefix>/<name>`. Several segments are fine."
    )
    public_url: PublicUrl | None = Field(
        None, description="The address that clients use, when it is not the gateway's own."
    )
    host: ListenHost | None = Field(
        None, description="The address to listen on, such as `0.0.0.0`. Without it: loopback only."
    )
    hosts: list[NamedHost] | None = Field(None, description="Further names that `Host` may hold, without port.")
    trusted_proxies: list[Network] | None = Field(
        None,
        description="Addresses and networks of proxies in front of the gateway. What they say in `Forwarded` or "
        "`X-Forwarded-For`, `-Proto` and `-Host` counts, and nobody else's word does.",
    )
    tokens: list[TokenItem] | None = Field(None, description="The clients' tokens.")
    limits: LimitsBlock | None = Field(None, description="What one client connection or request may cost.")
    keep_alive: Duration | None = Field(
        None,
        description="Interval of comment lines on quiet event streams. Without it: none are sent.",
    )
    access: AccessBlock | None = Field(
        None, description="Access rules for every instance; they hold beside an instance's own."
    )
    cors: Cors | None = Field(None, description="Pages of other origins, for routes without a `cors` block.")
    csrf: Csrf | None = Field(None, description="Forged requests from browsers, for routes without a `csrf` block.")
    max_processes: Annotated[int, bounded(1, MAX_PROCESSES)] = Field(
        Snapshot(()).max_processes,
        description="How many processes of hosted servers may run at once, of all instances together.",
    )
    tls: ServedTls | None = Field(
        None, description="The certificate of the port of `mcpServers`. Without it: plain HTTP."
    )
