"""From the store to the document that the data plane gets: what is in force, with its secrets, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.control.compile import compile_documents
from moongate.control.files import Documents
from moongate.control.platform import access, instances, tokens
from moongate.control.platform.ground import Ground
from moongate.control.platform.judging import judge_instance, tree
from moongate.control.platform.settings import Values
from moongate.control.platform.shapes import moment
from moongate.control.sealing import SealBroken
from moongate.errors import ConfigError
from moongate.store import tables

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InForce:
    """An ordinary configuration document (JSON values). `tokens_in_use`: a token was made at least once; then every
    instance that says nothing needs one, also when the last is gone.
    """

    document: dict[str, Any] = field(repr=False)
    tokens_in_use: bool


async def in_force(ground: Ground, values: Values) -> InForce:
    """Enabled instances, usable tokens of enabled users, and the gateway-wide rules. Raises StoreAway, SealBroken.

    An instance that cannot be opened or served is left out, and the log says so: the others go on. Rules are never left
    out: without them more would be allowed.
    """
    async with ground.store.read() as connection:
        servers, modes = await _servers(connection, ground)
        in_use = bool(await values.get(connection, tokens.IN_USE))
        rules = await values.get(connection, access.NAME)
        entries = await _tokens(connection, ground.clock())
    servers = await asyncio.to_thread(_fit, servers, modes)
    gateway: dict[str, Any] = {}
    if entries:
        gateway["tokens"] = entries
    if rules is not None:
        gateway["access"] = rules
    document: dict[str, Any] = {"mcpServers": servers}
    if gateway:
        document["gateway"] = gateway
    return InForce(document, in_use)


async def _servers(connection: AsyncConnection, ground: Ground) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    table = tables.instances
    rows = await connection.execute(select(table).where(table.c.enabled.is_(True)))
    servers, modes = {}, {}
    for row in sorted(rows.all(), key=lambda row: str(row.name)):
        try:
            config = ground.open(instances.KIND, row.name, row.config_sealed)
        except SealBroken as error:
            log.error("an instance of the store is left out: %s", error)  # noqa: TRY400 - the text says it all
            continue
        servers[row.name] = {"auth": "required", **config}
        modes[row.name] = row.access_mode
    return servers, modes


def _fit(servers: dict[str, dict[str, Any]], modes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Those that can be served; all were judged when they were saved, but perhaps by another version."""
    try:
        compile_documents(Documents(tree({"mcpServers": servers}, "store"), ("store",)))
    except ConfigError:
        wrong = {name: judge_instance(name, modes[name], config) for name, config in servers.items()}
    else:
        return servers
    for complaints in wrong.values():
        if complaints:
            log.error("an instance of the store is left out: %s", "; ".join(map(str, complaints)))
    return {name: config for name, config in servers.items() if not wrong[name]}


async def _tokens(connection: AsyncConnection, now: float) -> list[dict[str, Any]]:
    token, user = tables.tokens, tables.users
    rows = await connection.execute(
        select(token).join(user).where(token.c.enabled.is_(True), user.c.enabled.is_(True)).order_by(token.c.id)
    )
    groups: dict[str, list[str]] = {}
    for member in await connection.execute(select(tables.user_groups).order_by(tables.user_groups.c.group_name)):
        groups.setdefault(member.user_name, []).append(member.group_name)
    entries = []
    for row in rows.all():
        if (row.expires is not None and row.expires <= now) or row.instances == []:
            continue
        entry: dict[str, Any] = {"name": row.id, "user": row.user_name, "sha256": row.sha256}
        if row.user_name in groups:
            entry["groups"] = groups[row.user_name]
        if row.instances is not None:
            entry["instances"] = row.instances
        if row.expires is not None:
            entry["expires"] = moment(row.expires)
        entries.append(entry)
    return entries
