"""What the queries and headers of several routes have in common."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from moongate.console.problems import Refused

MAX_LIMIT = 1000
_ETAG = re.compile(r'(?:W/)?"(\d{1,15})"|(\d{1,15})')

Named = Annotated[str, Path(max_length=256)]
Wanted = Annotated[str | None, Field(None, max_length=512)]


class PageQuery(BaseModel):
    """A page of a list."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, hide_input_in_errors=True)

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="How many at most.")] = 100
    cursor: Annotated[str | None, Field(max_length=2000, description="`next` of the page before.")] = None


def _expected(
    if_match: Annotated[
        str | None, Header(description="The revision that was seen last; 412 if there is a newer one.")
    ] = None,
) -> int | None:
    if if_match is None or if_match == "*":
        return None
    match = _ETAG.fullmatch(if_match.strip())
    if match is None:
        raise Refused(400, 'If-Match must be a revision in quotes, such as "7"')
    return int(match[1] or match[2])


Expected = Annotated[int | None, Depends(_expected)]


def tagged(response: Response, revision: int | None) -> None:
    """Say the revision in the answer, as `If-Match` takes it."""
    if revision is not None:
        response.headers["etag"] = f'"{revision}"'
