"""How the database came to be: Alembic revisions, run by `store.engine` whenever a store is opened.

`env` is what Alembic calls; `versions` holds one file for each step, in one history.
"""
