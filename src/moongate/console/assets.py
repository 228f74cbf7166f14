"""`/assets`: the style, the scripts and the picture of the pages, from this port and from nowhere else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter
from fastapi.responses import Response

from moongate.console.problems import Refused

router = APIRouter(include_in_schema=False)
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# The address changes with the contents: what is at one address never does.
_FOREVER = {"cache-control": "public, max-age=31536000, immutable"}


class Asset(NamedTuple):
    """One file. `digest` is a part of its address."""

    body: bytes
    media: str
    digest: str


def _read(folder: Path) -> dict[str, Asset]:
    found = {}
    for file in sorted(folder.iterdir()):
        body = file.read_bytes()
        found[file.name] = Asset(body, _TYPES[file.suffix], hashlib.sha256(body).hexdigest()[:16])
    return found


ASSETS = _read(Path(__file__).with_name("static"))


def address(name: str) -> str:
    """Where a page finds it."""
    return f"/assets/{ASSETS[name].digest}/{name}"


@router.get("/assets/{digest}/{name}")
def get_asset(digest: str, name: str) -> Response:
    """One of them."""
    asset = ASSETS.get(name)
    if asset is None or asset.digest != digest:
        raise Refused(404, "there is no such file (any more); load the page again")
    return Response(asset.body, media_type=asset.media, headers=_FOREVER)
