"""What all pages have in common: who may see them, what they may load, what becomes of failures."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import APIRoute

from moongate.console import assets, document, explaining, page
from moongate.console.app import build_app
from moongate.console.frame import PREFIX, is_page
from moongate.console.guard import COOKIE
from moongate.console.services import Backing, Services
from tests.console.conftest import ROLES, Api
from tests.console.reading import Page
from tests.platform.stage import PASSWORD

PAGES = ("/console", "/console/explain", "/console/explain?request=" + "0" * 20)
LIGHT = re.compile(r"^:root \{(.*?)^\}", re.MULTILINE | re.DOTALL)
DARK = re.compile(r"prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", re.DOTALL)


def test_every_page_is_for_those_who_may_ask_the_api() -> None:
    """Pages below /console name the roles of reading; what is outside shows nothing of the gateway."""
    open_pages = set()
    for router in (page.router, explaining.router):
        for route in router.routes:
            assert isinstance(route, APIRoute)
            roles = document._allowed(route.dependant)
            if route.path.startswith(PREFIX):
                assert (route.path, set(roles)) == (route.path, set(ROLES))
            else:
                open_pages.add(route.path)
    assert open_pages == {"/", "/explain", "/sign-in"}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_sees_the_pages(api: Api, role: str) -> None:
    """With its name in the frame, and the way out."""
    with api.signed_in(role) as browser:
        for address in PAGES:
            shown = Page(browser.get(address))
            assert shown.status in {200, 404}
            assert f"Signed in as person-{role} ({role})" in shown.text
        asked = Page(browser.post("/console/explain", data={"url": "/mcp/filed"}))
        assert (asked.status, bool(asked.steps)) == (200, True)


def test_who_is_not_signed_in_comes_back_after_it(api: Api) -> None:
    """The short addresses lead to the pages, these to the sign-in, and that to where one wanted to go."""
    wanted = "/console/explain?request=" + "0" * 20
    with api.client(origin=api.base) as browser:
        assert browser.get("/").headers["location"] == "/console"
        assert browser.get("/console").headers["location"] == "/sign-in"
        assert browser.get(wanted.removeprefix("/console")).headers["location"] == wanted
        asked = browser.get(wanted)
        assert (asked.status_code, asked.headers["location"]) == (303, f"/sign-in?next={quote(wanted, safe='')}")
        form = Page(browser.get(asked.headers["location"]))
        assert form.fields["next"] == wanted
        entered = browser.post("/sign-in", data={**form.fields, "name": "first", "password": PASSWORD})
        assert (entered.status_code, entered.headers["location"]) == (303, wanted)
        assert Page(browser.get(wanted)).wrong["request"].startswith("There is no record")


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example/console",
        "/\\evil.example",
        "/console\\@evil.example",
        "/consoles",
        "/console/ä",
        "/console/a\nb",
        "javascript:alert(1)",
        "/api/v1/me",
    ],
)
def test_signing_in_leads_to_pages_alone(api: Api, elsewhere: str) -> None:
    """Never to another site, whatever a link says."""
    assert not is_page(elsewhere)
    with api.client(origin=api.base) as browser:
        assert Page(browser.get("/sign-in", params={"next": elsewhere})).fields["next"] == ""
        entered = browser.post("/sign-in", data={"name": "first", "password": PASSWORD, "next": elsewhere})
        assert (entered.status_code, entered.headers["location"]) == (303, "/console")


def test_a_wrong_password_is_told_on_the_page(api: Api) -> None:
    """The name comes back, the password does not."""
    with api.client(origin=api.base) as browser:
        said = Page(browser.post("/sign-in", data={"name": '"><b>x', "password": "wrong-" + PASSWORD}))
    assert (said.status, said.fields["name"], said.fields["password"]) == (401, '"><b>x', "")
    assert "the password or the code is wrong" in said.text
    assert "wrong-" + PASSWORD not in said.html


def test_a_one_time_code_makes_an_account_without_a_script(api: Api) -> None:
    """It can be typed; a password that is too short does not use it up."""
    with api.client("admin") as admin:
        code = admin.post("/api/v1/sign-in-codes", json={"role": "operator"}).json()["code"]
    with api.client(origin=api.base) as browser:
        form = {"name": "typist", "password": "short", "code": code}
        said = Page(browser.post("/sign-in", data=form))
        assert (said.status, said.fields["code"], "12" in said.wrong["password"]) == (422, code, True)
        assert browser.post("/sign-in", data={**form, "password": PASSWORD}).headers["location"] == "/console"
        assert "typist (operator)" in Page(browser.get("/console")).text
        used = Page(browser.post("/sign-in", data={**form, "name": "another", "password": PASSWORD}))
        assert (used.status, used.fields["code"]) == (401, "")


def test_a_code_does_not_take_over_an_account(api: Api) -> None:
    """Only an admin's gives an account that exists another password."""
    with api.client("admin") as admin:
        code = admin.post("/api/v1/sign-in-codes", json={"role": "auditor"}).json()["code"]
    with api.client(origin=api.base) as browser:
        said = Page(browser.post("/sign-in", data={"name": "first", "password": PASSWORD, "code": code}))
    assert (said.status, said.fields["name"], said.fields["code"]) == (409, "first", "")
    assert "first" in said.text


