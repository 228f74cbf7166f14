"""Who calls, and with what."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Any

import pytest
from pydantic import ValidationError

from moongate.control.platform.failures import Exists, Forbidden, NotFound, Stale
from moongate.control.platform.ground import make_value
from moongate.control.platform.shapes import TokenNew, TokenPatch, UserNew, UserPatch, UserPut
from moongate.control.platform.tokens import TokenFilter, is_token
from moongate.errors import ConfigError
from moongate.store.changes import Changes
from moongate.store.engine import open_store
from tests.control.platform.stage import (
    AUDITOR,
    OPERATOR,
    Clock,
    make_instance,
    make_token,
    make_user,
    opened,
    run,
)
from tests.databases import Database


def test_a_user_lives(database: Database) -> None:
    """Made, put into groups, disabled, deleted with the tokens; groups are what users say."""

    async def story() -> None:
        async with opened(database) as platform:
            await make_user(platform, "alice", "readers", "admins")
            await make_user(platform, "bob", "readers")
            assert [(group.name, group.users) for group in await platform.users.groups()] == [
                ("admins", ["alice"]),
                ("readers", ["alice", "bob"]),
            ]
            changed = await platform.users.patch(
                "alice", UserPatch.model_validate({"groups": ["writers"]}), OPERATOR, revision=1
            )
            assert (changed.groups, changed.enabled, changed.revision) == (["writers"], True, 2)
            with pytest.raises(Stale):
                await platform.users.replace("alice", UserPut(), OPERATOR, revision=1)
            assert [user.name for user in (await platform.users.list(group="readers")).items] == ["bob"]
            assert [user.name for user in (await platform.users.list(q="WRIT")).items] == ["alice"]
            with pytest.raises(Exists):
                await make_user(platform, "alice")
            token = (await make_token(platform)).token
            await platform.users.delete("alice", OPERATOR)
            for gone in (platform.users.get("alice"), platform.tokens.get(token.id)):
                with pytest.raises(NotFound):
                    await gone
            history = (await platform.revisions.list(kind="tokens", name=token.id)).items
            assert [line.action for line in history] == ["deleted", "created"]
            await make_user(platform, "alice")
            assert (await platform.tokens.list()).items == []
            assert (await platform.users.get("alice")).groups == []

    run(story)


@pytest.mark.parametrize(
    "name", ["anonymous", "a/b", ".", "..", "", " a", "a\0", "x" * 129, "\ud800", "a\u200b", "\u202ea"]
)
def test_names_that_mean_something_else_are_refused(name: str) -> None:
    """Nobody is called anonymous, and every name fits into an address."""
    with pytest.raises(ValidationError):
        UserNew.model_validate({"name": name})


def test_a_token_is_shown_once_and_kept_as_a_digest(database: Database) -> None:
    """A recognisable prefix, random characters, a checksum; found by id and fingerprint."""

    async def story() -> None:
        async with opened(database) as platform:
            await make_user(platform)
            await make_instance(platform, "time")
            made = await make_token(platform, instances=["time"], tags=["ci"], expires="2028-01-01", name="laptop")
            assert re.fullmatch(r"mg_[0-9A-Za-z]{36}", made.value)
            assert is_token(made.value)
            assert not is_token(made.value[:-1] + ("a" if made.value[-1] != "a" else "b"))
            assert made.value not in repr(made)
            token = made.token
            assert token.fingerprint == hashlib.sha256(made.value.encode()).hexdigest()[:8]
            assert token.expires == "2028-01-01T00:00:00.000Z"
            assert await platform.tokens.get(token.id) == token
            assert await platform.tokens.find(token.id) == [token]
            assert await platform.tokens.find(token.fingerprint.upper()) == [token]
            assert await platform.tokens.find("%") == []
            other = (await make_token(platform)).token
            for wanted, found in (
                (TokenFilter(user="alice", instance="time"), {token.id, other.id}),
                (TokenFilter(instance="other"), {other.id}),
                (TokenFilter(tag="ci"), {token.id}),
                (TokenFilter(q="LAPTOP"), {token.id}),
                (TokenFilter(q=other.fingerprint), {other.id}),
                (TokenFilter(user="nobody"), set()),
            ):
                assert {one.id for one in (await platform.tokens.list(wanted)).items} == found

    run(story)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"user": "nobody"}, "user: there is no user 'nobody'"),
        ({"user": "alice", "instances": ["tme"]}, "instances: there is no instance 'tme'; did you mean time?"),
    ],
)
def test_a_token_for_nobody_or_nothing_is_refused(database: Database, given: dict[str, Any], said: str) -> None:
    """A misspelt user or instance is a complaint, not a token that is good for nothing."""

    async def story() -> None:
        async with opened(database) as platform:
            await make_user(platform)
            await make_instance(platform, "time")
            with pytest.raises(ConfigError, match=re.escape(said)):
                await platform.tokens.create(TokenNew.model_validate(given), OPERATOR)

    run(story)


def test_a_token_changes(database: Database) -> None:
    """What is named changes, also to all instances and to no expiry; what is not named stays."""

    async def story() -> None:
        async with opened(database) as platform:
            await make_user(platform)
            await make_instance(platform, "time")
            token = (await make_token(platform, instances=["time"], expires="2028-01-01", tags=["a"])).token

            async def patch(**given: object) -> tuple[Any, ...]:
                found = await platform.tokens.patch(token.id, TokenPatch.model_validate(given), OPERATOR)
                return found.instances, found.expires, found.tags, found.enabled

            assert await patch(enabled=False) == (["time"], "2028-01-01T00:00:00.000Z", ["a"], False)
            assert await patch(instances=None, enabled=True) == (None, "2028-01-01T00:00:00.000Z", ["a"], True)
            assert await patch(expires=None, tags=[]) == (None, None, [], True)
            with pytest.raises(ConfigError, match="there is no instance 'x'"):
                await patch(instances=["x"])
            with pytest.raises(Stale):
                await platform.tokens.delete(token.id, OPERATOR, revision=1)
            with pytest.raises(Forbidden):
                await platform.tokens.delete(token.id, AUDITOR)

    run(story)


@pytest.mark.requirement("PM-42")
def test_a_token_is_out_of_force_within_a_second(database: Database) -> None:
    """Disabled, expired, deleted, its user disabled or deleted: another process has it out of the document in time."""

    async def story() -> None:
        clock = Clock()
        async with opened(database, clock=clock) as one, opened(database, clock=clock) as two:
            store = await open_store(database.url, database.data_dir)
            changes = Changes(store)
            await make_user(one)
            await make_user(one, "bob")
            tokens = [(await make_token(one)).token.id for _ in range(3)]
            tokens.append((await make_token(one, expires="2027-01-15T08:00:10Z")).token.id)
            bobs = (await make_token(one, "bob")).token.id

            async def in_force() -> set[str]:
                gateway = (await two.document()).document.get("gateway", {})
                return {token["name"] for token in gateway.get("tokens", [])}

            async def changed() -> set[str]:
                async with asyncio.timeout(1):
                    await changes.changed()
                return await in_force()

            assert await changed() == {*tokens, bobs}
            await one.tokens.patch(tokens[0], TokenPatch(enabled=False), OPERATOR)
            assert await changed() == {*tokens[1:], bobs}
            await one.tokens.delete(tokens[1], OPERATOR)
            assert await changed() == {*tokens[2:], bobs}
            await one.users.patch("bob", UserPatch(enabled=False), OPERATOR)
            assert await changed() == {*tokens[2:]}
            clock.now += 11
            assert await in_force() == {tokens[2]}
            assert (await two.tokens.get(tokens[3])).expired
            await one.users.delete("alice", OPERATOR)
            assert await changed() == set()
            assert (await two.document()).tokens_in_use
            await changes.close()
            await store.close()

    run(story)


def test_times_of_use_are_written_together_and_wake_nobody(database: Database) -> None:
    """The ingester tells in its own transaction; only later times count, unknown tokens do no harm."""

    async def story() -> None:
        async with opened(database) as platform:
            await make_user(platform)
            token = (await make_token(platform)).token
            store = await open_store(database.url, database.data_dir)
            before = await store.change_count()
            for used in ({token.id: 1_800_000_100.0, "tok_unknown": 1.0, "\0": 1.0}, {token.id: 1_800_000_050.0}):
                async with store.write(quiet=True) as connection:
                    await platform.tokens.touch(connection, used)
            assert await store.change_count() == before
            found = await platform.tokens.get(token.id)
            assert (found.last_used, found.revision) == ("2027-01-15T08:01:40.000Z", 1)
            await store.close()

    run(story)


def test_checksums_find_every_single_typo() -> None:
    """One wrong character is not even looked up."""
    value = make_value("mg")
    for at in range(3, len(value)):
        for wrong in "aZ0_\u00e9\ud800":
            assert is_token(value[:at] + wrong + value[at + 1 :]) == (value[at] == wrong)
    assert not is_token("")
    assert not is_token(value + "0")
    assert not is_token(make_value("mgk"))
