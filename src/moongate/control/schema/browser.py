"""`cors:` and `csrf:` blocks: judged completely, so that a file that loads today still loads when they are enforced."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from moongate.control.schema.addresses import parse_host, parse_port
from moongate.control.schema.headers import TOKEN
from moongate.control.schema.values import Flag, Period, Strict, refusal

_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#@\s]*)(/?)\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def parse_origin(text: str) -> str:
    """An origin in its comparable form (RFC 6454 section 4): lower case, no default port, no trailing slash."""
    match = _ORIGIN.match(text)
    if match is None:
        raise refusal(
            "an origin is scheme, host and perhaps port, such as https://example.com:8443 (no path, no user), found "
            "{found}"
        )
    scheme = match.group(1).lower()
    literal = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(.*))?", match.group(2))
    if literal is None or not literal.group(1):
        raise refusal(
            "the host of this origin is missing or malformed; write one such as https://example.com, found {found}"
        )
    host = parse_host(literal.group(1))
    port = parse_port(literal.group(2)) if literal.group(2) is not None else None
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bracketed}" + (f":{port}" if port not in {None, _DEFAULT_PORTS.get(scheme)} else "")


def _origin(value: str) -> str:
    parse_origin(value)
    return value


def _origin_or_any(value: str) -> str:
    if value != "*":
        if "*" in value:
            raise refusal("only * alone stands for any origin; name the origins one by one, found {found}")
        parse_origin(value)
    return value


def _header_or_any(value: str) -> str:
    if not TOKEN.match(value):
        raise refusal("must be a header name or *, found {found}")
    return value


def _method_or_any(value: str) -> str:
    if not re.fullmatch(r"\*|[A-Z]+", value):
        raise refusal("must be a method in capitals, such as GET, or *, found {found}")
    return value


Origin = Annotated[str, AfterValidator(_origin)]
OriginOrAny = Annotated[str, AfterValidator(_origin_or_any)]
HeaderOrAny = Annotated[str, AfterValidator(_header_or_any)]
MethodOrAny = Annotated[str, AfterValidator(_method_or_any)]


class Cors(Strict):
    """Which pages of other origins may call this route. Checked, but not enforced yet: foreign origins are refused."""

    preset: Literal["mcp"] | None = Field(
        None, description="`mcp`: all headers of every MCP revision, for the origins named here."
    )
    allow_origins: list[OriginOrAny] | None = Field(
        None, description="Origins that may call, such as `https://app.example.com`, or `*`."
    )
    allow_headers: list[HeaderOrAny] | None = Field(None, description="Request headers that pages may send, or `*`.")
    allow_methods: list[MethodOrAny] | None = Field(None, description="Methods that pages may use, or `*`.")
    allow_credentials: Flag = Field(default=False, description="Whether pages may send cookies and credentials.")
    expose_headers: list[HeaderOrAny] | None = Field(None, description="Response headers that pages may read, or `*`.")
    max_age: Period | None = Field(None, description="How long a browser may remember the answer to a preflight.")


class Csrf(Strict):
    """Protection against forged requests from browsers. Checked, but not enforced yet: foreign origins are refused."""

    additional_origins: list[Origin] | None = Field(None, description="Origins that may call beside the gateway's own.")
