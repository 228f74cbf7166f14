"""The request path. `handle` tells the whole story; `plan` is the snapshot made ready for it; `match` picks the route.

`call`: what one request takes along, and what its head alone decides. `forward`: what goes on to a backend and back to
a client, the one table of headers. `sessions`: sealed session ids. `answer`: a backend's reply on its way to the
client. `streams`: event streams on that way. `reply`: what the gateway says itself, the one table from failure class to
status, code and text.
"""
