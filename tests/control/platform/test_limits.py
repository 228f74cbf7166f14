"""What one entry may do to all others: name files of the machine, grow, or keep everything from being published."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import trustme
from sqlalchemy import update

from moongate.control.files import load_texts
from moongate.control.platform import size
from moongate.control.platform.certificates import judge_files
from moongate.control.platform.failures import Forbidden
from moongate.control.platform.shapes import InstanceNew, InstancePatch, TokenPatch, UserPatch
from moongate.control.published import read_published, with_published, write_published
from moongate.control.sealing import Keys
from moongate.control.secrets import load_key
from moongate.errors import ConfigError
from moongate.store.tables import instances
from tests.control.platform.stage import (
    ADMIN,
    OPERATOR,
    entry,
    make_instance,
    make_token,
    make_user,
    opened,
    run,
)
from tests.databases import Database

SECURE = "https://127.0.0.1:9/mcp"


def with_tls(name: str, **files: object) -> InstanceNew:
    """An instance that names files."""
    return InstanceNew.model_validate({"name": name, "config": {"url": SECURE, "tls": files}})


@pytest.fixture
def authority(tmp_path: Path) -> dict[str, str]:
    """An authority, a certificate of it and its key, as files; and one that is none."""
    made = trustme.CA()
    leaf = made.issue_cert("client.example")
    paths = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key", "none")}
    made.cert_pem.write_to_path(paths["ca"])
    leaf.cert_chain_pems[0].write_to_path(paths["cert"])
    leaf.private_key_pem.write_to_path(paths["key"])
    Path(paths["none"]).write_text("not a certificate\n", "utf-8")
    return paths


def test_files_are_loaded_before_they_are_stored(authority: dict[str, str], tmp_path: Path) -> None:
    """A file that cannot be used would keep the instance out of force; the complaint names the field."""
    good = {key: authority[key] for key in ("ca", "cert", "key")}
    assert judge_files({"url": SECURE, "tls": good}) == []
    assert judge_files({"url": SECURE, "tls": None}) == []
    (tmp_path / "large").write_bytes(b"x" * (4 * 1024 * 1024 + 1))
    wrong: list[tuple[dict[str, str], str, str]] = [
        ({"ca": authority["none"]}, "tls.ca", "no certificate in PEM form"),
        ({"ca": str(tmp_path / "missing")}, "tls.ca", "no such file"),
        ({"ca": str(tmp_path)}, "tls.ca", "no such file"),
        ({"ca": "/dev/zero"}, "tls.ca", "no such file"),
        ({"ca": str(tmp_path / "large")}, "tls.ca", "larger than"),
        ({"ca": "ca.pem"}, "tls.ca", "absolute path"),
        ({"cert": authority["cert"], "key": authority["none"]}, "tls.cert", "cannot be used with tls.key"),
        ({"cert": authority["ca"], "key": authority["key"]}, "tls.cert", "belong together"),
    ]
    for files, where, said in wrong:
        (complaint,) = judge_files({"url": SECURE, "tls": files})
        assert (complaint.where, said in complaint.text) == (where, True), complaint


def test_only_admins_name_files(database: Database, authority: dict[str, str]) -> None:
    """By no way: not new, pasted, imported, changed, as a draft; what an admin wrote stays, for its server only."""
    good = {"ca": authority["ca"]}
    config = {"url": SECURE, "tls": good}

    async def story() -> None:
        async with opened(database) as platform:
            with pytest.raises(ConfigError, match=r"tls\.ca: holds no certificate"):
                await platform.instances.create(with_tls("bad", ca=authority["none"]), ADMIN)
            await make_instance(platform, "plain")
            await platform.instances.create(with_tls("secure", **good), ADMIN)
            for files in (good, {"ca": "/no/such"}, {"ca": "/etc/hostname"}):
                anew = {"mcpServers": {"b": {"url": SECURE, "tls": files}}}
                patch = InstancePatch.model_validate({"config": {"url": SECURE, "tls": files}})
                for refused in (
                    platform.instances.create(with_tls("a", **files), OPERATOR),
                    platform.instances.draft(with_tls("a", **files), OPERATOR),
                    platform.instances.paste(anew, OPERATOR),
                    platform.import_document(anew, OPERATOR),
                    platform.instances.patch("plain", patch, OPERATOR),
                ):
                    with pytest.raises(Forbidden, match="only an admin"):
                        await refused
            for changed in ({**config, "url": "https://127.0.0.1:10/"}, {**config, "tls": {"ca": authority["cert"]}}):
                patch = InstancePatch.model_validate({"config": changed})
                with pytest.raises(Forbidden):
                    await platform.instances.patch("secure", patch, OPERATOR)
            patch = InstancePatch.model_validate({"notes": "mine", "config": {**config, "timeout": 5000}})
            assert (await platform.instances.patch("secure", patch, OPERATOR)).config["timeout"] == 5000
            # The file is gone: notes and the switch still work, a new start does not.
            await asyncio.to_thread(Path(authority["ca"]).unlink)
            await platform.instances.patch("secure", InstancePatch(notes="x", enabled=False), OPERATOR)
            with pytest.raises(ConfigError, match="no such file"):
                await platform.instances.patch("secure", InstancePatch(enabled=True), OPERATOR)

    run(story)


def test_what_means_nothing_is_not_stored(database: Database) -> None:
    """Clients' files have keys that the gateway ignores; they would only make the published document longer."""
    ignored = {"description": "x" * 200_000, "gallery": True, "alwaysAllow": ["a"], "version": "1", "icon": "i"}

    async def story() -> None:
        async with opened(database) as platform:
            made = await make_instance(platform, "time", **ignored)
            assert made.config == entry()
            assert (await platform.document()).document["mcpServers"]["time"] == {"auth": "required", **entry()}

    run(story)


