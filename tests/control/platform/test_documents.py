"""What the data plane gets: what is in force, in a form that it compiles, and nothing else."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

import pytest
from sqlalchemy import update

from moongate.control.compile import compile_documents
from moongate.control.files import load_texts
from moongate.control.platform.instances import FileInstance, Surroundings
from moongate.control.platform.shapes import InstancePatch, UserPatch
from moongate.control.published import read_published, with_published, write_published
from moongate.errors import ConfigError
from moongate.model.snapshot import Snapshot, Target
from moongate.store.engine import open_store
from moongate.store.tables import instances
from tests.control.platform.stage import (
    ADMIN,
    OPERATOR,
    URL,
    entry,
    make_instance,
    make_token,
    make_user,
    opened,
    run,
)
from tests.databases import Database

KEY = bytes(range(32))


async def compiled(database: Database, files: str, surroundings: Surroundings | None = None) -> Snapshot:
    """What the data plane makes of a file and of what was published."""
    async with opened(database, surroundings) as platform:
        found = await platform.document()
    write_published(database.data_dir, KEY, found.document, tokens_in_use=found.tokens_in_use)
    published = read_published(database.data_dir, KEY)
    assert published is not None
    return compile_documents(with_published(load_texts([("moongate.yaml", files)], {}), published))


def test_what_is_published_is_served(database: Database) -> None:
    """Instances need a token unless they say otherwise; tokens carry user, groups, instances; files stand beside."""
    surroundings = Surroundings(files=lambda: [FileInstance("filed", "moongate.yaml:1", entry())])

    async def story() -> None:
        async with opened(database, surroundings) as platform:
            await make_instance(platform, "time", headers={"X-Key": "swordfish"})
            await make_instance(platform, "open", auth="off")
            await make_instance(platform, "off")
            await platform.instances.patch("off", InstancePatch(enabled=False), OPERATOR)
            await make_user(platform, "alice", "readers", "admins")
            made = await make_token(platform, instances=["time", "off", "filed"], expires="2099-01-01")
            other = await make_token(platform, instances=["off"])
            await platform.access.put({"rules": [{"allow": ["tool:get_*"], "groups": ["readers"]}]}, OPERATOR)
        snapshot = await compiled(database, f"mcpServers: {{filed: {{url: '{URL}'}}}}", surroundings)
        routes = {route.name: route for bind in snapshot.binds for one in bind.listeners for route in one.routes}
        assert {name: route.auth for name, route in routes.items()} == {"filed": True, "open": False, "time": True}
        target = routes["time"].target
        assert isinstance(target, Target)
        assert target.headers == (("X-Key", "swordfish"),)
        token = next(token for token in snapshot.tokens if token.name != other.token.id)
        assert token.sha256 == hashlib.sha256(made.value.encode()).digest()
        assert token.instances == frozenset({"time", "off", "filed"})
        assert (token.name, token.principal.name) == (made.token.id, "alice")
        assert token.principal.groups == {"readers", "admins"}

    run(story)


def test_a_gateway_that_had_tokens_stays_closed(database: Database) -> None:
    """With the last token deleted, and nothing else in the store, the instances of files still need one."""
    files = f"mcpServers: {{filed: {{url: '{URL}'}}}}"

    async def story() -> None:
        def needs(snapshot: Snapshot) -> list[bool]:
            return [route.auth for bind in snapshot.binds for one in bind.listeners for route in one.routes]

        async with opened(database) as platform:
            await make_user(platform)
            assert needs(await compiled(database, files)) == [False]
            token = (await make_token(platform)).token
            assert needs(await compiled(database, files)) == [True]
            await platform.tokens.delete(token.id, OPERATOR)
            await platform.users.delete("alice", OPERATOR)
            assert needs(await compiled(database, files)) == [True]

    run(story)


def test_one_broken_instance_does_not_take_the_others_along(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be opened or is refused by this version is left out, and the log says so without secrets."""

    async def story() -> None:
        async with opened(database) as platform:
            for name in ("good", "moved", "old"):
                await make_instance(platform, name, headers={"X-Key": "swordfish"})
            store = await open_store(database.url, database.data_dir)
            sealed = platform._ground.seal("instances", "old", {"url": URL, "formerKey": "swordfish"})
            async with store.write() as connection:
                other = (await connection.execute(instances.select().where(instances.c.name == "good"))).one()
                for name, value in (("moved", other.config_sealed), ("old", sealed)):
                    await connection.execute(
                        update(instances).where(instances.c.name == name).values(config_sealed=value)
                    )
            await store.close()
            with caplog.at_level(logging.ERROR):
                assert list((await platform.document()).document["mcpServers"]) == ["good"]
            assert "instances/moved: is damaged, or was moved here" in caplog.text
            assert "instance old: unknown key 'formerKey'" in caplog.text
            assert "swordfish" not in caplog.text

    run(story)


