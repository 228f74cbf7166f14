"""Who may sign in on the admin port: accounts, API keys, sign-ins, one-time codes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from moongate.control.platform.failures import Exists, Forbidden, Needed, TooMany
from moongate.control.platform.guesses import ALL, EACH, OF_NAME, WINDOW, Guesses, Key
from moongate.control.platform.platform import Platform
from moongate.control.platform.shapes import (
    Actor,
    ApiKeyNew,
    ApiKeyPatch,
    OperatorNew,
    OperatorPatch,
    SettingsPut,
)
from tests.control.platform.stage import ADMIN, AUDITOR, OPERATOR, Clock, opened, run
from tests.databases import Database

PASSWORD = "correct horse"
OTHER = "battery staple"


async def make(platform: Platform, name: str, role: str = "admin", **more: object) -> None:
    """An account."""
    new = OperatorNew.model_validate({"name": name, "role": role, "password": PASSWORD, **more})
    await platform.operators.create(new, ADMIN)


def patch(**given: object) -> OperatorPatch:
    """As it comes over the API."""
    return OperatorPatch.model_validate(given)


def test_an_account_lives(database: Database) -> None:
    """The right password opens it, a wrong one, a disabled or an unknown account does not."""

    async def story() -> None:
        async with opened(database) as platform:
            assert not await platform.operators.any()
            await make(platform, "ada")
            await make(platform, "otto", "operator")
            assert await platform.operators.any()
            assert [operator.name for operator in await platform.operators.list()] == ["ada", "otto"]
            assert await platform.operators.check("otto", PASSWORD, "here") == Actor("otto", "operator")
            assert (await platform.operators.get("otto")).last_sign_in == "2027-01-15T08:00:00.000Z"
            for name, password in (("otto", OTHER), ("nobody", PASSWORD), ("otto", "")):
                assert await platform.operators.check(name, password, "here") is None
            changed = await platform.operators.patch("otto", patch(password=OTHER), Actor("otto", "operator"))
            assert changed.revision == 2
            assert await platform.operators.check("otto", OTHER, "here") == Actor("otto", "operator")
            await platform.operators.patch("otto", patch(enabled=False), ADMIN)
            assert await platform.operators.check("otto", OTHER, "here") is None
            with pytest.raises(Exists):
                await make(platform, "otto")
            history = (await platform.revisions.list(kind="operators")).items
            assert len(history) == 4
            assert "scrypt" not in repr(history)

    run(story)


def test_only_admins_write_accounts(database: Database) -> None:
    """An operator cannot make accounts and keys, nor raise the own role while changing the own password."""

    async def story() -> None:
        async with opened(database) as platform:
            await make(platform, "otto", "operator")
            new = OperatorNew.model_validate({"name": "x", "role": "admin", "password": PASSWORD})
            for refused in (
                platform.operators.create(new, OPERATOR),
                platform.operators.patch("otto", patch(role="admin"), OPERATOR),
                platform.operators.patch("otto", patch(role="admin", password=OTHER), OPERATOR),
                platform.operators.patch("otto", patch(password=OTHER), AUDITOR),
                platform.api_keys.create(ApiKeyNew.model_validate({"name": "k", "role": "admin"}), OPERATOR),
                platform.settings.put(SettingsPut(), OPERATOR),
            ):
                with pytest.raises(Forbidden):
                    await refused
            with pytest.raises(Forbidden):
                await platform.operators.delete("otto", OPERATOR)

    run(story)


def test_the_last_admin_stays(database: Database) -> None:
    """Deleting, disabling or demoting the last admin who can sign in is refused; nothing of it is kept."""

    async def story() -> None:
        async with opened(database) as platform:
            await make(platform, "ada")
            await make(platform, "off", enabled=False)
            for last in (
                platform.operators.patch("ada", patch(role="operator"), ADMIN),
                platform.operators.patch("ada", patch(enabled=False), ADMIN),
            ):
                with pytest.raises(Needed):
                    await last
            with pytest.raises(Needed):
                await platform.operators.delete("ada", ADMIN)
            assert (await platform.operators.get("ada")).revision == 1
            await platform.operators.patch("off", patch(enabled=True), ADMIN)
            await platform.operators.delete("ada", ADMIN)

    run(story)


def test_guessing_is_slow(tmp_path: Path) -> None:
    """After ten wrong passwords for one name nobody gets in from there for a while; its owner does from elsewhere."""
    database = Database(None, tmp_path)

    async def story() -> None:
        async with opened(database) as platform:
            await make(platform, "ada")
            results = await asyncio.gather(
                *(platform.operators.check("ada", f"{OTHER}{number}", "there") for number in range(12)),
                return_exceptions=True,
            )
            assert [type(result).__name__ for result in results].count("TooMany") == 2
            with pytest.raises(TooMany) as raised:
                await platform.operators.check("ada", PASSWORD, "there")
            assert 0 < raised.value.retry_after <= WINDOW
            assert await platform.operators.check("ada", PASSWORD, "elsewhere") is not None
            with pytest.raises(TooMany):
                await platform.operators.check("ada", PASSWORD, "there")

    run(story)


def test_guesses_are_counted_by_key_and_together() -> None:
    """Each key has its limit, all together have one, and time or success forgets."""
    clock = Clock()
    guesses = Guesses(clock)
    for _ in range(EACH):
        guesses.check(Key("a"))
        guesses.failed(Key("a"))
    with pytest.raises(TooMany):
        guesses.check(Key("b"), Key("a"))
    guesses.check(Key("b"))
    guesses.succeeded(Key("a"))
    guesses.check(Key("a"))
    for number in range(ALL - EACH + 1):
        guesses.failed(Key(str(number)))
    with pytest.raises(TooMany):
        guesses.check(Key("fresh"))
    clock.now += WINDOW + 1
    guesses.check(Key("fresh"), Key("a"))


def test_a_name_that_many_guess_is_closed_at_last() -> None:
    """A success takes back only itself: whoever has an account does not clear the way to that of another."""
    guesses = Guesses(Clock())
    name = Key("name", OF_NAME)
    for number in range(OF_NAME):
        guesses.failed(name, Key(f"from {number}"))
    with pytest.raises(TooMany):
        guesses.check(name)
    guesses.succeeded(name, Key("from 0"))
    guesses.check(name)
    guesses.failed(name)
    with pytest.raises(TooMany):
        guesses.check(name)


def test_a_sign_in_ends(database: Database) -> None:
    """By signing out, by time, without use, and with what happens to the account."""

    async def story() -> None:
        clock = Clock()
        async with opened(database, clock=clock) as platform, opened(database, clock=clock) as other:
            await make(platform, "ada")
            await make(platform, "otto", "operator")
            otto = Actor("otto", "operator")
            cookie = await platform.sign_ins.start(otto)
            assert await other.sign_ins.check(cookie) == otto
            assert await other.sign_ins.check(cookie[:-1]) is None
            await other.sign_ins.end(cookie)
            assert await platform.sign_ins.check(cookie) is None
            for change in (patch(role="auditor"), patch(password=OTHER), patch(enabled=False)):
                cookie = await platform.sign_ins.start(otto)
                await other.operators.patch("otto", change, ADMIN)
                assert await platform.sign_ins.check(cookie) is None
                await other.operators.patch("otto", patch(enabled=True), ADMIN)
            cookie = await platform.sign_ins.start(otto)
            clock.now += 3 * 3600
            assert await platform.sign_ins.check(cookie) == Actor("otto", "auditor")
            clock.now += 5 * 3600
            assert await platform.sign_ins.check(cookie) is None
            await platform.settings.put(SettingsPut.model_validate({"signInHours": 1}), ADMIN)
            cookie = await platform.sign_ins.start(otto)
            clock.now += 3600
            assert await platform.sign_ins.check(cookie) is None
            cookie = await platform.sign_ins.start(otto)
            await other.operators.delete("otto", ADMIN)
            assert await platform.sign_ins.check(cookie) is None

    run(story)


def test_a_code_is_good_once(database: Database) -> None:
    """The code of the first start, used by two at once: one gets in; expired and replaced ones do not."""

    async def story() -> None:
        clock = Clock()
        async with opened(database, clock=clock) as platform, opened(database, clock=clock) as other:
            replaced = await platform.codes.first()
            code = await platform.codes.first()
            assert replaced is not None
            assert code is not None
            assert await platform.codes.redeem(replaced, "here") is None
            roles = await asyncio.gather(*(one.codes.redeem(code, "here") for one in (platform, other)))
            assert sorted(roles, key=str) == [None, "admin"]
            cookie = await platform.sign_ins.start(Actor("one-time code", "admin"), account=False)
            assert await other.sign_ins.check(cookie) == Actor("one-time code", "admin")
            late = await platform.codes.make("auditor", seconds=60)
            clock.now += 61
            assert await platform.codes.redeem(late, "here") is None
            await make(platform, "ada")
            assert await platform.codes.first() is None
            for number in range(EACH):
                await other.codes.redeem(f"guess{number}", "there")
            with pytest.raises(TooMany):
                await other.codes.redeem("guess", "there")

    run(story)


def test_an_api_key_lives(database: Database) -> None:
    """Shown once; it acts in its role until it is disabled, expired or deleted."""

    async def story() -> None:
        clock = Clock()
        async with opened(database, clock=clock) as platform:
            new = ApiKeyNew.model_validate({"name": "ci", "role": "auditor", "expires": "2027-01-15T09:00:00Z"})
            made = await platform.api_keys.create(new, ADMIN)
            assert made.value.startswith("mgk_")
            assert made.value not in repr(made)
            id_ = made.api_key.id
            assert await platform.api_keys.check(made.value) == Actor(f"ci ({id_})", "auditor")
            assert (await platform.api_keys.get(id_)).last_used == "2027-01-15T08:00:00.000Z"
            assert made.api_key.made_by == "ada"
            for wrong in ("", "mgk_", made.value[:-1], made.value + "x", "mgk_" + "a" * 36, "\ud800"):
                assert await platform.api_keys.check(wrong) is None
            await platform.api_keys.patch(id_, ApiKeyPatch.model_validate({"enabled": False}), ADMIN)
            assert await platform.api_keys.check(made.value) is None
            await platform.api_keys.patch(id_, ApiKeyPatch.model_validate({"enabled": True}), ADMIN)
            clock.now += 3600
            assert await platform.api_keys.check(made.value) is None
            await platform.api_keys.patch(id_, ApiKeyPatch.model_validate({"expires": None}), ADMIN)
            assert await platform.api_keys.check(made.value) is not None
            await platform.api_keys.delete(id_, ADMIN)
            assert await platform.api_keys.check(made.value) is None

    run(story)


@pytest.mark.parametrize(
    "name", ["local", "Local", "one-time code", "\uff4cocal", "ada (key_1)", "ada \uff08key_1\uff09", "ada("]
)
def test_nobody_is_called_like_those_without_an_account(name: str) -> None:
    """The history says who did something: nobody can look like the command line, a one-time code or an API key."""
    with pytest.raises(ValidationError):
        OperatorNew.model_validate({"name": name, "role": "auditor", "password": PASSWORD})


@pytest.mark.parametrize("password", ["short", "", "x" * 1025])
def test_a_password_has_a_length(password: str) -> None:
    """Too short is guessed, too long costs memory; neither is repeated in the complaint."""
    with pytest.raises(ValidationError) as raised:
        OperatorNew.model_validate({"name": "ada", "role": "admin", "password": password})
    assert not password or password not in str(raised.value)
