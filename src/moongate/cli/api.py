"""The way of the command line to the REST API: over the network, or to the same application in this process.

`Where` is what the command line says about it; `call` runs one verb's work and turns what the API refuses into a
message and an exit code (1: refused, not found, not reachable; 2: the question itself is wrong).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import httpx
import typer

from moongate.cli.flags import Files, usage
from moongate.cli.lazy import local_app
from moongate.cli.places import default_data_dir, default_files
from moongate.cli.tables import safe
from moongate.errors import ConfigError, MoongateError

FINE, REFUSED, USAGE = 0, 1, 2
PREFIX = "/api/v1"
KEY_VARIABLE = "MOONGATE_API_KEY"
SECONDS = 60.0
PAGE = 500
MAX_PAGES = 10_000


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which gateway is meant, and how its answers are shown."""

    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            envvar="MOONGATE_SERVER",
            help="The admin address of a running gateway. Without it: the store in --data-dir.",
            show_default=False,
        ),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            metavar="KEY | @FILE",
            help=f"With --server: an API key, or @ and the file that holds it. Default: ${KEY_VARIABLE}.",
            show_default=False,
        ),
    ] = None
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            envvar="MOONGATE_DATA_DIR",
            help="Where the gateway keeps its data. Default: ~/.local/share/moongate.",
            show_default=False,
        ),
    ] = None
    file: Files = None
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False


class Problem(Exception):
    """The API refuses, or cannot be reached. `errors` are (where, text)."""

    def __init__(self, title: str, detail: str = "", errors: tuple[tuple[str, str], ...] = (), status: int = 0) -> None:
        super().__init__(title)
        self.title = title
        self.detail = detail
        self.errors = errors
        self.status = status

    @property
    def lines(self) -> list[str]:
        """What a person reads."""
        said = [f"{where}: {text}" if where else text for where, text in self.errors]
        if said:
            return [safe(line) for line in said]
        return [safe(self.detail or self.title)]


class Api:
    """Calls of one verb. All raise Problem."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, **query: object) -> Any:  # noqa: ANN401 - JSON
        """What is there; None values of `query` are left out."""
        return await self.send("GET", path, query=query)

    async def all(self, path: str, **query: object) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self.send("GET", path, query={**query, "limit": PAGE, "cursor": cursor})
            items += page["items"]
            cursor = page.get("next")
            if cursor is None:
                break
        return items

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        revision: object = None,
    ) -> Any:  # noqa: ANN401 - JSON
        """Send JSON, get JSON (None: nothing). `revision`: refuse if it was changed since."""
        parameters = {name: _plain(value) for name, value in (query or {}).items() if value is not None}
        headers = {} if revision is None else {"If-Match": f'"{revision}"'}
        try:
            answer = await self._client.request(method, PREFIX + path, params=parameters, json=body, headers=headers)
        except httpx.TimeoutException:
            raise Problem("the gateway did not answer in time") from None
        except httpx.HTTPError as error:
            host = self._client.base_url
            text = f"{host} cannot be reached: {str(error) or type(error).__name__}; is the gateway running there?"
            raise Problem(text) from None
        return _read(answer)

    async def lines(self, path: str, query: Mapping[str, object]) -> AsyncGenerator[str]:
        """The lines of an answer that goes on and on: an event stream."""
        parameters = {name: _plain(value) for name, value in query.items() if value is not None}
        patience = httpx.Timeout(SECONDS, read=None)
        try:
            async with self._client.stream("GET", PREFIX + path, params=parameters, timeout=patience) as answer:
                if not answer.is_success:
                    await answer.aread()
                    _read(answer)
                async for line in answer.aiter_lines():
                    yield line
        except httpx.HTTPError as error:
            text = f"{self._client.base_url} went away: {str(error) or type(error).__name__}"
            raise Problem(text) from None


def path_of(*parts: str) -> str:
    """A path below the API's prefix; each part is one segment, whatever it holds."""
    return "".join("/" + quote(part, safe="") for part in parts)


