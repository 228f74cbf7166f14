"""`cors:` and `csrf:` blocks: who may call from a web page, judged completely before anything is enforced."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from moongate.control.schema.addresses import parse_host, parse_port
from moongate.control.schema.headers import TOKEN
from moongate.control.schema.values import Flag, Period, Strict, refusal

_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#@\s]*)(/?)\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FORM = "an origin is scheme, host and perhaps port, such as https://example.com:8443 (no path, no user), found {found}"
ANY = "*"


def parse_origin(text: str) -> str:
    """An origin in its comparable form (RFC 6454 section 4): lower case, no default port, no trailing slash."""
    return _canonical(text, wildcard=False)


def parse_origins(text: str) -> str:
    """The same for a text that may stand for many: `*`, or `https://*.example.com` for the names below example.com."""
    return text if text == ANY else _canonical(text, wildcard=True)


def _canonical(text: str, *, wildcard: bool) -> str:
    if text == "null":
        raise refusal(
            "null cannot be allowed: every page can send it from a sandboxed frame; serve the page from a web server, "
            "and name its origin"
        )
    match = _ORIGIN.match(text)
    if match is None:
        raise refusal(_FORM)
    scheme = match.group(1).lower()
    literal = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(.*))?", match.group(2))
    if literal is None or not literal.group(1):
        raise refusal(
            "the host of this origin is missing or malformed; write one such as https://example.com, found {found}"
        )
    name, below = literal.group(1), ""
    if "*" in name:
        if not wildcard or not name.startswith("*.") or "*" in name[2:]:
            raise refusal(
                "a wildcard is * alone, for every origin, or the first label of a host, such as https://*.example.com, "
                "found {found}"
            )
        name, below = name[2:], "*."
    host = parse_host(name)
    if below and re.fullmatch(r"[0-9.]+", host):
        raise refusal("an address has no names below it; write the addresses one by one, found {found}")
    port = parse_port(literal.group(2)) if literal.group(2) is not None else None
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme}://{below}{bracketed}" + (f":{port}" if port not in {None, _DEFAULT_PORTS.get(scheme)} else "")


def _origins(value: str) -> str:
    parse_origins(value)
    return value


def _header_or_any(value: str) -> str:
    if not TOKEN.match(value):
        raise refusal("must be a header name or *, found {found}")
    return value


def _method_or_any(value: str) -> str:
    if not re.fullmatch(r"\*|[A-Z]+", value):
        raise refusal("must be a method in capitals, such as GET, or *, found {found}")
    return value


Origins = Annotated[str, AfterValidator(_origins)]
HeaderOrAny = Annotated[str, AfterValidator(_header_or_any)]
MethodOrAny = Annotated[str, AfterValidator(_method_or_any)]


class Cors(Strict):
    """Which pages of other origins may call. Without the block: none, pages of other origins are refused with 403."""

    preset: Literal["mcp"] | None = Field(
        None,
        description="`mcp`: all methods and headers of every MCP revision, for the origins named here. They pass the "
        "`csrf` rule too, a `*` does not.",
    )
    allow_origins: list[Origins] | None = Field(
        None,
        description="Origins that may call, such as `https://app.example.com`, `https://*.example.com` for all names "
        "below, or `*`. `null` cannot be allowed.",
    )
    allow_headers: list[HeaderOrAny] | None = Field(
        None, description="Request headers that pages may send, or `*` for whatever they ask for."
    )
    allow_methods: list[MethodOrAny] | None = Field(
        None, description="Methods that pages may use beside GET, HEAD and POST, or `*`."
    )
    allow_credentials: Flag = Field(
        default=False,
        description="Whether pages may call in the credentials mode `include`. `Authorization` does not need it.",
    )
    expose_headers: list[HeaderOrAny] | None = Field(
        None, description="Response headers that pages may read, or `*` for those that the gateway knows."
    )
    max_age: Period | None = Field(
        None,
        description="How long a browser may remember the answer to a preflight. With the preset `10m`, else the "
        "browser's own default.",
    )


class Csrf(Strict):
    """Which pages may send what changes something (POST, DELETE). Without the block: those that `cors` names."""

    additional_origins: list[Origins] | None = Field(
        None, description="Origins that may beside the gateway's own; patterns and `*` as in `cors`."
    )
