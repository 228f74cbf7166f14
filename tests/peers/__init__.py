"""Real MCP clients talk to real MCP servers, once directly and once through the gateway.

- plan: what every pair says to each other, as data: a list of steps that each client script carries out
- client_sdk1, client_sdk2, client_ts.mjs: one script per client; reads a plan, prints what it observed as JSON
- observing, serving: what the two Python clients, and the two Python servers, share
- server_sdk1, server_sdk2, server_ts.mjs: the same small server on three SDKs, each over three transports
- announce.mjs: makes any npm server tell the port that it got
- programs: finds the interpreters and starts, awaits and ends the programs
- raw: a session spoken by hand, for what no SDK client does
- pairs: which client speaks with which server, and the observations of each pair, made once
- crossings: the same where the server speaks stdio or HTTP+SSE, and for every door that clients may come in by
"""
