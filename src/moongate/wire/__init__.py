"""HTTP/1.1 and event streams as bytes; knows nothing of MCP.

`messages`: request and response heads, parsed by llhttp and judged strictly. `bodies`: body framing (sized, chunked,
until close) without I/O, `codings`: compression undone. `server`: one client connection; `receiving` and `answering`
are its two halves. `client`: one upstream connection and the pool per origin; `alike`: its response heads recognised.
`events`: event streams, incremental and pure. `deadlines`: one clock for all limits in time. `tls`: contexts and
reload.
"""
