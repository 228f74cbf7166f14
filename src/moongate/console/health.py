"""`/healthz` and `/readyz`: for monitoring, open to everybody, and silent about everything else."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from moongate.console.live import NoAnswer
from moongate.console.services import Given

router = APIRouter(tags=["monitoring"])


class Health(BaseModel):
    """This process runs."""

    status: Annotated[str, Field(description="ok")] = "ok"


class Readiness(BaseModel):
    """What works now. The gateway carries requests also while the store is away."""

    ready: bool
    gateway: bool
    store: bool
    published: Annotated[bool, Field(description="what the store holds is in force, but for what cannot be served")]


@router.get("/healthz")
async def get_health() -> Health:
    """Whether the platform process runs."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Something of it does not work now."}})
async def get_readiness(services: Given, response: Response) -> Readiness:
    """Whether the gateway answers, the store can be used, and what it holds is in force; 503 if not."""
    try:
        await services.live.ping()
        gateway = True
    except NoAnswer:
        gateway = False
    store = services.backing.platform is not None and services.backing.reachable
    published = services.backing.unpublished is None and services.live.in_force
    ready = gateway and store and published
    if not ready:
        response.status_code = 503
    return Readiness(ready=ready, gateway=gateway, store=store, published=published)
