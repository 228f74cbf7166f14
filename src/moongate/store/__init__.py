"""The database behind the platform process: SQLite in one file, or PostgreSQL by URL.

- `engine`: `open_store` finds, makes and migrates the database; a `Store` reads and writes in transactions.
- `addresses`: what an operator writes as `store.url`.
- `tables`: what is in it; secrets only sealed or hashed.
- `migrations`: how it came to be, step by step; one history for everything in it.
- `changes`: a change made by one process is noticed by the others within a second.
- `failing`: the one error for a database that cannot be reached now.
"""
