"""Hostile bytes for minutes: `python -m fuzz --seconds N` (or `make fuzz`).

`mutate`: how inputs are made from the corpora. `pure`: targets without I/O, each with what must hold for every input.
`live`: mutated requests against a whole gateway in this process, in front of a backend that checks what reaches it. The
same seed gives the same inputs; a failure is printed as a test that reproduces it.
"""
