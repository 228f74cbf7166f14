"""Moongate: one address in front of all MCP servers.

Five words open the code: a *snapshot* (`model`) is the whole compiled configuration, immutable; a *listener* and its
*routes* lead a request to a *target*; an *exchange* is one request's story from head to audit record. Bytes are framed
in `wire`, understood in `protocol`, judged in `policies`, carried by `upstreams`, and the whole story reads top to
bottom in `proxy/handle.py`. What users write is judged in `control`; `runtime.py` joins the two planes.

A second process keeps the `store`: `companion.py` starts and watches it, `platform_process.py` is what it runs,
`console` its API, `reporting.py` what the first one tells it. Records go from `audit`'s journal to its database.
"""
