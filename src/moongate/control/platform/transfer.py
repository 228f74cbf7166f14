"""A whole configuration in, or out: instances and gateway-wide rules as a file has them. Secrets never leave."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.control.platform.access import AccessRules
from moongate.control.platform.ground import refuse
from moongate.control.platform.instances import Instances
from moongate.control.platform.judging import judge_access
from moongate.control.platform.masks import masked, referenced
from moongate.control.platform.roles import may_write
from moongate.control.platform.shapes import Actor, Exported, Instance
from moongate.errors import ConfigError

_NOT_A_NAME = re.compile(r"[^A-Z0-9]+")


async def export(
    instances: Instances, rules: AccessRules, secrets: Literal["masked", "references"] = "references"
) -> Exported:
    """Everything of the store that a file can hold. With `references` each secret is `${NAME}`, and the file works as
    soon as these variables are set; users and tokens stay in the store.
    """
    servers: dict[str, Any] = {}
    variables: dict[str, None] = {}

    def named(name: str, place: str) -> str:
        wanted = _NOT_A_NAME.sub("_", f"{name}_{place}".upper()).strip("_")
        wanted = f"X_{wanted}" if wanted[:1].isdigit() or wanted.startswith("MOONGATE_") else wanted
        free, number = wanted, 2
        while free in variables:
            free, number = f"{wanted}_{number}", number + 1
        variables[free] = None
        return free

    for name, (config, enabled) in (await instances.stored()).items():
        shown = masked(config) if secrets == "masked" else referenced(config, partial(named, name))
        servers[name] = shown if enabled else {**shown, "disabled": True}
    document: dict[str, Any] = {"mcpServers": servers}
    block = (await rules.get()).access
    if block is not None:
        document["gateway"] = {"access": block}
    return Exported(document=document, variables=list(variables))


async def import_document(
    document: dict[str, Any], by: Actor, instances: Instances, rules: AccessRules
) -> Sequence[Instance]:
    """`mcpServers` become instances, `gateway.access` the gateway-wide rules; everything, or every complaint."""
    may_write(by)
    rest = dict(document)
    gateway = rest.pop("gateway", None)
    block = gateway.get("access") if isinstance(gateway, dict) else None
    if gateway is not None and (
        not isinstance(gateway, dict) or set(gateway) - {"access"} or not isinstance(block, dict)
    ):
        text = "only gateway.access can be imported, a block of rules; the rest of gateway belongs into a file"
        raise refuse(("gateway", text))
    complaints = judge_access(block) if block is not None else []
    if complaints:
        raise ConfigError(tuple(complaints))
    if block is None:
        return await instances.paste(rest, by)
    if not rest:
        await rules.put(block, by)
        return []

    async def put_rules(connection: AsyncConnection) -> None:
        await rules.put_judged(connection, block, by)

    return await instances.paste(rest, by, also=put_rules)
