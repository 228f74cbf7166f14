"""No secret stands anywhere in clear; the key can be changed, and without it nothing opens."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from moongate.control.platform.masks import mask
from moongate.control.platform.shapes import ApiKeyNew, InstancePatch, OperatorNew
from moongate.control.sealing import Box, Keys, SealBroken, derive
from moongate.errors import StartError
from tests.control.platform.stage import ADMIN, OPERATOR, make_instance, make_token, make_user, opened, run
from tests.databases import Database


def everything(database: Database) -> bytes:
    """All that is kept: every file of the data directory, and a dump of the database."""
    files = b"".join(path.read_bytes() for path in database.data_dir.rglob("*") if path.is_file())
    return files + (database.server.dump(database.url) if database.server and database.url else b"")


def holds(kept: bytes, secret: str) -> bool:
    """In clear, or as the hexadecimal digits in which a dump shows bytes."""
    return secret.encode() in kept or secret.encode().hex().encode() in kept.lower()


@pytest.mark.requirement("PM-57")
def test_no_secret_stands_in_a_table_or_file(database: Database) -> None:
    """Backend secrets of all kinds, tokens, passwords, keys, codes, cookies: written, changed, deleted, never found."""
    canaries = {
        name: f"canary{name}{secrets.token_hex(8)}" for name in ("header", "env", "user", "query", "arg", "old")
    }

    async def story() -> None:
        async with opened(database) as platform:
            shown: list[object] = []
            url = f"https://u:{canaries['user']}@example.com/mcp?token={canaries['query']}"
            shown.append(await make_instance(platform, url=url, headers={"X-Key": canaries["old"]}))
            patch = {"config": {"url": url, "headers": {"X-Key": canaries["header"]}}}
            shown.append(await platform.instances.patch("time", InstancePatch.model_validate(patch), OPERATOR))
            hosted = {"command": "x", "args": ["--token", canaries["arg"]], "env": {"K": canaries["env"]}}
            shown += await platform.instances.paste({"mcpServers": {"local": hosted}}, ADMIN)
            await platform.instances.delete("local", ADMIN)
            await make_user(platform)
            canaries["token"] = (await make_token(platform)).value
            canaries["password"] = secrets.token_hex(16)
            new = {"name": "ada", "role": "admin", "password": canaries["password"]}
            shown.append(await platform.operators.create(OperatorNew.model_validate(new), ADMIN))
            key = await platform.api_keys.create(ApiKeyNew.model_validate({"name": "ci", "role": "admin"}), ADMIN)
            canaries["api key"] = key.value
            canaries["code"] = await platform.codes.make()
            canaries["cookie"] = await platform.sign_ins.start(ADMIN)
            shown += (
                await platform.instances.list(),
                await platform.tokens.list(),
                await platform.operators.list(),
                await platform.api_keys.list(),
                await platform.revisions.list(),
                await platform.export(),
                await platform.export("masked"),
                await platform.document(),
            )
            said = repr(shown).encode()
            kept = everything(database)
            assert mask(canaries["header"]).encode() in said
            assert b"instances" in kept
            for name, canary in canaries.items():
                assert canary.encode() not in said, name
                assert not holds(kept, canary), name
        kept = everything(database)
        assert not [name for name, canary in canaries.items() if holds(kept, canary)]

    run(story)


def test_a_new_key_opens_what_the_former_one_sealed(database: Database) -> None:
    """The former key beside the new one: everything is sealed anew; then the new one alone is enough."""
    former, new = ({"MOONGATE_KEY": secrets.token_hex(32)} for _ in range(2))
    both = {**new, "MOONGATE_KEY_OLD": former["MOONGATE_KEY"]}

    async def story() -> None:
        async with opened(database, environ=former) as platform:
            await make_instance(platform, headers={"X-Key": "swordfish"})
        async with AsyncExitStack() as stack:
            with pytest.raises(StartError, match="was made with another key"):
                await stack.enter_async_context(opened(database, environ=new))
        async with opened(database, environ=both) as platform:
            assert await platform.rotate() == 0
            assert (await platform.instances.config("time"))["headers"] == {"X-Key": "swordfish"}
        async with opened(database, environ=new) as platform:
            assert (await platform.instances.config("time"))["headers"] == {"X-Key": "swordfish"}
            assert len((await platform.revisions.list()).items) == 1
        async with AsyncExitStack() as stack:
            with pytest.raises(StartError, match="was made with another key"):
                await stack.enter_async_context(opened(database, environ=former))

    run(story)


def test_the_former_key_may_be_a_file(tmp_path: Path) -> None:
    """`key` becomes `key.old`: the next start makes a new key and seals everything with it."""
    database = Database(None, tmp_path)

    async def story() -> None:
        async with opened(database) as platform:
            await make_instance(platform)
        (tmp_path / "key").rename(tmp_path / "key.old")
        async with opened(database):
            pass
        (tmp_path / "key.old").unlink()
        async with opened(database) as platform:
            assert (await platform.instances.get("time")).revision == 1

    run(story)


def test_a_broken_former_key_is_named(tmp_path: Path) -> None:
    """Neither a wrong variable nor a wrong file is passed over in silence, nor repeated."""
    with pytest.raises(StartError, match=r"MOONGATE_KEY_OLD does not hold a key") as raised:
        Keys.load(tmp_path, {"MOONGATE_KEY_OLD": "swordfish"})
    assert "swordfish" not in str(raised.value)
    (tmp_path / "key.old").write_text("swordfish")
    with pytest.raises(StartError, match=r"key\.old does not hold a key"):
        Keys.load(tmp_path, {})


def test_a_box_opens_only_what_it_sealed_there() -> None:
    """Another place, another purpose, another key, a changed byte: nothing opens."""
    key = secrets.token_bytes(32)
    box = Box(derive(key, "store"))
    sealed = box.seal(b"swordfish", "instances/time")
    assert box.open(sealed, "instances/time") == b"swordfish"
    assert box.seal(b"swordfish", "instances/time") != sealed
    assert b"swordfish" not in sealed
    for other, text, context in (
        (box, sealed, "instances/other"),
        (Box(derive(key, "published")), sealed, "instances/time"),
        (Box(derive(secrets.token_bytes(32), "store")), sealed, "instances/time"),
        *(
            (box, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], "instances/time")
            for at in range(len(sealed))
        ),
        *((box, sealed[:length], "instances/time") for length in range(len(sealed))),
    ):
        with pytest.raises(SealBroken):
            other.open(text, context)
    assert "swordfish" not in repr(box)
    assert key.hex() not in repr(Keys(key))
