"""How to reach a server: one transport per file behind one narrow interface (`base`).

`http`: streamable HTTP over a keep-alive pool. `proxies`: which HTTP proxy the environment wants for a target.
"""