def call(where: Where, work: Callable[[Api], Awaitable[None]]) -> None:
    """Do the work of a verb; what goes wrong ends the program with a message and its exit code."""
    try:
        asyncio.run(_run(where, work))
    except Problem as problem:
        for line in problem.lines:
            print(line, file=sys.stderr)
        if problem.status == 401:
            print(f"Give an API key: --api-key @FILE, or the variable {KEY_VARIABLE}.", file=sys.stderr)
        raise typer.Exit(REFUSED) from None
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(USAGE) from None
    except MoongateError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(REFUSED) from None
    except (KeyError, TypeError):
        if where.server is None:
            raise
        print(
            "the answer is not what was expected; is that the admin address of a gateway, and as new?", file=sys.stderr
        )
        raise typer.Exit(REFUSED) from None


async def _run(where: Where, work: Callable[[Api], Awaitable[None]]) -> None:
    opened = _local(where) if where.server is None else _remote(where, where.server)
    async with opened as client:
        await work(Api(client))


@asynccontextmanager
async def _local(where: Where) -> AsyncIterator[httpx.AsyncClient]:
    if where.api_key is not None:
        usage("goes with --server; without it the store is opened as a local administrator", "--api-key")
    data_dir = where.data_dir or default_data_dir(os.environ)
    files = tuple(where.file or ()) or default_files()
    opened = local_app()
    _become_owner(data_dir)
    async with (
        opened(data_dir, os.environ, files) as (app, headers),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", headers=headers, timeout=SECONDS
        ) as client,
    ):
        yield client


def _become_owner(data_dir: Path) -> None:
    """What root writes, the gateway's own user could not read."""
    try:
        found = data_dir.stat()
    except OSError:
        return
    if os.geteuid() == 0 and found.st_uid != 0:
        os.setgroups([])
        os.setgid(found.st_gid)
        os.setuid(found.st_uid)


@asynccontextmanager
async def _remote(where: Where, server: str) -> AsyncIterator[httpx.AsyncClient]:
    parts = urlsplit(server if "://" in server else f"http://{server}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        usage("must be an address such as http://127.0.0.1:8001", "--server")
    if parts.username is not None or parts.password is not None:
        usage("must not hold a user or password; give an API key", "--server")
    if where.file:
        usage("goes without --server: a running gateway knows its files", "-f")
    key = _key(where.api_key)
    local = _is_loopback(parts.hostname)
    if key is not None and parts.scheme == "http" and not local:
        print("warning: the API key travels over http, where others can read it; use https", file=sys.stderr)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix(PREFIX)}"
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=SECONDS, trust_env=not local) as client:
        yield client


def _key(written: str | None) -> str | None:
    if written is None:
        return os.environ.get(KEY_VARIABLE) or None
    if not written.startswith("@"):
        return written
    try:
        return Path(written[1:]).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        usage(f"{written[1:]} cannot be read: {reason}", "--api-key")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _plain(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _read(answer: httpx.Response) -> Any:  # noqa: ANN401 - JSON
    """The JSON of an answer. Raises Problem."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()
    body: Any = None
    if answer.content and (kind == "application/json" or kind.endswith("+json")):
        try:
            body = json.loads(answer.content)
        except ValueError:
            raise Problem("the answer is not JSON", status=answer.status_code) from None
    if answer.is_success:
        if body is None and answer.content:
            raise Problem(f"the answer is {kind or 'of no type'}, not JSON; is that the admin address of a gateway?")
        return body
    said: dict[str, Any] = body if isinstance(body, dict) else {}
    found = said.get("errors")
    errors = [error for error in found if isinstance(error, dict)] if isinstance(found, list) else []
    title = str(said.get("title") or f"the gateway answered {answer.status_code}")
    pairs = tuple((str(error.get("where") or ""), str(error.get("text") or "")) for error in errors)
    raise Problem(title, str(said.get("detail") or ""), pairs, answer.status_code)
