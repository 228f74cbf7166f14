"""Raw bytes against a whole gateway: request smuggling, malformed requests, limits, backends that misbehave.

`talk`: a client that reads and writes bytes without any HTTP library. `refused`: the corpus, as tables. Each test says
what the client gets, whether the connection ends, and what the backend has seen of it.
"""