def long(config: int) -> dict[str, Any]:
    """A configuration of so many bytes."""
    return entry(headers={f"X-{number}": "v" * 1000 for number in range(config // 1000)})


def test_what_is_in_force_stays_small_enough_to_be_read(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever grows is refused at the limit, and what makes it smaller never is, also when it is above already."""
    monkeypatch.setattr(size, "MAX_BYTES", 300_000)
    key = bytes(range(32))

    async def story() -> None:
        async with opened(database) as platform:
            made = 0
            for number in range(10):
                new = InstanceNew.model_validate({"name": f"i{number}", "config": long(50_000)})
                try:
                    await platform.instances.create(new, OPERATOR)
                except ConfigError as error:
                    assert "at most 0.3 MB can be brought into force" in str(error)  # noqa: PT017 - how many, is open
                    break
                made += 1
            assert 2 <= made <= 6
            found = await platform.document()
            assert len(json.dumps(found.document)) < 300_000
            write_published(database.data_dir, key, found.document, tokens_in_use=False)
            published = read_published(database.data_dir, key)
            assert published is not None
            assert with_published(load_texts([("a.yaml", "gateway: {}")], {}), published).complaints == ()
            await make_user(platform)
            token = (await make_token(platform)).token.id
            many = UserPatch(groups=["g" * 120 + str(number) for number in range(400)])
            with pytest.raises(ConfigError, match="tokens that name many"):
                await platform.users.patch("alice", many, OPERATOR)
            monkeypatch.setattr(size, "MAX_BYTES", 1000)
            await platform.tokens.patch(token, TokenPatch(enabled=False), OPERATOR)
            await platform.instances.patch("i0", InstancePatch(notes="still there"), OPERATOR)
            await platform.instances.patch("i0", InstancePatch(enabled=False), OPERATOR)
            with pytest.raises(ConfigError, match="brought into force"):
                await platform.instances.patch("i0", InstancePatch(enabled=True), OPERATOR)
            await platform.instances.delete("i1", OPERATOR)
            await platform.users.patch("alice", UserPatch(enabled=False), OPERATOR)

    run(story)


def test_a_seal_that_does_not_open_is_kept(database: Database) -> None:
    """Perhaps the right key comes back: nothing but a new configuration takes the place of what was sealed."""

    async def story() -> None:
        async with opened(database) as platform:
            await make_instance(platform, "time", headers={"X-Key": "swordfish"})
            store = platform._ground.store
            async with store.write() as connection:
                row = (await connection.execute(instances.select())).one()
                broken = update(instances).values(config_sealed=b"\x01xxxx" + row.config_sealed[5:])
                await connection.execute(broken)
            patched = await platform.instances.patch(
                "time", InstancePatch(notes="hi", tags=["a"], enabled=False), OPERATOR
            )
            assert (patched.notes, patched.enabled, patched.config) == ("hi", False, {})
            hosted = InstancePatch.model_validate({"accessMode": "hosted"})
            with pytest.raises(ConfigError, match="needs the configuration again"):
                await platform.instances.patch("time", hosted, ADMIN)
            async with store.write() as connection:
                now = (await connection.execute(instances.select())).one()
                assert now.config_sealed[5:] == row.config_sealed[5:]
                await connection.execute(update(instances).values(config_sealed=row.config_sealed))
            assert (await platform.instances.config("time"))["headers"] == {"X-Key": "swordfish"}

    run(story)


def test_an_import_is_one_change(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the rules cannot be written, the instances are not there either."""
    document = {
        "mcpServers": {"time": entry()},
        "gateway": {"access": {"rules": [{"allow": ["tool:get_*"], "users": ["alice"]}]}},
    }

    async def story() -> None:
        async with opened(database) as platform:
            with pytest.raises(ConfigError):
                await platform.import_document({**document, "mcpServers": {"time": {"url": "ftp://x"}}}, OPERATOR)
            assert (await platform.access.get()).access is None
            monkeypatch.setattr(size, "MAX_BYTES", 1)
            with pytest.raises(ConfigError, match="brought into force"):
                await platform.import_document(document, OPERATOR)
            monkeypatch.undo()
            assert (await platform.instances.list()).items == []
            assert (await platform.access.get()).access is None
            before = await platform._ground.store.change_count()
            await platform.import_document(document, OPERATOR)
            assert await platform._ground.store.change_count() == before + 1
            assert (await platform.access.get()).access == document["gateway"]["access"]
            assert [one.name for one in (await platform.instances.list()).items] == ["time"]

    run(story)


def test_a_key_that_others_can_read_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key file is private; one that was copied with the wrong mode is used, and the log says so."""
    load_key(tmp_path, {})
    assert caplog.records == []
    (tmp_path / "key").chmod(0o640)
    (tmp_path / "key.old").write_text("ab" * 32, "ascii")
    (tmp_path / "key.old").chmod(0o644)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            Keys.load(tmp_path, {})
    said = [record.getMessage() for record in caplog.records]
    assert [("key:" in text, "key.old:" in text) for text in said] == [(True, False), (False, True)]
    assert all("chmod 600" in text for text in said)
