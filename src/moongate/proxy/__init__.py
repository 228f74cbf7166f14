"""The request path. `handle` tells the whole story; `plan` is the snapshot made ready for it; `match` picks the route.

`admit`: what a request's head alone decides. `access`: what access rules say of messages and lists. `limits`: its
time, and calls that are too many. `call`: what one request takes along. `forward`: what goes on to a backend and back
to a client, the one table of headers. `sessions`: sealed session ids. `answer`: a backend's reply on its way to the
client. `streams`: event streams on that way; `open_streams` ends those whose instance or token is gone. `reply`: what
the gateway says itself, the one table from failure class to status, code and text; `ends`: how a request ends with it.

Clients that only exchange messages: `messenger` is their client of streamable HTTP, made of `carrier` (the HTTP of one
message), `flights` (its state), `turns` (who may be sent when) and `inbound` (answers become messages). Two doors
stand on it. `sse`: HTTP+SSE, with `sse_session` (one client) and `sse_pass` (straight through, where the server speaks
it too). `stdio_door`: standard input and output, with `pipes`.
"""
