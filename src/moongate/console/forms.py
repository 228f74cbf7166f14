"""What a page's form sends."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request

from moongate.console.problems import Refused

MEDIA = "application/x-www-form-urlencoded"
_MOST = 50


async def fields(request: Request) -> dict[str, str]:
    """By their names, with plain line ends. Raises Refused for what is no form."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != MEDIA:
        raise Refused(415, f"a form is sent as {MEDIA}")
    try:
        pairs = parse_qsl((await request.body()).decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST)
    except ValueError:
        raise Refused(400, f"a form has at most {_MOST} fields") from None
    return {name: value.replace("\r\n", "\n") for name, value in pairs}
