"""The app, put together."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from moongate.console import (
    assets,
    audit,
    explaining,
    health,
    instances,
    metrics,
    operators,
    page,
    platform,
    signin,
    users,
)
from moongate.console.document import describe, methods_of
from moongate.console.gate import Gate
from moongate.console.problems import install
from moongate.console.services import Services

API = "/api/v1"


class Admin(FastAPI):
    """FastAPI behind the gate: also the answers that the framework makes itself pass it."""

    gate: Gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self.gate(scope, receive, send)


def build_app(services: Services) -> FastAPI:
    """The admin app. It asks nothing of the network; who serves it, decides where."""
    app = Admin(
        title="Moongate",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.gate = Gate(super(Admin, app).__call__, lambda: services.live.names)
    app.state.services = services
    routers = [(API, module.router) for module in (signin, operators, instances, users, audit, platform)]
    routers += [("", module.router) for module in (health, metrics, assets, page, explaining)]
    for prefix, router in routers:
        app.include_router(router, prefix=prefix)
    install(app, lambda path: methods_of(routers, path))
    describe(app, routers)
    return app
