"""The one error for a database that cannot be reached or used now."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg  # type: ignore[import-untyped]  # the driver has no types
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from moongate.errors import MoongateError


class StoreAway(MoongateError):
    """The database does not answer, is full, locked or gone. Nothing of the transaction was kept; it may be tried
    again: connections are made anew by themselves.
    """


@contextmanager
def as_away() -> Iterator[None]:
    """Failures of the database, and of the way to it, as StoreAway. Violated constraints, wrong values and wrong SQL
    pass.
    """
    try:
        yield
    except (DataError, IntegrityError, ProgrammingError, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
        raise
    except DBAPIError as error:
        raise StoreAway(f"the store cannot be used now: {_reason(error.orig)}") from None
    except (sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError) as error:  # of the driver itself
        raise StoreAway(f"the store cannot be used now: {_reason(error)}") from None
    except PoolTimeout:
        raise StoreAway("the store cannot be used now: all connections to it are busy") from None
    except (TimeoutError, OSError) as error:
        raise StoreAway(f"the store cannot be reached: {_reason(error)}") from None


def _reason(error: BaseException | None) -> str:
    """The driver's own words; they name hosts, never passwords. Statements and their values are left out."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    first = str(error or "").strip().partition("\n")[0]
    if first.startswith("<class "):  # the driver's class, as the adapter writes it
        first = first.partition(">: ")[2]
    return first or type(error).__name__