def test_signing_out_ends_the_session(api: Api) -> None:
    """Of the pages and of the API, also for who has kept the cookie."""
    session = api.enter("leaver", "auditor")
    with api.client(origin=api.base) as browser:
        assert browser.post("/sign-in", data={"name": "leaver", "password": PASSWORD}).status_code == 303
        [other] = {cookie.value for cookie in browser.cookies.jar}
        assert browser.get("/api/v1/me").status_code == 200
        assert browser.post("/console/sign-out").headers["location"] == "/sign-in"
        assert browser.get("/console").headers["location"] == "/sign-in"
    for cookie, status in ((other, 401), (session, 200)):
        with api.client(cookie=f"{COOKIE}={cookie}") as former:
            assert former.get("/api/v1/me").status_code == status
    with api.client(cookie=f"{COOKIE}={other}") as former:
        assert former.get("/console").headers["location"].startswith("/sign-in?next=")
        assert "has ended" in Page(former.get(former.get("/console").headers["location"])).text


def test_the_cookie_is_for_the_api_and_the_pages(api: Api) -> None:
    """Browsers send cookies to all ports of a host: so to as few addresses as can be."""
    with api.client(origin=api.base) as browser:
        entered = browser.post("/sign-in", data={"name": "first", "password": PASSWORD})
    cookies = entered.headers.get_list("set-cookie")
    assert re.findall(r"Path=([^;]*)", " ".join(cookies)) == ["/api/v1", "/console"]
    assert all("HttpOnly" in cookie and "SameSite=strict" in cookie for cookie in cookies)


def test_forms_of_other_sites_are_refused(api: Api) -> None:
    """By Origin, by Sec-Fetch-Site, and when nothing says where they come from."""
    with api.signed_in() as browser:
        for address in ("/sign-in", "/console/explain", "/console/sign-out"):
            for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
                assert browser.post(address, data={"url": "/mcp/filed"}, headers=headers).status_code == 403
        del browser.headers["origin"]
        for address in ("/console/explain", "/console/sign-out"):
            refused = browser.post(address, data={"url": "/mcp/filed"})
            assert (refused.status_code, "A session is for browsers" in Page(refused).text) == (403, True)
        assert browser.get("/console").status_code == 200


def test_a_link_from_elsewhere_is_asked_for_again(api: Api) -> None:
    """The browser leaves the session out then (SameSite=Strict); the page goes there by itself, once."""
    address = "/console/explain?request=<b>"
    with api.client(**{"sec-fetch-site": "cross-site"}) as stranger:
        again = Page(stranger.get(address))
        assert ("meta", {"http-equiv": "refresh", "content": "0"}) in again.tags
        assert "<b>" not in again.html
    with api.client(**{"sec-fetch-site": "same-origin"}) as visitor:
        assert visitor.get(address).status_code == 303


def test_pages_load_nothing_from_elsewhere(api: Api) -> None:
    """A strict policy, and nothing inline that would need a laxer one."""
    with api.signed_in() as browser, api.client(**{"sec-fetch-site": "cross-site"}) as stranger:
        answers = [browser.get(address) for address in (*PAGES, "/sign-in")]
        answers.append(browser.post("/console/explain", data={"url": "/mcp/filed", "origin": "https://a.example"}))
        answers.append(browser.post("/console/explain", content=b"{}"))
        answers.append(stranger.get("/console"))
    assert [answer.status_code for answer in answers] == [200, 200, 404, 200, 200, 415, 200]
    for answer in answers:
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert {policy[name] for name in ("script-src", "style-src", "img-src", "form-action")} == {"'self'"}
        assert {policy[name] for name in ("frame-ancestors", "base-uri")} == {"'none'"}
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        shown = Page(answer)
        for tag, attributes in shown.tags:
            assert tag != "style"
            assert not any(name == "style" or name.startswith("on") for name in attributes)
            assert tag != "script" or attributes["src"].startswith("/assets/")
            for name in ("src", "href", "action"):
                assert re.match(r"[/#](?!/)", attributes.get(name, "/")), attributes


