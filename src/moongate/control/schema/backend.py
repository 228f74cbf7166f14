"""What both dialects say about reaching a backend, and the policies that both may carry."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from moongate.control.schema.access import AccessBlock
from moongate.control.schema.browser import Cors, Csrf
from moongate.control.schema.headers import PassedName, RequestHeaders, RequestName, ResponseHeaders, ResponseName
from moongate.control.schema.route_policies import (
    DirectResponse,
    RateLimits,
    RequestRedirect,
    RouteTimeout,
    UrlRewrite,
)
from moongate.control.schema.values import Duration, FilePath, Milliseconds, Strict, refusal

FIRST_BYTE_MS = 30_000
SILENCE_MS = 300_000


class BackendTls(Strict):
    """How the certificate of an https backend is verified, and what the gateway presents to it."""

    ca: FilePath | None = Field(
        None, description="PEM file with further authorities, beside the system's. Relative to this file."
    )
    cert: FilePath | None = Field(None, description="PEM file with the gateway's client certificate; with `key`.")
    key: Annotated[FilePath | None, Field(validate_default=True)] = Field(
        None,
        description="PEM file with the private key; with `cert`.",
    )

    @field_validator("key", mode="after")
    @classmethod
    def _pair(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "cert" in info.data and (value is None) != (info.data["cert"] is None):
            raise refusal("cert and key go together; give both or none")
        return value


class ServedTls(Strict):
    """The certificate that a listener shows to clients. Read again when the files change."""

    cert: FilePath = Field(description="PEM file with the certificate chain. Relative to this file.")
    key: FilePath = Field(description="PEM file with the private key.")


class RequestModifier(Strict):
    """Changes the headers of requests to the backend; in the order remove, set, add."""

    add: RequestHeaders | None = Field(None, description="Headers to append.")
    set: RequestHeaders | None = Field(None, description="Headers to set, replacing what was there.")
    remove: list[RequestName] | None = Field(None, description="Headers to drop.")


class ResponseModifier(Strict):
    """Changes the headers of answers to the client; in the order remove, set, add."""

    add: ResponseHeaders | None = Field(None, description="Headers to append.")
    set: ResponseHeaders | None = Field(None, description="Headers to set, replacing what was there.")
    remove: list[ResponseName] | None = Field(None, description="Headers to drop.")


class Policies(Strict):
    """What holds for every request of a route."""

    not_yet = frozenset(
        {
            "a2a",
            "ai",
            "apiKey",
            "authorization",
            "backendAuth",
            "backendTLS",
            "basicAuth",
            "buffer",
            "extAuthz",
            "extProc",
            "hostRewrite",
            "jwtAuth",
            "mcpAuthentication",
            "mcpAuthorization",
            "remoteRateLimit",
            "requestMirror",
            "retry",
            "transformations",
        },
    )

    auth: Literal["required", "off"] | None = Field(
        None,
        description="Whether a client token is needed. Without it: `required` as soon as `gateway.tokens` has "
        "entries, else `off`.",
    )
    access: AccessBlock | None = Field(
        None, description="Who may use which tools, prompts and resources. The rules of `gateway.access` hold too."
    )
    cors: Cors | None = Field(
        None, description="Pages of other origins. Without it: `gateway.cors`, else they are refused with 403."
    )
    csrf: Csrf | None = Field(
        None, description="Forged requests from browsers. Without it: `gateway.csrf`, else pages that `cors` names may."
    )
    keep_alive: Duration | None = Field(
        None,
        description="Interval of comment lines on quiet event streams. Without it: `gateway.keepAlive`.",
    )
    forward_headers: list[PassedName] | None = Field(
        None,
        description="Client headers that go on to the backend beside the documented ones. Credentials, cookies and "
        "`Origin` never do.",
    )
    request_header_modifier: RequestModifier | None = Field(None, description="Headers of requests to the backend.")
    response_header_modifier: ResponseModifier | None = Field(None, description="Headers of answers to the client.")
    url_rewrite: UrlRewrite | None = Field(None, description="How the server is called.")
    request_redirect: RequestRedirect | None = Field(None, description="Sends clients elsewhere instead of answering.")
    direct_response: DirectResponse | None = Field(None, description="A fixed answer, without a server.")
    local_rate_limit: RateLimits | None = Field(
        None,
        description="How many requests each caller may make. All entries hold together; more is 429, for a call of a "
        "session an error in its answer. Behind a proxy sources are told apart only with `gateway.trustedProxies`. A "
        "reload begins anew.",
    )

    @property
    def answers(self) -> bool:
        """True if no request reaches a server."""
        return self.request_redirect is not None or self.direct_response is not None


class RoutePolicies(Policies):
    """What holds for every request of a route."""

    timeout: RouteTimeout | None = Field(None, description="How long a request may take.")


class Reach(Strict):
    """Headers, limits and TLS towards a backend."""

    headers: RequestHeaders | None = Field(
        None,
        description="Headers that go with every request to the backend; they win over the client's. Never shown again.",
    )
    timeout: Milliseconds = Field(
        FIRST_BYTE_MS,
        description="Milliseconds from sending a request to the first byte of the answer's body, or the first event.",
    )
    sse_read_timeout: Milliseconds = Field(
        SILENCE_MS,
        description="Milliseconds of silence after which an event stream is given up. Concerns event streams only.",
    )
    tls: BackendTls | None = Field(None, description="Certificates towards an https backend.")


def _some(values: list[str]) -> list[str]:
    if not values:
        raise refusal("is empty; name at least one, or leave the key out")
    return values


SomeNames = Annotated[list[str], AfterValidator(_some)]