def test_disabled_users_groups_and_rules_follow(database: Database) -> None:
    """A disabled user's tokens are out, and back when enabled; rules that are removed are gone."""

    async def story() -> None:
        async with opened(database) as platform:
            await make_user(platform, "alice", "readers")
            await make_token(platform)
            rules: dict[str, Any] = {"mode": "shadow", "rules": [{"deny": True, "users": ["alice"]}]}
            access = await platform.access.put(rules, OPERATOR, revision=0)
            assert (access.access, access.revision) == (rules, 1)
            await platform.users.patch("alice", UserPatch(enabled=False), OPERATOR)
            assert (await platform.document()).document["gateway"] == {"access": rules}
            await platform.users.patch("alice", UserPatch(enabled=True, groups=[]), OPERATOR)
            assert (await platform.access.put(None, OPERATOR, revision=1)).access is None
            gateway = (await platform.document()).document["gateway"]
            assert set(gateway) == {"tokens"}
            assert "groups" not in gateway["tokens"][0]

    run(story)


def test_rules_that_cannot_be_understood_are_not_stored(database: Database) -> None:
    """Every complaint at once, and the former rules stay."""

    async def story() -> None:
        async with opened(database) as platform:
            with pytest.raises(ConfigError) as raised:
                await platform.access.put({"rules": [{"allow": ["x"]}], "mod": "enforce"}, OPERATOR)
            assert all(complaint.where.startswith("access") for complaint in raised.value.complaints)
            assert len(raised.value.complaints) > 1
            assert (await platform.access.get()).revision == 0

    run(story)


def test_what_is_exported_can_be_served_and_imported(database: Database) -> None:
    """Secrets become references; with these set the file means the same; imported it is the same again."""

    async def story() -> None:
        async with opened(database) as platform:
            await make_instance(platform, "time", headers={"Authorization": "Bearer swordfish"}, auth="off")
            await platform.instances.paste({"mcpServers": {"2-b": {"command": "x", "env": {"K": "mackerel"}}}}, ADMIN)
            await platform.instances.patch("2-b", InstancePatch(enabled=False), ADMIN)
            await platform.access.put({"rules": [{"allow": True}]}, OPERATOR)
            found = await platform.export()
            assert found.variables == ["X_2_B_ENV_K", "TIME_HEADERS_AUTHORIZATION"]
            text = json.dumps(found.document)
            assert not any(secret in text for secret in ("swordfish", "mackerel"))
            assert "[secret " in json.dumps((await platform.export("masked")).document)
            environ = {"TIME_HEADERS_AUTHORIZATION": "Bearer swordfish", "X_2_B_ENV_K": "mackerel"}
            (route,) = compile_documents(load_texts([("export.json", text)], environ)).binds[0].listeners[0].routes
            assert isinstance(route.target, Target)
            assert route.target.headers == (("Authorization", "Bearer swordfish"),)
            for name in ("time", "2-b"):
                await platform.instances.delete(name, ADMIN)
            with pytest.raises(ConfigError, match="references to environment variables"):
                await platform.import_document(found.document, ADMIN)
            literal = json.loads(text.replace("${", "").replace('}"', '"'))
            made = await platform.import_document(literal, ADMIN)
            assert sorted((one.name, one.access_mode, one.enabled) for one in made) == [
                ("2-b", "hosted", False),
                ("time", "proxy", True),
            ]
            with pytest.raises(ConfigError, match=r"only gateway\.access"):
                await platform.import_document({"gateway": {"prefix": "/x"}}, ADMIN)

    run(story)


def test_an_outdated_instance_can_be_switched_off(database: Database) -> None:
    """What a newer version refuses can still be disabled and noted, but not switched on or changed as it is."""

    async def story() -> None:
        async with opened(database) as platform:
            await make_instance(platform, "old")
            sealed = platform._ground.seal("instances", "old", {"url": URL, "formerKey": 1})
            async with platform._ground.store.write() as connection:
                await connection.execute(update(instances).values(config_sealed=sealed))
            assert not (await platform.instances.patch("old", InstancePatch(enabled=False), OPERATOR)).enabled
            await platform.instances.patch("old", InstancePatch(notes="repair me"), OPERATOR)
            for refused in (InstancePatch(enabled=True), InstancePatch(config=entry(formerKey=2))):
                with pytest.raises(ConfigError, match="formerKey"):
                    await platform.instances.patch("old", refused, OPERATOR)
            await platform.instances.patch("old", InstancePatch(config=entry(), enabled=True), OPERATOR)

    run(story)
