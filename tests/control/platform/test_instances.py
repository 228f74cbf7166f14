"""Instances of the store, beside those of files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from moongate.control.platform.failures import Exists, Forbidden, NotFound, ReadOnly, Stale
from moongate.control.platform.instances import FileInstance, InstanceFilter, Surroundings
from moongate.control.platform.masks import mask
from moongate.control.platform.shapes import Actor, ApiKeyNew, InstanceNew, InstancePatch, InstancePut, UserNew
from moongate.errors import ConfigError
from moongate.store.tables import instances
from tests.architecture.rules import ROOT
from tests.control.platform.stage import (
    ADMIN,
    AUDITOR,
    OPERATOR,
    URL,
    Clock,
    entry,
    make_instance,
    make_token,
    make_user,
    opened,
    run,
)
from tests.databases import Database

BACKEND = ROOT.parent / "shared" / "configs" / "proxy-mode-backend.json"


def new(name: str, **more: object) -> InstanceNew:
    """As it comes over the API."""
    return InstanceNew.model_validate({"name": name, "config": entry(), **more})


@pytest.mark.requirement("PM-57")
def test_an_instance_lives(database: Database) -> None:
    """Made, found, changed, deleted; its secrets are stored and never shown, masks keep them."""

    async def story() -> None:
        clock = Clock()
        async with opened(database, clock=clock) as platform:
            made = await make_instance(platform, headers={"X-Key": "swordfish"}, timeout=1000)
            assert made.model_dump(by_alias=True, exclude={"created", "updated"}) == {
                "name": "time",
                "accessMode": "proxy",
                "enabled": True,
                "notes": "",
                "tags": [],
                "icon": "",
                "config": entry(headers={"X-Key": mask("swordfish")}, timeout=1000),
                "source": "store",
                "where": "",
                "addresses": {
                    "base": "http://127.0.0.1:8000/mcp/time",
                    "streamableHttp": "http://127.0.0.1:8000/mcp/time/v1/stream",
                    "sse": "http://127.0.0.1:8000/mcp/time/events",
                },
                "revision": 1,
            }
            assert made.created == made.updated == "2027-01-15T08:00:00.000Z"
            assert await platform.instances.get("time") == made
            clock.now += 1.5
            put = InstancePut.model_validate({"config": {**made.config, "timeout": 2000}, "tags": ["x"], "notes": "n"})
            changed = await platform.instances.replace("time", put, OPERATOR, revision=1)
            assert (changed.revision, changed.tags, changed.updated) == (2, ["x"], "2027-01-15T08:00:01.500Z")
            patch = InstancePatch.model_validate({"enabled": False})
            off = await platform.instances.patch("time", patch, OPERATOR, revision=2)
            assert (off.enabled, off.notes, off.revision) == (False, "n", 3)
            assert await platform.instances.config("time") == entry(headers={"X-Key": "swordfish"}, timeout=2000)
            await platform.instances.delete("time", OPERATOR, revision=3)
            with pytest.raises(NotFound):
                await platform.instances.get("time")
            again = await make_instance(platform)
            assert again.revision == 5
            history = (await platform.revisions.list(kind="instances", name="time")).items
            assert [(line.action, line.revision, line.who) for line in history] == [
                ("created", 5, "otto"),
                ("deleted", 4, "otto"),
                ("changed", 3, "otto"),
                ("changed", 2, "otto"),
                ("created", 1, "otto"),
            ]
            assert history[1].state["config"]["headers"] == {"X-Key": mask("swordfish")}
            assert "swordfish" not in repr(history)

    run(story)


def test_a_stale_update_is_a_conflict(database: Database) -> None:
    """Two see revision 1 and change it: one wins, the other is told; nothing of the loser is kept."""

    async def story() -> None:
        async with opened(database) as one, opened(database) as two:
            await make_instance(one)
            patches = [InstancePatch.model_validate({"notes": notes}) for notes in ("one", "two")]
            results = await asyncio.gather(
                one.instances.patch("time", patches[0], OPERATOR, revision=1),
                two.instances.patch("time", patches[1], OPERATOR, revision=1),
                return_exceptions=True,
            )
            (lost,) = [result for result in results if isinstance(result, Stale)]
            assert lost.revision == 2
            found = await one.instances.get("time")
            assert found.revision == 2
            assert found in results
            with pytest.raises(Stale):
                await one.instances.delete("time", OPERATOR, revision=1)
            with pytest.raises(Stale):
                await one.instances.replace("time", InstancePut.model_validate({"config": entry()}), OPERATOR, 7)

    run(story)


def test_a_name_is_taken_once(database: Database) -> None:
    """Of two who take a name at once one gets it."""

    async def story() -> None:
        async with opened(database) as one, opened(database) as two:
            results = await asyncio.gather(
                *(platform.instances.create(new("time"), OPERATOR) for platform in (one, two)), return_exceptions=True
            )
            assert sorted(type(result).__name__ for result in results) == ["Exists", "Instance"]
            with pytest.raises(Exists, match="already an instance 'time'"):
                await one.instances.create(new("time"), OPERATOR)

    run(story)


@pytest.mark.requirement("PM-06")
def test_the_documented_block_is_pasted_unchanged(database: Database) -> None:
    """The printed configuration becomes an instance with exactly its values."""

    async def story() -> None:
        async with opened(database) as platform:
            (made,) = await platform.instances.paste(BACKEND.read_text(), OPERATOR)
            assert made.name == "your-mcp"
            wanted = json.loads(BACKEND.read_text())["mcpServers"]["your-mcp"]
            assert await platform.instances.config("your-mcp") == wanted
            with pytest.raises(Exists):
                await platform.instances.paste(json.loads(BACKEND.read_text()), OPERATOR)

    run(story)


@pytest.mark.requirement("PM-05")
def test_pasting_is_all_or_nothing(database: Database) -> None:
    """Several entries: every complaint, and nothing stored; without complaints all of them."""

    async def story() -> None:
        async with opened(database) as platform:
            block: dict[str, Any] = {
                "good": entry(),
                "bad": entry(timeout=0),
                "worse name": entry(),
                "local": {"command": "npx"},
            }
            with pytest.raises(ConfigError) as raised:
                await platform.instances.paste({"mcpServers": block}, ADMIN, "proxy")
            assert [complaint.where for complaint in raised.value.complaints] == [
                "instance 'worse name'",
                "instance bad: timeout",
                "instance local: command",
            ]
            assert "use hosted mode" in raised.value.complaints[2].text
            assert (await platform.instances.list()).items == []
            block = {"good": entry(), "local": {"command": "npx", "disabled": True}}
            made = await platform.instances.paste({"mcpServers": block}, ADMIN)
            assert [(one.name, one.access_mode, one.enabled) for one in made] == [
                ("good", "proxy", True),
                ("local", "hosted", False),
            ]

    run(story)


def test_only_admins_have_commands_run(database: Database) -> None:
    """An operator neither makes, changes, tests nor deletes a hosted instance; an auditor writes nothing."""

    async def story() -> None:
        async with opened(database) as platform:
            hosted = new("local", accessMode="hosted", config={"command": "npx", "env": {"K": "v"}})
            proxied = InstancePut.model_validate({"config": entry()})
            for refused in (
                platform.instances.create(hosted, OPERATOR),
                platform.instances.draft(hosted, OPERATOR),
                platform.instances.paste({"mcpServers": {"x": {"command": "y"}}}, OPERATOR),
                platform.instances.create(new("time"), AUDITOR),
            ):
                with pytest.raises(Forbidden):
                    await refused
            await platform.instances.create(hosted, ADMIN)
            for refused_too in (
                platform.instances.replace("local", proxied, OPERATOR),
                platform.instances.patch("local", InstancePatch.model_validate({"notes": "x"}), OPERATOR),
                platform.instances.draft(new("local"), OPERATOR),
            ):
                with pytest.raises(Forbidden):
                    await refused_too
            with pytest.raises(Forbidden):
                await platform.instances.delete("local", OPERATOR)
            await make_instance(platform, "time")
            with pytest.raises(Forbidden):
                await platform.instances.patch(
                    "time",
                    InstancePatch.model_validate({"accessMode": "hosted", "config": {"command": "sh"}}),
                    OPERATOR,
                )

    run(story)


def test_instances_of_files_stand_beside_and_are_read_only(database: Database) -> None:
    """They are listed with their place and masked; their names cannot be taken, nor can they be changed."""
    files = [FileInstance("here", "moongate.yaml:3", entry(headers={"A": "swordfish"}, env={"B": "${C}"}))]

    async def story() -> None:
        async with opened(database, Surroundings(files=lambda: files)) as platform:
            await make_instance(platform, "time")
            listed = (await platform.instances.list()).items
            assert [(one.name, one.source, one.where) for one in listed] == [
                ("here", "file", "moongate.yaml:3"),
                ("time", "store", ""),
            ]
            assert "swordfish" not in repr(listed)
            assert (await platform.instances.get("here")).revision is None
            with pytest.raises(Exists, match=r"already an instance 'here' in a file \(moongate.yaml:3\)"):
                await make_instance(platform, "here")
            for refused in (
                platform.instances.patch("here", InstancePatch.model_validate({"notes": "x"}), ADMIN),
                platform.instances.replace("here", InstancePut.model_validate({"config": entry()}), ADMIN),
            ):
                with pytest.raises(ReadOnly, match=r"moongate.yaml:3"):
                    await refused
            with pytest.raises(ReadOnly):
                await platform.instances.delete("here", ADMIN)

    run(story)


def test_lists_are_filtered_and_paged(database: Database) -> None:
    """Each filter, and pages that together are the whole."""

    async def story() -> None:
        async with opened(database) as platform:
            for number in range(5):
                await platform.instances.create(
                    new(f"n{number}", tags=["odd"] if number % 2 else [], notes=f"Note {number}", enabled=number < 4),
                    OPERATOR,
                )
            await platform.instances.create(new("local", accessMode="hosted", config={"command": "x"}), ADMIN)

            async def names(wanted: InstanceFilter) -> list[str]:
                return [one.name for one in (await platform.instances.list(wanted)).items]

            assert await names(InstanceFilter(tag="odd")) == ["n1", "n3"]
            assert await names(InstanceFilter(q="nOtE 4")) == ["n4"]
            assert await names(InstanceFilter(access_mode="hosted")) == ["local"]
            assert await names(InstanceFilter(enabled=False)) == ["n4"]
            assert await names(InstanceFilter(source="file")) == []
            first = await platform.instances.list(limit=4)
            rest = await platform.instances.list(limit=4, cursor=first.next)
            assert [one.name for one in [*first.items, *rest.items]] == ["local", "n0", "n1", "n2", "n3", "n4"]
            assert rest.next is None
            with pytest.raises(ConfigError, match="cursor"):
                await platform.instances.list(cursor="%%%")

    run(story)


def test_a_draft_is_judged_with_kept_secrets_and_not_stored(database: Database) -> None:
    """The connection test gets the real values; a draft that leads elsewhere does not."""

    async def story() -> None:
        async with opened(database) as platform:
            made = await make_instance(platform, headers={"X-Key": "swordfish"})
            config = await platform.instances.draft(new("time", config={**made.config, "timeout": 5}), OPERATOR)
            assert config == entry(headers={"X-Key": "swordfish"}, timeout=5)
            for draft in (
                new("time", config={**made.config, "url": "http://evil.example/"}),
                new("other", config=made.config),
            ):
                with pytest.raises(ConfigError) as raised:
                    await platform.instances.draft(draft, OPERATOR)
                assert "swordfish" not in str(raised.value)
            assert (await platform.instances.get("time")).revision == 1

    run(story)


def test_a_deleted_instance_leaves_the_tokens(database: Database) -> None:
    """A token for it alone is good for nothing, also when a new instance takes the name."""

    async def story() -> None:
        async with opened(database) as platform:
            await make_instance(platform, "a")
            await make_instance(platform, "b")
            await make_user(platform)
            both = (await make_token(platform, instances=["a", "b"])).token
            one = (await make_token(platform, instances=["a"])).token
            every = (await make_token(platform)).token
            await platform.instances.delete("a", OPERATOR)
            await make_instance(platform, "a")
            assert [(await platform.tokens.get(token.id)).instances for token in (both, one, every)] == [
                ["b"],
                [],
                None,
            ]
            document = (await platform.document()).document
            assert {token["name"] for token in document["gateway"]["tokens"]} == {both.id, every.id}

    run(story)


def test_strange_names_are_not_found(database: Database) -> None:
    """Whatever is asked for: no failure of the database, only that it is not there."""

    async def story() -> None:
        async with opened(database) as platform:
            for name in ("a\0b", "\ud800", "x" * 500, "", "a'b", "%"):
                for lost in (
                    platform.instances.get(name),
                    platform.users.get(name),
                    platform.tokens.get(name),
                    platform.operators.get(name),
                    platform.api_keys.get(name),
                    platform.instances.patch(name, InstancePatch(), ADMIN),
                ):
                    with pytest.raises(NotFound):
                        await lost
                assert (await platform.revisions.list(kind=name, name=name)).items == []
            assert await platform.operators.check("\0", "\ud800", "\0" * 500) is None

    run(story)


def test_the_longest_names_fit(database: Database) -> None:
    """What the shapes allow the database keeps, also who did it."""

    async def story() -> None:
        async with opened(database) as platform:
            who = Actor("k" * 128 + " (key_abcdefghijkl)", "admin")
            long = "\U0001f680" * 128
            await platform.instances.create(new("n" * 128, tags=[long], notes=long, icon="\U0001f680"), who)
            await platform.users.create(UserNew.model_validate({"name": long, "groups": [long]}), who)
            await make_token(platform, long, name=long, tags=[long], instances=["n" * 128])
            await platform.api_keys.create(ApiKeyNew.model_validate({"name": long, "role": "admin"}), who)
            assert {line.who for line in (await platform.revisions.list()).items} == {who.name, "otto"}

    run(story)


def test_an_instance_that_cannot_be_opened_can_be_replaced(database: Database) -> None:
    """It is listed with the reason, can be deleted and written anew; the others are as ever."""

    async def story() -> None:
        async with opened(database) as platform:
            for name in ("good", "a", "b"):
                await make_instance(platform, name)
            async with platform._ground.store.write() as connection:
                await connection.execute(
                    update(instances).where(instances.c.name != "good").values(config_sealed=b"rubbish")
                )
            listed = (await platform.instances.list()).items
            assert [(one.name, bool(one.config), bool(one.where)) for one in listed] == [
                ("a", False, True),
                ("b", False, True),
                ("good", True, False),
            ]
            await platform.instances.delete("a", OPERATOR)
            made = await platform.instances.replace("b", InstancePut.model_validate({"config": entry()}), OPERATOR)
            assert (made.config, made.where) == (entry(), "")

    run(story)


def test_one_behind_a_file_can_be_deleted(database: Database) -> None:
    """A file that takes the name of a stored instance hides it; the hidden one can go, the file's cannot."""
    files: list[FileInstance] = []

    async def story() -> None:
        async with opened(database, Surroundings(files=lambda: files)) as platform:
            await make_instance(platform, "time")
            files.append(FileInstance("time", "moongate.yaml:3", entry(timeout=5)))
            (listed,) = (await platform.instances.list()).items
            assert listed.source == "file"
            await platform.instances.delete("time", OPERATOR)
            with pytest.raises(ReadOnly):
                await platform.instances.delete("time", OPERATOR)

    run(story)


def test_a_thousand_revisions_are_not_kept(tmp_path: Path) -> None:
    """The history of one thing has an end: its last hundred changes."""
    database = Database(None, tmp_path)

    async def story() -> None:
        async with opened(database) as platform:
            await make_instance(platform)
            for number in range(105):
                await platform.instances.patch("time", InstancePatch.model_validate({"notes": str(number)}), OPERATOR)
            page = await platform.revisions.list(kind="instances", name="time", limit=60)
            rest = await platform.revisions.list(kind="instances", name="time", limit=60, cursor=page.next)
            assert [line.revision for line in [*page.items, *rest.items]] == list(range(106, 6, -1))
            assert (await platform.instances.get("time")).config == entry(url=URL)

    run(story)
