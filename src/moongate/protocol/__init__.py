"""What Moongate knows of MCP: no I/O, no asyncio; bytes in, decisions out.

`jsonrpc`: the envelope of a message, judged without touching what it carries. `methods`: the table of methods.
`revisions`: which revision speaks, and what its headers must say. `sealed`: session ids that carry their own state.
`asks`: what a message asks for, in the words of access rules; `uris`: the forms of what it names. `listing`: lists
without some items. `forms`: what is decoded of messages. `mirrors`: headers that repeat a body. `splice`: single values
of a message exchanged, by cutting raw JSON.
"""
