"""Policies that change where a request goes, answer it, or bound it: the keys are those of agentgateway's files."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from moongate.control.schema.addresses import parse_host, parse_port
from moongate.control.schema.values import Duration, HttpPath, Strict, bounded, exactly_one, refusal

MAX_BUCKET = 1_000_000_000
MAX_BUCKETS = 10
MAX_ANSWER = 64 * 1024
REDIRECTS = (301, 302, 303, 307, 308)
# These have no body (RFC 9110 sections 15.3.5 and 15.4.5).
BODILESS = frozenset({204, 205, 304})

_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?\Z")


def parse_authority(text: str) -> tuple[str, int | None]:
    """Host (without brackets) and port of `host` or `host:port`."""
    match = _AUTHORITY.match(text)
    if match is None or not match[1]:
        raise refusal("must be a host, perhaps with a port, such as example.com:8443, found {found}")
    return parse_host(match[1]), None if match[2] is None else parse_port(match[2])


def _authority(value: str) -> str:
    parse_authority(value)
    return value


def _host(value: str) -> str:
    parse_host(value)
    return value


def _prefix(value: str) -> str:
    if value not in {"", "/"} and value.endswith("/"):
        raise refusal("must not end with a slash, found {found}")
    return value


def _not_words(value: object) -> object:
    """Of agentgateway's words, these mean "as it was"."""
    return None if value in ("auto", "none") else value


def _only_auto(value: object) -> object:
    if value == "none":
        raise refusal("the client's own Host never reaches a server; leave this out for the host of the address")
    return None if value == "auto" else value


class PathChange(Strict):
    """What becomes of a path. Exactly one key."""

    full: HttpPath | None = Field(None, description="Replaces the whole path; the query stays.")
    prefix: Annotated[str, AfterValidator(_prefix), WithJsonSchema({"type": "string"})] | None = Field(
        None, description="Replaces the part that the route's `pathPrefix` took."
    )

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        return exactly_one(cls, data, ("full", "prefix"))


class AuthorityChange(Strict):
    """What becomes of a host and its port. Exactly one key."""

    full: Annotated[str, AfterValidator(_authority)] | None = Field(
        None, description="Replaces both: `example.com` or `example.com:8443`."
    )
    host: Annotated[str, AfterValidator(_host)] | None = Field(None, description="Replaces the host; the port stays.")
    port: Annotated[int, bounded(1, 65_535)] | None = Field(None, description="Replaces the port; the host stays.")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        return exactly_one(cls, data, ("full", "host", "port"))


class UrlRewrite(Strict):
    """How the server is called, where that differs from its address."""

    authority: Annotated[AuthorityChange | None, BeforeValidator(_only_auto)] = Field(
        None,
        description="What `Host` says. The connection, and the certificate of an https server, remain those of the "
        "address.",
    )
    path: PathChange | None = Field(
        None,
        description="`full` is called instead of the path of the address, whose query stays. `prefix` changes "
        "nothing, with a warning: an MCP server has one exact path, and what clients write behind the prefix names a "
        "transport of the gateway.",
    )


class RequestRedirect(Strict):
    """Every request of the route is answered with a redirect, if it may be made at all: host, origin, token and limit
    come first. No server is called.
    """

    scheme: Literal["http", "https"] | None = Field(
        None, description="The new scheme; with it the port is the scheme's own, unless `authority` names one."
    )
    authority: Annotated[AuthorityChange | None, BeforeValidator(_not_words)] = Field(
        None, description="What becomes of the host. Without it: the one that was asked for."
    )
    path: PathChange | None = Field(None, description="What becomes of the path. Without it: it stays.")
    status: Annotated[int, bounded(301, 308)] = Field(
        302, description="301, 302, 303, 307 or 308. Clients repeat a POST as a POST only after 307 and 308."
    )

    @model_validator(mode="after")
    def _leads_elsewhere(self) -> RequestRedirect:
        if self.status not in REDIRECTS:
            raise refusal("must be one of 301, 302, 303, 307 and 308", key="status")
        if self.scheme is None and self.authority is None and self.path is None:
            raise refusal("leads back to itself; give scheme, authority or path")
        return self


class DirectResponse(Strict):
    """Every request of the route gets this answer, if it may be made at all: host, origin, token and limit come first.
    No server is called.
    """

    not_yet = frozenset({"bodyExpression", "conditional", "headers"})

    status: Annotated[int, bounded(200, 599)] = Field(description="The HTTP status.")
    body: str = Field("", description="The body: JSON if it reads as a JSON object or array, otherwise plain text.")

    @model_validator(mode="after")
    def _fits(self) -> DirectResponse:
        if self.body and self.status in BODILESS:
            raise refusal(f"an answer with status {self.status} has no body; remove it", key="body")
        if len(self.body.encode("utf-8", "replace")) > MAX_ANSWER:
            raise refusal("must be at most 64 KiB", key="body")
        return self


class RouteTimeout(Strict):
    """How long a request may take. An event stream is bounded until it begins; then `sseReadTimeout` counts."""

    request_timeout: Duration | None = Field(
        None, description="From the request's first byte to the last byte of its answer."
    )
    backend_request_timeout: Duration | None = Field(
        None, description="From turning to the server to the last byte of its answer."
    )


def _requests_only(value: object) -> object:
    if value == "tokens":
        raise refusal("tokens of language models are not known here; write requests")
    return value


class RateLimitEntry(Strict):
    """One bucket for each caller: a principal, or the source address where no token is needed."""

    max_tokens: Annotated[int, bounded(1, MAX_BUCKET)] = Field(description="How many requests it holds, when full.")
    tokens_per_fill: Annotated[int, bounded(1, MAX_BUCKET)] = Field(
        description="How many are added after each interval."
    )
    fill_interval: Duration = Field(description="The interval.")
    type: Annotated[Literal["requests"], BeforeValidator(_requests_only)] = Field(
        "requests", description="What is counted."
    )


def _buckets(value: Any) -> Any:
    if isinstance(value, list) and not value:
        raise refusal("is empty; name at least one, or leave the key out")
    if isinstance(value, list) and len(value) > MAX_BUCKETS:
        raise refusal(f"has more than {MAX_BUCKETS} entries")
    return value


RateLimits = Annotated[list[RateLimitEntry], BeforeValidator(_buckets)]
