"""The words of browser tests: the headers that browsers send, and the article's policies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from moongate.testing import Backend, Gateway, Script, gateway
from tests.proxy.talk import Answer, Client

UI = "http://your-web-ui-host-origin"
STRANGER = "http://stranger.example"
# As printed in the article that the project began with, but for port and server.
ARTICLE = """
config:

binds:
- port: 0
  listeners:
  - name: mcp-listener
    hostname: your-host
    routes:
    - name: home-assistant-route
      matches:
      - path:
          pathPrefix: "/mcp/home-assistant"
      policies:
        csrf:
          additionalOrigins:
            - http://your-web-ui-host-origin/
        cors:
          allowOrigins:
            - "*"
          allowHeaders:
            - "*"
            - mcp-protocol-version
            - content-type
            - cache-control
            - Accept
            - mcp-session-id
          allowCredentials: true
          allowMethods: ["GET", "POST", "OPTIONS"]
          maxAge: 100s
          exposeHeaders:
          - "*"
          - mcp-session-id
        requestHeaderModifier:
          add:
            Authorization: "Bearer fake"
      backends:
      - mcp:
          targets:
          - name: home-assistant
            mcp:
              host: BACKEND
"""
ARTICLE_PATH = "/mcp/home-assistant"
ARTICLE_HOST = "your-host:3101"


@asynccontextmanager
async def article(script: Script) -> AsyncIterator[tuple[Gateway, Backend]]:
    """A gateway with the article's file, in front of a backend."""
    async with Backend(script) as backend, gateway(ARTICLE.replace("BACKEND", backend.url)) as gate:
        yield gate, backend


async def preflight(
    client: Client,
    origin: str,
    method: str = "POST",
    headers: str = "content-type,mcp-protocol-version",
    *,
    path: str = "/mcp/one",
    host: str = "127.0.0.1",
) -> Answer:
    """What a browser asks before it sends a request that is not simple. Preflights carry no credentials."""
    fields = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": headers,
        "accept": "*/*",
        "sec-fetch-mode": "cors",
        "sec-fetch-site": "cross-site",
    }
    return await client.ask(None, fields, method="OPTIONS", path=path, host=host)


def of_page(origin: str, **more: str) -> dict[str, str]:
    """What a browser adds to the request of a page on a plain-http name: no Fetch Metadata."""
    return {"origin": origin, **{name.replace("_", "-"): value for name, value in more.items()}}


def block(*origins: str, **more: object) -> dict[str, object]:
    """A cors block with the preset."""
    return {"preset": "mcp", "allowOrigins": list(origins), **more}


def allowed(answer: Answer) -> str | None:
    """The origin that may read the answer; it must vary by it then."""
    assert [name for name, _ in answer.lines].count("access-control-allow-origin") <= 1
    origin = answer.fields.get("access-control-allow-origin")
    if origin is not None and origin != "*":
        assert "origin" in [part.strip().lower() for part in answer.fields["vary"].split(",")]
    return origin


def servers(**entries: Mapping[str, object]) -> str:
    """The text of a file with these instances."""
    return json.dumps({"gateway": {"limits": {"drainTime": "1s"}}, "mcpServers": entries})
