"""Which store this is: a number that no other one has, so that another one is not taken for it."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What fits into the column, and is never 0.
_BITS = 62


def upgrade() -> None:
    """Chooses the number; a copy of the database keeps it."""
    counters = sa.table("counters", sa.column("name", sa.String), sa.column("value", sa.BigInteger))
    op.bulk_insert(counters, [{"name": "identity", "value": secrets.randbits(_BITS) + 1}])