def test_every_field_has_a_label(api: Api) -> None:
    """What is described, too: hints and errors are there under the names that fields give them."""
    with api.signed_in() as browser:
        wrong = {"url": "nowhere", "source": "x", "headers": "x", "message": "{", "method": "9", "host": "\x01"}
        shown = [Page(browser.get(address)) for address in (*PAGES, "/sign-in")]
        shown.append(Page(browser.post("/console/explain", data=wrong)))
    for found in shown:
        ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        labelled = {attributes["for"] for tag, attributes in found.tags if tag == "label"}
        for tag, attributes in found.tags:
            if tag in {"input", "select", "textarea"} and attributes.get("type") != "hidden":
                assert attributes["id"] in labelled
            assert set(attributes.get("aria-describedby", "").split()) <= set(ids)
            assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
        assert [tag for tag, _ in found.tags].count("h1") == 1


def test_assets_are_kept_by_browsers(api: Api) -> None:
    """For as long as they stay the same; at an address of other contents there is nothing."""
    types = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
    with api.client() as client:
        for name, asset in assets.ASSETS.items():
            answer = client.get(assets.address(name))
            assert (answer.status_code, answer.content) == (200, asset.body)
            assert answer.headers["content-type"] == types[name.rpartition(".")[2]]
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert client.get("/assets/0000000000000000/console.css").status_code == 404
        assert client.get(f"/assets/{assets.ASSETS['console.css'].digest}/..%2f..%2fapp.py").status_code == 404


def test_failures_are_pages(tmp_path: Path) -> None:
    """Without a database nobody can sign in, and the page says so."""

    async def asked() -> list[httpx.Response]:
        app = build_app(Services(Backing(why="the store <b>cannot</b> be used now"), tmp_path))
        transport = httpx.ASGITransport(app)
        cookie = {"cookie": "moongate_session=x"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=cookie) as client:
            form = {"name": "a", "password": "b"}
            origin = {"origin": "http://127.0.0.1"}
            return [await client.get("/console"), await client.post("/sign-in", data=form, headers=origin)]

    for answer in asyncio.run(asked()):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "The store <b>cannot</b> be used now." in Page(answer).text


def test_what_is_served_is_shown_ready_to_copy(api: Api) -> None:
    """Addresses of instances of files and of the store; page by page."""
    with api.client("admin") as admin, api.signed_in() as browser:
        entries = {f"many-{number:03}": {"url": "http://127.0.0.1:9/mcp"} for number in range(101)}
        assert admin.post("/api/v1/instances/paste", json={"config": entries}).status_code == 201
        assert admin.patch("/api/v1/instances/many-000", json={"enabled": False}).status_code == 200
        first = Page(browser.get("/console"))
        address = admin.get("/api/v1/instances/filed").json()["addresses"]
        assert {address["base"], address["streamableHttp"], address["sse"]} <= set(
            re.findall(r"<code[^>]*>(.*?)</code>", first.html)
        )
        assert f"http://127.0.0.1:{api.port}/mcp/filed" == address["base"]
        assert "filed served open to all" in first.text
        assert "many-000 disabled" in first.text
        assert "many-100" not in first.text
        further = next(found["href"] for _, found in first.tags if "cursor=" in found.get("href", ""))
        assert "many-100" in Page(browser.get(further)).text
        assert Page(browser.get("/console?cursor=no-such")).status == 422
        for name in entries:
            admin.delete(f"/api/v1/instances/{name}")


def test_the_data_plane_has_no_templates() -> None:
    """Whatever `moongate serve` imports into the process that carries calls."""
    code = "import sys, moongate.cli.main, moongate.cli.serving, moongate.runtime"
    code += "; print([name for name in ('jinja2', 'markupsafe', 'fastapi', 'moongate.console') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "[]\n"


def _light(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast_is_enough(scheme: re.Pattern[str]) -> None:
    """4.5 to 1 for text, 3 to 1 for the borders of fields (WCAG 2.2, AA), in both schemes."""
    style = assets.ASSETS["console.css"].body.decode()
    block = scheme.search(style)
    assert block is not None
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block[1]))
    text = {
        "text": ("page", "card", "code", "bad-back", "good-back", "idle-back", "note-back"),
        "soft": ("page", "card", "bad-back", "idle-back"),
        "accent": ("page", "card", "bad-back"),
        "on-accent": ("accent",),
        "card": ("bad",),
        "good": ("good-back",),
        "bad": ("bad-back", "card"),
        "note": ("note-back",),
    }
    pairs = [(front, back, 4.5) for front, backs in text.items() for back in backs] + [("edge", "card", 3.0)]
    for front, back, wanted in pairs:
        high, low = sorted((_light(colours[front]), _light(colours[back])), reverse=True)
        assert (front, back, (high + 0.05) / (low + 0.05) >= wanted) == (front, back, True)
