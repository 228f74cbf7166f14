"""How to reach a server: one transport per file behind one narrow interface (`base`).

`http`: streamable HTTP over a keep-alive pool. `proxies`: which HTTP proxy the environment wants for a target. `ways`
picks and keeps the upstreams of all routes; `auto` finds out whether a server speaks streamable HTTP or HTTP+SSE.

Servers that only exchange messages are channels: `stdio` (a hosted process) and `sse` (an HTTP+SSE connection).
`bridge` makes an upstream of them: `keeping` opens and ends conversations and sessions, `conversation` sorts who is
answered and told what, `streams` holds it for clients, `replies` shows it to requests. `processes` starts hosted
servers through `watcher`, a process of its own that ends them all when the gateway is gone.
"""
