"""What Moongate costs, measured against nginx and against no proxy at all, in one run: `python -m bench`.

`plan`        what is measured, for how long, and the budgets
`payloads`    the requests and answers, byte for byte
`processes`   start, pin to a core, watch and end what the benchmark starts
`nginx`       the fixed-answer server behind everything, and nginx as the plain reverse proxy
`event_stub`  the server behind everything where answers are event streams that stay open
`stdio_stub`  the server behind everything that speaks stdio
`hosted`      children over stdio: Moongate beside mcp-proxy and supergateway
`relay`       what events cost over streamable HTTP and over HTTP+SSE
`gateway`     Moongate with its configuration for each question
`lanes`       a way to the server under load: direct, through nginx, through Moongate
`load`        wrk: one run, and rounds of runs that take turns
`footprint`   start time and memory
`streams`     time to first event, and what an open stream costs
`outcome`     everything that one run found, and whether the budgets hold
`machine`     on what it was measured, and how busy that was with other things
`report`      the tables, on the terminal and as Markdown
"""
